//! How a master file stands, as its job has found it and the fleet view shows it.

use host::files::FileError;
use shared::report::TargetState;

use crate::daemon::apply;

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

    pub(super) fn file(error: &FileError) -> Self {
        Self::trouble(format!("cannot be followed: {}", apply::chain(error)), error.hint(), true)
    }

    pub(super) fn interrupted() -> Self {
        Self::Waiting("the agent is stopping".to_owned())
    }

    /// Returns the state as the fleet view has it, and what there is to say about it.
    pub(super) fn standing(&self) -> (TargetState, &str) {
        match self {
            Self::New => (TargetState::Starting, ""),
            Self::Right { .. } => (TargetState::Ok, ""),
            Self::Deleted => (TargetState::Kept, "its secret is deleted"),
            Self::Waiting(why) => (TargetState::Waiting, why),
            Self::Trouble { text, .. } => (TargetState::Failed, text),
        }
    }
}
