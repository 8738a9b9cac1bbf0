//! Which files a thread is at, and since when: so one whose disk does not answer is known.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a disk may take for one file before others no longer wait for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Files that a thread is at, each since when.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashMap<PathBuf, Instant>>>);

/// A thread that is at a file, until this is dropped.
pub(super) struct At {
    all: UnderWay,
    path: PathBuf,
}

impl UnderWay {
    /// Notes that a thread is about to look at the file at `path`.
    pub(super) fn begin(&self, path: &Path) -> At {
        self.lock().insert(path.to_owned(), Instant::now());
        At { all: self.clone(), path: path.to_owned() }
    }

    /// Returns the files whose disk has not answered for too long.
    pub(super) fn hung(&self, now: Instant) -> Vec<PathBuf> {
        let all = self.lock();
        all.iter()
            .filter(|(_, since)| **since + PATIENCE <= now)
            .map(|(it, _)| it.clone())
            .collect()
    }

    /// Returns when the next file is one of those, unless its disk answers.
    pub(super) fn next_hung(&self, now: Instant) -> Option<Instant> {
        self.lock().values().map(|since| *since + PATIENCE).filter(|due| *due > now).min()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for At {
    fn drop(&mut self) {
        self.all.lock().remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_counts_as_hung_after_a_while_and_until_it_answers() {
        let all = UnderWay::default();
        let at = all.begin(Path::new("/mnt/.env"));
        let due = all.next_hung(Instant::now()).unwrap();
        assert!(all.hung(Instant::now()).is_empty());
        assert_eq!((all.hung(due), all.next_hung(due)), (vec!["/mnt/.env".into()], None));
        drop(at);
        assert!(all.hung(due).is_empty());
    }
}
