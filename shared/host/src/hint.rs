//! Failures for people: what went wrong, the way out, and what the program ends with. Printing
//! them is the terminal's.
//!
//! The exit codes are HashiCorp's: 0 success, 1 the call was wrong or something here failed, 2 the
//! other side refused, has no such thing, or is in a state that a script should stop at.

use std::error::Error as StdError;
use std::fmt::Display;
use std::process::ExitCode;

use crate::config_fault::ConfigFault;
use crate::files::FileError;

/// What a command ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// All is well.
    pub const OK: Self = Self(0);
    /// Wrong flags or arguments, a missing field, a local file.
    pub const LOCAL: Self = Self(1);
    /// The API refused, could not be reached, or has no such thing.
    pub const REMOTE: Self = Self(2);
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// A failure that knows its way out and its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What went wrong; may have several lines where HashiCorp's has.
    pub text: String,
    /// The way out, if there is one to name.
    pub hint: Option<String>,
    /// What to end with.
    pub exit: Exit,
}

impl Failure {
    /// Makes a failure of this side.
    pub fn local(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None, exit: Exit::LOCAL }
    }

    /// Makes a failure of the other side.
    pub fn remote(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None, exit: Exit::REMOTE }
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Puts the way out on a line of its own below what went wrong, as people see both.
pub fn with_hint(text: impl Display, hint: impl Display) -> String {
    format!("{text}\nhint: {hint}")
}

/// Makes an error of this side that names its way out, neither with a full stop.
pub fn hinted(text: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Failure::local(text).hint(hint).into()
}

/// Turns a malformed argument into a failure with its hint.
pub fn parsed<T>(result: shared::error::Result<T>) -> Result<T, Failure> {
    result.map_err(|fault| Failure::local(fault.to_string()).hint(fault.code.hint()))
}

/// Returns what a command ends with that failed.
pub fn exit(error: &anyhow::Error) -> Exit {
    if let Some(failure) = find::<Failure>(error) {
        failure.exit
    } else if find::<shared::error::Error>(error).is_some() {
        Exit::REMOTE
    } else {
        Exit::LOCAL
    }
}

/// Returns the way out of a failure, if its cause knows one.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(failure) = find::<Failure>(error) {
        failure.hint.clone()
    } else if let Some(fault) = find::<FileError>(error) {
        Some(fault.hint())
    } else if let Some(fault) = find::<ConfigFault>(error) {
        Some(fault.hint.clone())
    } else {
        let refused = find::<shared::error::Error>(error)?;
        Some(refused.code.hint().to_owned())
    }
}

/// Looks for a cause of one type, below any context.
fn find<T: StdError + Send + Sync + 'static>(error: &anyhow::Error) -> Option<&T> {
    error.downcast_ref().or_else(|| error.chain().find_map(|cause| cause.downcast_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_refused_says_the_way_out_below_any_context() {
        let fault = FileError::Everybodys("/srv/open".into());
        let error = anyhow::Error::from(fault).context("keeping the vault's files");
        assert_eq!(hint(&error).unwrap(), "run `chmod o-w /srv/open` (or `chmod +t /srv/open`)");
        assert_eq!(exit(&error), Exit::LOCAL);
    }
}
