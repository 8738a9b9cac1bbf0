//! Exit codes, and the one map from errors to them. Printing errors lives in `output`.
//!
//! The codes are HashiCorp's: 0 success, 1 the call was wrong or something here failed, 2 the other side refused, has
//! no such thing, or is in a state that a script should stop at.

use std::process::ExitCode;

use crate::cli::client;
use crate::config::ConfigError;
use crate::files::FileError;

/// What a command ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// All is well.
    pub const OK: Self = Self(0);
    /// Wrong flags or arguments, a missing field, a local file.
    pub const LOCAL: Self = Self(1);
    /// The API refused, could not be reached, or has no such thing.
    pub const REMOTE: Self = Self(2);

    /// Passes on the code of another program.
    #[must_use]
    pub const fn code(code: u8) -> Self {
        Self(code)
    }

    /// Returns the code as the shell sees it.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// A failure whose text and exit code the command itself knows.
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

/// Tells what a command ends with that failed.
#[must_use]
pub fn of(error: &anyhow::Error) -> Exit {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        failure.exit
    } else if let Some(error) = error.downcast_ref::<client::Error>() {
        match error {
            client::Error::Setup(_) => Exit::LOCAL,
            client::Error::Shown(_) => Exit::OK,
            client::Error::Absent { .. }
            | client::Error::Barred { .. }
            | client::Error::Refused(_)
            | client::Error::Transport { .. }
            | client::Error::TooMuch { .. }
            | client::Error::Answer { .. } => Exit::REMOTE,
        }
    } else if error.downcast_ref::<shared::error::Error>().is_some() {
        Exit::REMOTE
    } else {
        Exit::LOCAL
    }
}

/// Returns the way out of a failure, if its cause knows one.
#[must_use]
pub fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        failure.hint.clone()
    } else if let Some(error) = error.downcast_ref::<client::Error>() {
        error.hint()
    } else if let Some(fault) = error.downcast_ref::<FileError>() {
        Some(fault.hint())
    } else if let Some(fault) = error.downcast_ref::<ConfigError>() {
        Some(fault.hint())
    } else {
        let refused = error.downcast_ref::<shared::error::Error>()?;
        Some(refused.code.hint().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_refused_says_the_way_out_below_any_context() {
        let fault = FileError::Everybodys("/srv/open".into());
        let error = anyhow::Error::from(fault).context("keeping the vault's files");
        assert_eq!(hint(&error).unwrap(), "run `chmod o-w /srv/open` (or `chmod +t /srv/open`)");
        assert_eq!(of(&error), Exit::LOCAL);
    }
}
