//! What a machine tells of a target file that has got another version of a secret. The record
//! beside it names the secret, the version (none if the file is gone), and when that was.

use std::ops::Not;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text::Text;
use crate::time::Time;

/// Longest run of a hook that a clock can be believed to have measured, in microseconds.
const LONGEST: u64 = 30 * 24 * 3_600_000_000;

/// A target file and what its hook made of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Applied {
    /// The target's path, as its host names it and as its reports do.
    pub file: Text<1024>,
    /// Whether the file held the version already when it was looked at.
    #[serde(skip_serializing_if = "Not::not", default)]
    pub found: bool,
    /// The run of its hook that was told of the version, if that has ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hook: Option<HookRun>,
}

/// One run of a target's hook, by the clock of its machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HookRun {
    /// When it was started.
    pub began: Time,
    /// When it had ended.
    pub ended: Time,
    /// What it failed with; none if it ended well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<Text<256>>,
}

impl HookRun {
    /// Returns how long it took, as far as the two times can be meant so.
    pub fn took(&self) -> Option<Duration> {
        let took = self.ended.as_micros().checked_sub(self.began.as_micros())?;
        (took <= LONGEST).then(|| Duration::from_micros(took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_hook_took_is_told_only_if_it_can_be_meant_so() {
        for (began, ended, expected) in [
            (5, 800_005, Some(800_000)),
            (5, 5, Some(0)),
            (6, 5, None),
            (0, u64::MAX, None),
            (u64::MAX, 0, None),
        ] {
            let [began, ended] = [began, ended].map(Time::from_micros);
            let run = HookRun { began, ended, failed: None };
            assert_eq!(run.took(), expected.map(Duration::from_micros), "{run:?}");
        }
    }
}
