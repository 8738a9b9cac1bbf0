//! Files whose disk does not answer, as that of a server which is away: they hold up the targets on
//! their own file system, and no others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::files::binds::Points;
use machine::config::Target;
use tokio::time::Instant;

use super::{Daemon, MOST_JOBS};

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
    fn hung(&self, now: Instant) -> Vec<PathBuf> {
        let all = self.lock();
        all.iter()
            .filter(|(_, since)| **since + PATIENCE <= now)
            .map(|(it, _)| it.clone())
            .collect()
    }

    /// Returns when the next file is one of those, unless its disk answers.
    fn next_hung(&self, now: Instant) -> Option<Instant> {
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

/// What hangs, at one moment.
#[derive(Default)]
pub(super) struct Hung {
    /// How many tasks.
    pub(super) tasks: usize,
    points: Option<Points>,
    /// How many of them on each file system.
    by_point: HashMap<PathBuf, usize>,
}

impl Hung {
    fn new<'a>(targets: impl Iterator<Item = &'a Target>, points: Points) -> Self {
        let mut hung = Self { points: Some(points), ..Self::default() };
        for target in targets {
            let place = hung.place(target);
            *hung.by_point.entry(place).or_default() += 1;
        }
        hung
    }

    /// Tells whether so many files hang where that of `target` is that it has to wait for them.
    pub(super) fn holds_up(&self, target: &Target) -> bool {
        !self.by_point.is_empty()
            && self.by_point.get(&self.place(target)).is_some_and(|count| *count >= MOST_JOBS)
    }

    /// Returns where a target's file is, without a look at any disk. Where a link that is followed
    /// leads to cannot be told so: such a file stands for itself.
    fn place(&self, target: &Target) -> PathBuf {
        let point = self.points.as_ref().filter(|_| !target.follow);
        point.map_or(target.path.as_path(), |points| points.of(&target.path)).to_owned()
    }
}

impl Daemon {
    /// Finds out what hangs, and marks the targets that wait for it.
    pub(super) fn mark_hung(&mut self, now: Instant) -> Hung {
        let hung = self.disk.under_way.hung(now);
        let known = |path: &PathBuf| self.slots.get(path).map(|slot| &*slot.target);
        let mut found = match &hung[..] {
            [] => Hung::default(),
            hung => Hung::new(hung.iter().filter_map(known), Points::read()),
        };
        found.tasks = hung.len();
        let mut changed = false;
        for (path, slot) in &mut self.slots {
            let hangs = hung.contains(path) || (slot.queued && found.holds_up(&slot.target));
            changed |= std::mem::replace(&mut slot.hung, hangs) != hangs;
        }
        if changed {
            self.changed();
        }
        found
    }

    /// Returns when a file may begin to count as one whose disk does not answer.
    pub(super) fn next_hung(&self, now: Instant) -> Option<Instant> {
        self.disk.under_way.next_hung(now)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use machine::config::Config;

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

    #[test]
    fn files_that_hang_hold_up_their_own_file_system_alone() {
        let target = |path: &str, more: &str| {
            let text = format!("[[target]]\npath = \"{path}\"\nsecrets = [\"secret/a\"]\n{more}");
            Config::parse(&text, Path::new("t")).unwrap().targets[0].clone()
        };
        let points = || Points::from(["/", "/mnt"].map(PathBuf::from));
        let of = |count: usize, more: &str| {
            let hung = (0..count).map(|n| target(&format!("/mnt/{n}/.env"), more));
            let hung: Vec<_> = hung.collect();
            Hung::new(hung.iter().map(|target| &**target), points())
        };
        let (near, far) = (target("/mnt/new/.env", ""), target("/srv/.env", ""));
        let followed = target("/mnt/new/.env", "follow = true\n");
        let held = |hung: &Hung| [&near, &far, &followed].map(|target| hung.holds_up(target));
        assert_eq!(held(&of(MOST_JOBS, "")), [true, false, false]);
        assert_eq!(held(&of(MOST_JOBS - 1, "")), [false; 3]);
        assert_eq!(held(&of(MOST_JOBS, "follow = true\n")), [false; 3]);
        assert_eq!(held(&Hung::default()), [false; 3]);
    }
}
