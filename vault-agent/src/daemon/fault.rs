//! Why a task on a target failed, for the fleet view and for people.

use shared::report::TargetState;

/// Why a task failed; the file is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetFault {
    /// For the fleet view.
    pub(super) state: TargetState,
    /// What the matter is, for people: short, without any secret.
    pub(super) text: String,
    /// The way out.
    pub(super) hint: String,
    /// Whether trying again may help although nothing has changed in the vault.
    pub(super) passing: bool,
}

impl TargetFault {
    /// A fault that may pass.
    pub(super) fn new(
        state: TargetState,
        text: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { state, text: text.into(), hint: hint.into(), passing: true }
    }

    /// A task that has ended without a result.
    pub(super) fn crashed() -> Self {
        let hint = "the agent's log says where: please report it; it is tried again";
        Self::new(TargetState::Failed, "a fault in the agent itself", hint)
    }

    /// The same, to stay until something changes in the vault or the file.
    pub(super) fn lasting(self) -> Self {
        Self { passing: false, ..self }
    }
}

/// Returns an error with its sources on one line.
pub(super) fn in_one_line(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
