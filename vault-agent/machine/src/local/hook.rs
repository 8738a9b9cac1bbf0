//! Running a hook by hand.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `POST` a [`HookRequest`]: [`HookRun`], once the hook has ended.
pub const HOOK: &str = "agent/hook";

/// Asks the agent to run the hook of a target once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookRequest {
    /// The target's file, as the configuration names it.
    pub target: PathBuf,
}

/// What came of a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// What it failed with; `None` if it has ended well.
    #[serde(default)]
    pub failure: Option<String>,
}
