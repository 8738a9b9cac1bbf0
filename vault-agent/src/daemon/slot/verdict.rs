//! Which versions of a target its hook has found good, and which it has failed for. Pure; what is
//! done about it is decided in `plan`.

use super::settings::settings;
use crate::daemon::plan::Versions;
use crate::daemon::record::{Bad, HookEnd, Remembered};
use machine::config::Target;

/// What the hook has said.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The versions for which it last ended well.
    pub(super) good: Option<Versions>,
    /// Whether that is not on disk yet.
    pub(super) good_is_new: bool,
    /// The newest versions for which it has failed for good, once that is on disk: they are not
    /// written any more.
    pub(super) bad: Option<Bad>,
    /// Versions for which it has just failed: what is not on disk is not acted upon.
    pub(super) unsaved: Option<Bad>,
}

impl Verdict {
    /// Takes up what an earlier process knew; other settings give bad versions another chance.
    pub(super) fn new(target: &Target, remembered: Option<&Remembered>) -> Self {
        let Some(remembered) = remembered.filter(|_| target.rollback_on_failure) else {
            return Self::default();
        };
        // Older records do not name it for a file that has been gone back to.
        let is_good = remembered.hook == HookEnd::Ok || remembered.bad.is_some();
        let good = remembered.good.clone().or_else(|| is_good.then(|| remembered.versions()));
        let bad = remembered.bad.clone().filter(|bad| bad.settings == settings(target));
        Self { good, bad, ..Self::default() }
    }

    /// Takes the news that the hook has ended well for what the file holds.
    pub(super) fn is_good(&mut self, written: Option<&Versions>) {
        self.unsaved = None;
        // What is removed is nothing to go back to.
        if written.is_some_and(|written| written.iter().all(Option::is_none)) {
            return;
        }
        if self.good.as_ref() != written {
            self.good = written.cloned();
            self.good_is_new = true;
            self.bad = None;
        }
    }

    /// Takes the news that the hook has failed for good for what the file holds, if the target may
    /// go back from it.
    pub(super) fn is_bad(&mut self, target: &Target, written: Option<&Versions>, why: &str) {
        let (Some(written), Some(good)) = (written, &self.good) else { return };
        // What is deleted stays deleted, and an empty file is nothing to go back to.
        let can = good.iter().any(Option::is_some)
            && written.iter().zip(good).all(|(now, before)| now.is_some() || before.is_none());
        if target.rollback_on_failure && good != written && can {
            let (versions, settings) = (written.clone(), settings(target));
            self.unsaved = Some(Bad { versions, why: why.to_owned(), settings });
        }
    }

    /// Tells whether `versions` are there in place of bad ones.
    pub(super) fn has_gone_back_to(&self, versions: &Versions) -> bool {
        self.bad.is_some() && self.good.as_ref() == Some(versions)
    }
}
