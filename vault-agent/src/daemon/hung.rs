//! Files whose disk does not answer, as that of a server which is away: they hold up the targets on
//! their own file system, and no others.

use std::collections::HashMap;
use std::path::PathBuf;

use host::files::binds::Points;
use machine::config::Target;
use tokio::time::Instant;

use super::{Daemon, MOST_JOBS};

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
