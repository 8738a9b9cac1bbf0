//! Whether what memory says already is on disk too: for those who do something on its strength.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The commit of the newest records, for everybody who asks.
pub(super) struct Commits(Mutex<Commit>);

impl Commits {
    /// Starts with everything on disk.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Commit::ended(true)))
    }

    /// Returns the newest.
    pub(super) fn newest(&self) -> Commit {
        self.lock().clone()
    }

    /// Begins the next one: whoever sees what it commits finds this commit, not an older one.
    pub(super) fn begin(&self) -> Begun {
        let commit = Commit::default();
        let earlier = std::mem::replace(&mut *self.lock(), commit.clone());
        Begun { commit, earlier }
    }

    /// Tells everybody how a commit has ended; of one that failed, memory has gone back already.
    pub(super) fn end(&self, Begun { commit, earlier }: Begun, kept: bool) {
        if !kept {
            *self.lock() = earlier;
        }
        commit.end(kept);
    }

    fn lock(&self) -> MutexGuard<'_, Commit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit that is under way, and the one before it.
pub(super) struct Begun {
    commit: Commit,
    earlier: Commit,
}

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
    fn end(&self, kept: bool) {
        *self.lock() = Some(kept);
        self.0.bell.notify_all();
    }

    /// Waits on this thread until it has ended; tells whether everything that was applied before is
    /// on disk. If not, memory has gone back.
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
