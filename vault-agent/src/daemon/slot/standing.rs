//! What follows from a hook's verdict for a slot: what is shown, what is kept, how often the hook
//! is tried again.

use shared::path::SecretPath;
use shared::report::HookResult;

use super::Slot;
use super::verdict::Verdict;
use crate::daemon::plan::Versions;
use crate::daemon::record::{Bad, HookEnd};

/// What the hook has said of a target, and what follows.
impl Slot {
    /// Tells whether there is news that is to be written down at once.
    pub(in crate::daemon) fn is_deciding(&self) -> bool {
        self.unsaved().is_some() || self.unsaved_good().is_some() || self.gone_back().is_some()
    }

    /// Returns the versions that the file has been taken back from.
    pub(super) fn gone_back(&self) -> Option<&Bad> {
        let written = self.written.as_ref()?;
        self.verdict.bad.as_ref().filter(|_| self.verdict.has_gone_back_to(written))
    }

    /// Returns what became of the hook, and what it failed with, as the fleet view has it.
    pub(in crate::daemon) fn hook_result(&self) -> (HookResult, String) {
        match (self.gone_back(), &self.hook) {
            (None, HookEnd::None) => (HookResult::None, String::new()),
            (None, HookEnd::Pending) => (HookResult::Pending, String::new()),
            (None, HookEnd::Ok) => (HookResult::Ok, String::new()),
            (None, HookEnd::Failed(why)) => (HookResult::Failed, why.clone()),
            (Some(bad), HookEnd::Pending) => (HookResult::RollingBack, bad.why.clone()),
            (Some(bad), HookEnd::None | HookEnd::Ok) => (HookResult::RolledBack, bad.why.clone()),
            (Some(bad), HookEnd::Failed(why)) => {
                (HookResult::RolledBack, format!("{}, then {why}", bad.why))
            }
        }
    }

    /// Returns what became of the hook in one line.
    pub(in crate::daemon) fn show_hook(&self) -> String {
        match self.hook_result() {
            (result, why) if why.is_empty() => result.to_string(),
            (HookResult::Failed, why) => why,
            (result, why) => format!("{result}: {why}"),
        }
    }

    /// Returns how often the hook is to be tried again: with an older version than the newest,
    /// never.
    pub(in crate::daemon) fn retries(&self) -> u32 {
        match self.gone_back() {
            Some(_) => 0,
            None => self.key.as_ref().map_or(0, |key| key.retries()),
        }
    }

    /// Returns versions that are to be gone back from, once that is on disk.
    pub(in crate::daemon) fn unsaved(&self) -> Option<&Bad> {
        self.verdict.unsaved.as_ref()
    }

    /// Returns versions that the hook has just found good, until that is on disk: nothing newer is
    /// to be written before, or a kill would leave nothing to go back to.
    pub(in crate::daemon) fn unsaved_good(&self) -> Option<&Versions> {
        let Verdict { good, good_is_new, .. } = &self.verdict;
        good.as_ref().filter(|_| *good_is_new && self.target.rollback_on_failure)
    }

    /// Takes the news that it is on disk that `good` is good.
    pub(in crate::daemon) fn saved_good(&mut self, good: &Versions) {
        self.verdict.good_is_new &= self.verdict.good.as_ref() != Some(good);
    }

    /// Takes the news that `bad` is on disk; tells whether to plan again.
    pub(in crate::daemon) fn saved(&mut self, bad: &Bad) -> bool {
        let due = self.verdict.unsaved.as_ref() == Some(bad);
        if due {
            self.verdict.bad = self.verdict.unsaved.take();
        }
        due
    }

    /// Returns the versions whose ciphertext is to be kept, as the file may go back to them.
    pub(in crate::daemon) fn retained(&self) -> impl Iterator<Item = (SecretPath, u64)> + '_ {
        let good = self.verdict.good.iter().filter(|_| self.target.rollback_on_failure).flatten();
        let named = self.target.secrets.iter().zip(good);
        named.filter_map(|(path, ver)| Some((path.clone(), (*ver)?)))
    }
}
