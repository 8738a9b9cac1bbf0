//! Runs of a hook that somebody wishes for by hand: each is told of its end, or that there is none.

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::*;

type Told = oneshot::Receiver<Result<(), String>>;

impl World {
    /// One whose file holds version 1, and whose hook has run for it.
    fn told(more: &str) -> Self {
        let mut world = Self::new(&format!("{HOOK}\n{more}"), None);
        assert!(world.written(1));
        world.slot.hook_ended(&Ok(()), false);
        world
    }

    /// Wishes for a run.
    fn wish(&mut self) -> Told {
        let (tell, told) = oneshot::channel();
        assert_eq!(self.slot.run_hook(tell), Ok(()));
        told
    }

    fn begin(&mut self) -> Option<Task> {
        self.slot.busy = Some(tokio::spawn(async {}).id());
        self.slot.next.take()
    }

    /// Ends the task under way as the daemon does; tells whether the hook is to run and how many
    /// wait for its end.
    fn end(&mut self, result: Result<Outcome, TargetFault>, newest: u64) -> Option<usize> {
        self.slot.busy = None;
        let plan = !matches!(result, Err(_) | Ok(Outcome::Seen { .. }));
        let run = self.slot.done(result, self.now, Time::from_micros(2));
        if plan {
            self.slot.plan(|_| Latest::Version { ver: newest, ready: true });
        }
        run.map(|(_, wanted_by)| wanted_by.len())
    }
}

fn same(ver: u64) -> Result<Outcome, TargetFault> {
    Ok(Outcome::Unchanged(held(ver), Mask::default()))
}

fn is_gone(told: &mut Told) -> bool {
    told.try_recv() == Err(TryRecvError::Closed)
}

const WRITE: fn(u64) -> Option<Task> = |ver| Some(Task::Write(vec![Some(ver)]));

#[tokio::test]
async fn a_look_that_was_due_does_not_swallow_the_run() {
    let mut world = World::told("");
    world.slot.touched();
    let _told = world.wish();
    assert_eq!(world.begin(), WRITE(1));
    assert_eq!(world.end(same(1), 1), Some(1));
    // Nor does one that is under way, or that comes while the file is compared.
    world.slot.touched();
    assert_eq!(world.begin(), Some(Task::Look));
    let _told = world.wish();
    assert_eq!(world.end(Ok(Outcome::Seen { same: true }), 1), None);
    assert_eq!(world.begin(), WRITE(1));
    world.slot.touched();
    assert_eq!(world.end(same(1), 1), Some(1), "told by this run, not by the look");
    assert_eq!(world.slot.next, Some(Task::Look));
    let mut kept = World::told("drift = \"report\"");
    kept.slot.touched();
    let _told = kept.wish();
    assert_eq!(kept.begin(), Some(Task::Compare(vec![Some(1)])));
}

#[tokio::test]
async fn a_run_wished_for_while_a_newer_version_is_written_is_that_versions() {
    let mut world = World::told("");
    world.slot.plan(|_| Latest::Version { ver: 2, ready: true });
    assert_eq!(world.begin(), WRITE(2));
    let _told = world.wish();
    assert_eq!(world.end(changed(2), 2), Some(1));
    assert_eq!(world.slot.next, None, "the older version is not written again");
}

#[tokio::test]
async fn a_file_that_is_right_again_is_not_removed_for_a_run() {
    let mut world = World::told("max_stale = \"24h\"\non_stale = \"remove\"");
    let newest = |_: &SecretPath| Latest::Version { ver: 1, ready: true };
    world.slot.reach = Reach::Lost;
    world.slot.plan(newest);
    assert_eq!(world.slot.next, Some(Task::Remove(vec![None])));
    let _told = world.wish();
    world.slot.reach = Reach::Fresh;
    world.slot.plan(newest);
    assert_eq!(world.begin(), WRITE(1));
    assert_eq!(world.end(same(1), 1), Some(1));
}

#[tokio::test]
async fn a_run_that_does_not_come_is_told_at_once() {
    let fork = |world: &mut World| {
        world.slot.halted = true;
        world.slot.plan(|_| Latest::Version { ver: 1, ready: true });
        assert_eq!(world.slot.next, None);
    };
    let mut held = World::told("");
    let mut told = held.wish();
    fork(&mut held);
    assert!(is_gone(&mut told), "before the file was looked at");
    let mut busy = World::told("");
    let mut told = busy.wish();
    assert_eq!(busy.begin(), WRITE(1));
    fork(&mut busy);
    assert!(!is_gone(&mut told), "the look under way decides");
    assert_eq!(busy.end(same(1), 1), Some(1));
    let mut failed = World::told("");
    let mut told = failed.wish();
    assert_eq!(failed.begin(), WRITE(1));
    assert_eq!(failed.end(Err(TargetFault::crashed()), 1), None);
    assert!(is_gone(&mut told));
    let mut drifted = World::told("drift = \"report\"");
    let mut told = drifted.wish();
    assert!(drifted.begin().is_some());
    assert_eq!(drifted.end(Ok(Outcome::Differs(vec![Some(1)])), 1), None);
    assert!(is_gone(&mut told));
}
