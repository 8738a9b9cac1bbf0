//! Whether what memory says already is on disk too: for those who do something on its strength.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The commit of the newest records that were applied; clones tell of the same one.
#[derive(Clone, Debug, Default)]
pub struct Commit(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether it has succeeded; `None` while it is under way.
    ended: Mutex<Option<bool>>,
    bell: Condvar,
}

impl Commit {
    /// Returns a commit that has ended.
    pub(crate) fn ended(kept: bool) -> Self {
        let commit = Self::default();
        commit.end(kept);
        commit
    }

    /// Tells everybody who waits how it has ended.
    pub(super) fn end(&self, kept: bool) {
        *self.lock() = Some(kept);
        self.0.bell.notify_all();
    }

    /// Waits on this thread until it has ended; tells whether everything that was applied before is on disk. If not,
    /// memory has gone back.
    #[must_use]
    pub fn wait(&self) -> bool {
        let ended = self.0.bell.wait_while(self.lock(), |ended| ended.is_none());
        ended.unwrap_or_else(PoisonError::into_inner).unwrap_or(false)
    }

    fn lock(&self) -> MutexGuard<'_, Option<bool>> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_hears_how_it_ended() {
        for kept in [true, false] {
            let commit = Commit::default();
            let waiting = commit.clone();
            let waiting = std::thread::spawn(move || waiting.wait());
            commit.end(kept);
            assert_eq!(waiting.join().unwrap(), kept);
            assert_eq!(commit.wait(), kept);
        }
        assert!(Commit::ended(true).wait());
    }
}
