//! How a master file stands, as its job has found it.

use host::files::FileError;

use crate::daemon::fault::in_one_line;

/// How a master file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum State {
    /// Not looked at since the start.
    New,
    /// File and vault hold the same.
    Right {
        /// The version.
        ver: u64,
    },
    /// The secret is deleted; the file stays.
    Deleted,
    /// The server is needed first; what is in the file is safe there.
    Waiting(String),
    /// Something is wrong, with file or secret.
    Trouble {
        /// What, in words that follow the file's name.
        text: String,
        /// The way out.
        hint: String,
        /// Whether trying again may help although neither has changed.
        passing: bool,
    },
}

impl State {
    pub(super) fn trouble(text: impl Into<String>, hint: impl Into<String>, passing: bool) -> Self {
        Self::Trouble { text: text.into(), hint: hint.into(), passing }
    }
}

impl From<FileError> for State {
    fn from(error: FileError) -> Self {
        let hint = error.hint();
        Self::trouble(format!("cannot be followed: {}", in_one_line(error)), hint, true)
    }
}
