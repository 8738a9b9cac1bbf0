//! Failures for people: what went wrong, the way out, and what the program ends with. Printing
//! them is the terminal's.
//!
//! The exit codes are HashiCorp's: 0 success, 1 the call was wrong or something here failed, 2 the
//! other side refused, has no such thing, or is in a state that a script should stop at.

use std::error::Error as StdError;
use std::process::ExitCode;

use crate::config_fault::ConfigFault;
use crate::files::FileError;
use crate::shown::Shown;

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
    pub text: Shown,
    /// The way out, if there is one to name.
    pub hint: Option<String>,
    /// What to end with.
    pub exit: Exit,
}

impl Failure {
    /// Makes a failure of this side.
    pub fn local(text: impl Into<Shown>) -> Self {
        Self { text: text.into(), hint: None, exit: Exit::LOCAL }
    }

    /// Makes a failure of the other side.
    pub fn remote(text: impl Into<Shown>) -> Self {
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
pub fn with_hint(text: impl Into<Shown>, hint: impl Into<Shown>) -> Shown {
    text.into() + Shown::own("\nhint: ") + hint.into()
}

/// Shows a failure: what went wrong in which step of what, on one line where nobody has set more.
pub fn shown(error: &anyhow::Error) -> Shown {
    shown_by(error, |_| None)
}

/// As [`shown`]; `known` shows the causes whose lines a program has set itself.
pub fn shown_by(
    error: &anyhow::Error,
    known: impl Fn(&(dyn StdError + 'static)) -> Option<Shown>,
) -> Shown {
    let mut shown = Shown::default();
    for (n, cause) in error.chain().enumerate() {
        if n > 0 {
            shown.push(": ");
        }
        let failure = || cause.downcast_ref::<Failure>().map(|failure| failure.text.clone());
        shown.push(known(cause).or_else(failure).unwrap_or_else(|| Shown::line(cause)));
    }
    shown
}

/// Makes an error of this side that names its way out, neither with a full stop.
pub fn hinted(text: impl Into<Shown>, hint: impl Into<String>) -> anyhow::Error {
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
    fn a_failure_is_one_line_where_nobody_has_set_more() {
        let hostile = "a\nhint: rm\u{1b}[2K";
        let io = || std::io::Error::other(hostile);
        for (error, expected) in [
            (anyhow::anyhow!("{hostile}"), "a\\nhint: rm\\u001b[2K"),
            (anyhow::Error::from(io()).context("b"), "b: a\\nhint: rm\\u001b[2K"),
            (Failure::local(hostile).into(), "a\\nhint: rm\\u001b[2K"),
            (Failure::local(Shown::lines(["a", "b"])).into(), "a\nb"),
            (anyhow::Error::from(Failure::local(Shown::lines(["a", "b"]))).context("c"), "c: a\nb"),
        ] {
            assert_eq!(shown(&error), expected);
        }
        assert_eq!(with_hint("a\nb", "c\rd"), "a\\nb\nhint: c\\rd");
    }

    #[test]
    fn a_file_that_is_refused_says_the_way_out_below_any_context() {
        let fault = FileError::Everybodys("/srv/open".into());
        let error = anyhow::Error::from(fault).context("keeping the vault's files");
        assert_eq!(hint(&error).unwrap(), "run `chmod o-w /srv/open` (or `chmod +t /srv/open`)");
        assert_eq!(exit(&error), Exit::LOCAL);
    }
}
