//! One secret in one target of one machine, and when somebody should look at it.

use serde::{Deserialize, Serialize};
use shared::name::Name;
use shared::path::SecretPath;
use shared::report::{HookResult, TargetState};
use shared::time::Time;

/// What one machine's report says about one secret of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRow {
    /// The machine.
    pub machine: Name,
    /// The file, as the machine names it.
    pub target: String,
    /// The secret.
    pub secret: SecretPath,
    /// Newest version in the log.
    pub wanted: u64,
    /// Whether that was written some seconds ago: nobody is late for it yet.
    #[serde(default)]
    pub fresh: bool,
    /// Version in the file, 0 for none.
    pub applied: u64,
    /// What became of the hook's last run.
    pub hook: HookResult,
    /// When the machine's report came in, as the server says.
    pub seen_at: Option<Time>,
    /// Whether the machine follows the log now, as the server says.
    pub awake: bool,
    /// Whether the machine has signed other targets since, which the server has not handed out.
    #[serde(default)]
    pub outdated: bool,
    /// How the file stands.
    pub state: TargetState,
    /// Since when it is not as it should be; `None` while it is.
    #[serde(default)]
    pub since: Option<Time>,
    /// What is the matter with file or hook; nothing if all is well.
    #[serde(default)]
    pub detail: String,
}

impl TargetRow {
    /// Tells whether the file holds another version than the newest, and has had the time for it.
    pub const fn lags(&self) -> bool {
        self.applied != self.wanted && !self.fresh
    }

    /// Tells whether somebody should look at it: its hook has failed, or the file is not what it
    /// should be, and does not become so by itself.
    pub const fn fails(&self) -> bool {
        self.hook.is_trouble() || self.state.is_trouble()
    }

    /// Tells whether the file is as its machine wants it.
    pub fn is_right(&self) -> bool {
        self.state == TargetState::Ok
    }

    /// Returns what people should know of it, in one line; nothing if all is well.
    pub fn remark(&self) -> Option<String> {
        let hook = !matches!(self.hook, HookResult::None | HookResult::Ok);
        let file = !self.is_right() || (!hook && !self.detail.is_empty());
        let words = match (file, hook) {
            (false, false) => return None,
            (true, false) => self.state.to_string(),
            (false, true) => format!("hook {}", self.hook),
            (true, true) => format!("{}, hook {}", self.state, self.hook),
        };
        Some(if self.detail.is_empty() { words } else { format!("{words}: {}", self.detail) })
    }
}
