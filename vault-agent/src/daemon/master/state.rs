//! How a master file stands, as its job has found it.

use host::files::FileError;
use host::hint::hinted;
use machine::config::Source;

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
    /// The save looks like the rest of a file: it is published when its owner says so.
    Held {
        /// What it has lost, in words that follow the file's name.
        text: String,
        /// The way out.
        hint: String,
    },
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

impl State {
    /// Returns what keeps the file of `source` from being published, for who asks by a command.
    pub(super) fn into_error(self, source: &Source) -> anyhow::Error {
        let path = source.path.display();
        match self {
            Self::Held { text, hint } | Self::Trouble { text, hint, .. } => {
                hinted(format!("`{path}` {text}"), hint)
            }
            Self::Waiting(why) => anyhow::anyhow!("`{path}`: {why}"),
            Self::New | Self::Right { .. } | Self::Deleted => {
                anyhow::anyhow!("`{path}` is in step with `{}`", source.secret)
            }
        }
    }
}

impl From<FileError> for State {
    fn from(error: FileError) -> Self {
        let hint = error.hint();
        Self::trouble(format!("cannot be followed: {}", in_one_line(error)), hint, true)
    }
}
