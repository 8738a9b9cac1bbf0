//! One target's life, event by event, without disk or vault.

mod applied;
mod wished;

use super::*;
use crate::daemon::record::Bad;
use host::files::Access;
use machine::config::Config;

fn target(more: &str) -> Arc<Target> {
    let text = format!("[[target]]\npath = \"/a/.env\"\nsecrets = [\"secret/a\"]\n{more}\n");
    Arc::clone(&Config::parse(&text, Path::new("t")).unwrap().targets[0])
}

const HOOK: &str = "on_change = \"true\"";

/// A file as it was written: what is in it is not looked at here.
fn held(ver: u64) -> Held {
    let print = Some(Print::of(b"", Access::PRIVATE));
    Held { versions: vec![Some(ver)], print, notes: Vec::new(), absent: Vec::new() }
}

fn changed(ver: u64) -> Result<Outcome, TargetFault> {
    Ok(Outcome::Changed(held(ver), Mask::default()))
}

struct World {
    slot: Slot,
    now: Instant,
}

impl World {
    fn new(more: &str, remembered: Option<(u64, &str)>) -> Self {
        let target = target(more);
        let remembered = remembered.map(|(ver, hook)| Remembered {
            path: target.path.clone(),
            secrets: vec![("secret/a".parse().unwrap(), Some(ver))],
            since: Time::from_micros(1),
            hook: serde_json::from_value(hook.into()).unwrap(),
            good: None,
            bad: None,
            untold: None,
        });
        Self { slot: Slot::new(target, remembered), now: Instant::now() }
    }

    /// Plans the target with such a newest version, and returns the task.
    fn plan(&mut self, latest: Latest) -> Option<Task> {
        self.slot.plan(|_| latest);
        self.slot.next.take()
    }

    fn planned(&mut self, ver: u64) -> Option<Task> {
        self.plan(Latest::Version { ver, ready: true })
    }

    /// Ends a task; tells whether the hook is to run.
    fn done(&mut self, result: Result<Outcome, TargetFault>) -> bool {
        self.slot.done(result, self.now, Time::from_micros(2)).is_some()
    }

    fn written(&mut self, ver: u64) -> bool {
        assert!(self.planned(ver).is_some());
        self.done(changed(ver))
    }

    /// As [`World::written`], in place of a newer version that is bad.
    fn rolled_back(&mut self, bad: u64, good: u64) -> bool {
        assert_eq!(self.planned(bad), Some(Task::Write(vec![Some(good)])));
        self.done(changed(good))
    }

    /// Puts on disk what is remembered; tells whether to plan again.
    fn save(&mut self) -> bool {
        let remembered = self.slot.remembered().unwrap();
        self.slot.saved(&remembered)
    }

    fn unchanged(&mut self, ver: u64) -> bool {
        assert!(self.planned(ver).is_some());
        self.done(Ok(Outcome::Unchanged(held(ver), Mask::default())))
    }

    /// Has the file looked at, and returns the task that follows.
    fn look(&mut self, same: bool) -> Option<Task> {
        self.slot.touched();
        assert_eq!(self.slot.next.take(), Some(Task::Look));
        self.done(Ok(Outcome::Seen { same }));
        self.slot.next.take()
    }

    fn shown(&self) -> (Vec<Option<u64>>, u64, String, String) {
        let slot = &self.slot;
        (slot.versions().collect(), slot.since.as_micros(), slot.show(), slot.show_hook())
    }
}

#[test]
fn the_hook_runs_for_what_is_new_to_it() {
    // The first apply, even if the file was right already.
    assert!(World::new(HOOK, None).written(1));
    assert!(World::new(HOOK, None).unchanged(1));
    // After a restart: not again, unless it had not ended well or the version is another.
    assert!(!World::new(HOOK, Some((1, "ok"))).unchanged(1));
    assert!(World::new(HOOK, Some((1, "pending"))).unchanged(1));
    assert!(World::new(HOOK, Some((1, "exit 1"))).unchanged(1));
    assert!(World::new(HOOK, Some((1, "ok"))).unchanged(2));
    assert!(World::new(HOOK, Some((1, "ok"))).written(1));
    // A version that leaves this file as it was is no news.
    let mut world = World::new(HOOK, None);
    assert!(world.written(1));
    assert!(!world.unchanged(2));
    assert!(world.written(3));
    assert!(!World::new("", None).written(1));
}

#[test]
fn all_is_well_only_if_no_key_is_missing_and_the_hook_has_ended() {
    let mut world = World::new("", None);
    assert!(!world.slot.is_well(), "nothing is written yet");
    assert!(world.planned(1).is_some());
    let lacking = Held { absent: vec!["AA".to_owned()], ..held(1) };
    world.done(Ok(Outcome::Changed(lacking, Mask::default())));
    assert!(!world.slot.is_well());
    world.written(2);
    assert!(world.slot.is_well());
    let mut hooked = World::new(HOOK, None);
    hooked.written(1);
    assert!(!hooked.slot.is_well());
    hooked.slot.hook_ended(&Ok(()), false);
    assert!(hooked.slot.is_well());
    hooked.slot.hook_ended(&Err("exit 1".to_owned()), false);
    assert!(!hooked.slot.is_well());
}

/// Returns whether the hook runs after the configuration has changed to one with `more`, and how it
/// is shown until then; it had ended with `end`, and the file is as it was.
fn mended(end: &Result<(), String>, more: &str) -> (bool, String) {
    let mut world = World::new(HOOK, None);
    assert!(world.written(1));
    world.slot.hook_ended(end, false);
    world.slot = world.slot.changed(target(more));
    let shown = world.slot.show_hook();
    (world.unchanged(1), shown)
}

#[test]
fn a_hook_that_was_mended_tells_what_the_one_before_did_not() {
    let (mended_hook, failed) = ("on_change = \"mended\"", Err("exit 1".to_owned()));
    assert_eq!(mended(&failed, mended_hook), (true, "pending".to_owned()));
    // One that ended well has told; another setting is no news, and no hook has nothing to tell.
    assert_eq!(mended(&Ok(()), mended_hook), (false, "ok".to_owned()));
    let other = format!("{HOOK}\nmode = \"0640\"");
    assert_eq!(mended(&failed, &other), (false, "exit 1".to_owned()));
    assert_eq!(mended(&failed, ""), (false, "-".to_owned()));
    // One that has not ended tells it too.
    let mut world = World::new(HOOK, None);
    assert!(world.written(1));
    world.slot = world.slot.changed(target(mended_hook));
    assert!(world.unchanged(1));
}

#[test]
fn a_task_that_ends_without_a_result_is_tried_again() {
    let mut world = World::new("", None);
    assert!(world.planned(1).is_some());
    world.slot.crashed(world.now);
    assert_eq!(world.slot.show(), "failed: a fault in the agent itself");
    assert!(world.slot.due.is_some());
    assert!(world.planned(1).is_some());
}

#[test]
fn the_record_follows_the_file() {
    let mut world = World::new(HOOK, Some((1, "ok")));
    assert_eq!(world.shown(), (vec![Some(1)], 1, "starting".to_owned(), "ok".to_owned()));
    world.unchanged(1);
    assert_eq!(world.shown(), (vec![Some(1)], 1, "ok".to_owned(), "ok".to_owned()));
    world.written(2);
    assert_eq!(world.shown(), (vec![Some(2)], 2, "ok".to_owned(), "pending".to_owned()));
    world.slot.hook_ended(&Err("exit 3".to_owned()), true);
    assert_eq!(world.slot.remembered().unwrap().hook, HookEnd::Failed("exit 3".to_owned()));
    world.slot.hook_ended(&Ok(()), true);
    assert_eq!(world.slot.hook, HookEnd::Pending);
    world.slot.hook_ended(&Ok(()), false);
    assert_eq!(world.slot.remembered().unwrap().hook, HookEnd::Ok);
}

#[test]
fn a_changed_file_is_put_back() {
    let mut world = World::new("", None);
    world.written(1);
    assert_eq!(world.look(true), None);
    assert_eq!(world.look(false), Some(Task::Write(vec![Some(1)])));
    assert_eq!(world.look(false), Some(Task::Write(vec![Some(1)])));
}

#[test]
fn a_changed_file_is_reported_only_if_so_wanted() {
    let mut world = World::new("drift = \"report\"", Some((1, "-")));
    // Already before the start: the version is the same, so whatever differs was done by hand.
    assert_eq!(world.planned(1), Some(Task::Compare(vec![Some(1)])));
    world.done(Ok(Outcome::Differs(vec![Some(1)])));
    assert_eq!(world.shown().2, "drift: changed by somebody else");
    assert_eq!(world.planned(1), None);
    assert_eq!(world.shown().2, "drift: changed by somebody else");
    // The next version is written.
    assert!(!world.written(2));
    assert_eq!(world.shown().2, "ok");
    assert_eq!(world.look(false), Some(Task::Compare(vec![Some(2)])));
}

#[test]
fn a_fight_is_not_fought_for_ever() {
    let mut world = World::new("", None);
    world.written(1);
    for _ in 0..MOST_RESTORES {
        assert!(world.look(false).is_some());
        world.done(changed(1));
    }
    assert_eq!(world.look(false), None);
    assert_eq!(world.slot.due, Some(world.now + DRIFT_WINDOW));
    assert_eq!(world.slot.state, State::Contested);
    assert_eq!(world.planned(1), Some(Task::Write(vec![Some(1)])));
    world.now += DRIFT_WINDOW * 2;
    world.done(changed(1));
    assert!(world.look(false).is_some());
}

#[test]
fn failures_are_tried_again_and_forget_what_the_file_holds() {
    let fault = |passing| {
        let (state, text) = (TargetState::Failed, "x".to_owned());
        TargetFault { state, text, hint: String::new(), passing }
    };
    let mut world = World::new("", None);
    world.written(1);
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        assert!(world.planned(2).is_some());
        world.done(Err(fault(true)));
        assert_eq!(world.slot.due, Some(world.now + Duration::from_secs(seconds)));
    }
    assert_eq!(world.slot.known().held, None);
    assert_eq!(world.shown(), (vec![Some(1)], 2, "failed: x".to_owned(), "-".to_owned()));
    assert!(world.slot.touched());
    assert!(world.planned(3).is_some());
    assert_eq!(world.slot.due, None);
    world.done(Err(fault(true)));
    assert_eq!(world.slot.due, Some(world.now + Duration::from_secs(1)));
    assert!(world.planned(3).is_some());
    world.done(Err(fault(false)));
    assert_eq!(world.slot.due, None);
}

#[test]
fn a_held_file_keeps_its_version() {
    let mut world = World::new("", None);
    world.written(1);
    assert_eq!(world.plan(Latest::Deleted { ver: 1 }), None);
    assert_eq!(
        world.shown(),
        (vec![Some(1)], 2, "kept: `secret/a` is deleted".to_owned(), "-".to_owned())
    );
    assert_eq!(world.planned(1), None);
    assert_eq!(world.shown().2, "ok");
}

#[test]
fn new_settings_are_no_news_for_the_hook() {
    let mut world = World::new(HOOK, None);
    world.written(1);
    world.slot.hook_ended(&Ok(()), false);
    let slot = std::mem::replace(&mut world.slot, Slot::new(target(""), None));
    world.slot = slot.changed(target("mode = \"0640\"\non_change = \"true\""));
    assert_eq!(world.slot.known().held, None);
    assert!(!world.unchanged(1));
    assert_eq!(world.shown(), (vec![Some(1)], 2, "ok".to_owned(), "ok".to_owned()));
}

/// A target that goes back on failure, whose version 1 the hook has found good.
fn careful() -> World {
    let mut world = World::new(CAREFUL, None);
    assert!(world.written(1));
    world.slot.hook_ended(&Ok(()), false);
    assert!(world.slot.has_unsaved_good());
    world.save();
    assert!(!world.slot.has_unsaved_good());
    world
}

const CAREFUL: &str = "on_change = \"true\"\nrollback_on_failure = true";

/// Has version 2 written and its hook fail for good, and returns the verdict.
fn fail(world: &mut World) -> Bad {
    assert!(world.written(2));
    world.slot.hook_ended(&Err("exit 1".to_owned()), false);
    world.slot.verdict.unsaved.clone().unwrap()
}

#[test]
fn a_verdict_counts_once_it_is_on_disk() {
    let mut world = careful();
    let bad = fail(&mut world);
    assert_eq!(world.slot.known().instead, None);
    assert_eq!(world.slot.remembered().unwrap().bad, Some(bad.clone()));
    assert!(world.save() && !world.save());
    assert_eq!(world.slot.known().instead, Some((&vec![Some(2)], &vec![Some(1)])));
    // The old content is put back, and the hook runs once.
    assert!(world.rolled_back(2, 1));
    assert_eq!(
        (world.slot.show_hook().as_str(), world.slot.retries()),
        ("rolling back: exit 1", 0)
    );
    world.slot.hook_ended(&Ok(()), false);
    assert_eq!(world.slot.show_hook(), "rolled back: exit 1");
    assert!(world.slot.hook_has_failed() && world.slot.verdict.unsaved.is_none());
    // A newer version is a new try, and a success ends it.
    assert!(world.written(3));
    assert_eq!(world.slot.retries(), 5);
    world.slot.hook_ended(&Ok(()), false);
    assert_eq!((world.slot.show_hook().as_str(), world.slot.known().instead), ("ok", None));
}

#[test]
fn a_restart_goes_on_where_the_last_process_was_killed() {
    let mut world = careful();
    fail(&mut world);
    let restarted = |remembered: &Remembered, more: &str| {
        let slot = Slot::new(target(more), Some(remembered.clone()));
        World { slot, now: Instant::now() }
    };
    // Decided, and not put back yet.
    let decided = world.slot.remembered().unwrap();
    let mut next = restarted(&decided, CAREFUL);
    assert_eq!(next.slot.known().instead, Some((&vec![Some(2)], &vec![Some(1)])));
    assert!(next.unchanged(1), "put back, but the hook has not run for it");
    // Put back, and the hook has not ended; has ended well; has ended badly.
    assert!(world.save() && world.rolled_back(2, 1));
    let badly = Err("exit 2".to_owned());
    for (result, runs) in [(None, true), (Some(Ok(())), false), (Some(badly), false)] {
        if let Some(result) = &result {
            world.slot.hook_ended(result, false);
        }
        let mut next = restarted(&world.slot.remembered().unwrap(), CAREFUL);
        assert_eq!(next.slot.known().instead, Some((&vec![Some(2)], &vec![Some(1)])));
        assert_eq!(next.unchanged(1), runs, "{result:?}");
    }
    assert_eq!(world.slot.show_hook(), "rolled back: exit 1, then exit 2");
    // Other settings are another chance.
    let edited = CAREFUL.replace("true\"", "test\"");
    assert_eq!(restarted(&decided, &edited).slot.known().instead, None);
    assert_eq!(restarted(&decided, HOOK).slot.known().instead, None);
}

#[test]
fn a_good_version_is_known_to_the_next_process_while_its_hook_runs_once_more() {
    let mut world = careful();
    assert_eq!(world.look(false), Some(Task::Write(vec![Some(1)])));
    world.done(changed(1));
    assert_eq!(world.slot.hook, HookEnd::Pending);
    let remembered = world.slot.remembered();
    let mut next = World { slot: Slot::new(target(CAREFUL), remembered), now: Instant::now() };
    fail(&mut next);
    assert!(next.save());
    assert_eq!(next.slot.known().instead, Some((&vec![Some(2)], &vec![Some(1)])));
}

#[test]
fn there_is_not_always_something_to_go_back_to() {
    let mut first = World::new(CAREFUL, None);
    first.written(1);
    first.slot.hook_ended(&Err("exit 1".to_owned()), false);
    assert_eq!(first.slot.verdict.unsaved, None, "no version was ever good");
    let mut plain = World::new(HOOK, Some((1, "ok")));
    plain.written(2);
    plain.slot.hook_ended(&Err("exit 1".to_owned()), false);
    assert_eq!(plain.slot.verdict.unsaved, None, "nobody has asked for it");
    let mut retried = careful();
    retried.written(2);
    retried.slot.hook_ended(&Err("exit 1".to_owned()), true);
    assert_eq!(retried.slot.verdict.unsaved, None, "a retry is left");
    let mut deleted = careful();
    let gone = Held { versions: vec![None], print: None, notes: Vec::new(), absent: Vec::new() };
    deleted.done(Ok(Outcome::Changed(gone, Mask::default())));
    deleted.slot.hook_ended(&Err("exit 1".to_owned()), false);
    assert_eq!(deleted.slot.verdict.unsaved, None, "what is deleted stays so");
    let mut careful = careful();
    fail(&mut careful);
    let failed = careful.slot.remembered().unwrap();
    assert!(careful.written(3));
    careful.slot.hook_ended(&Ok(()), false);
    assert!(!careful.slot.saved(&failed), "a newer version was good meanwhile");
    assert!(careful.slot.has_unsaved_good(), "and is not on disk");
}

#[tokio::test]
async fn the_echo_of_ones_own_write_is_looked_at_a_moment_later_and_once() {
    let mut world = World::new("", None);
    assert!(world.slot.echo(world.now), "nothing was written yet");
    assert!(!world.written(1));
    assert!(!world.slot.echo(world.now));
    let due = world.slot.look_due.unwrap();
    assert!(due > world.now);
    world.now += ECHO / 2;
    assert!(!world.slot.echo(world.now));
    assert_eq!(world.slot.look_due, Some(due), "one look sees both");
    world.now = due;
    assert!(!world.slot.touched());
    assert_eq!(world.slot.next.take(), Some(Task::Look));
    assert!(world.slot.echo(world.now), "news of somebody else is looked at at once");
    world.slot.busy = Some(tokio::spawn(async {}).id());
    assert!(!world.slot.echo(world.now), "a write is under way");
}

/// The vault went on from an older copy: what the file holds is in no vault, and the next version
/// of the same number is another content.
#[test]
fn a_version_that_was_set_aside_stays_until_there_is_one_newer() {
    let mut world = World::new(HOOK, None);
    assert!(world.written(2));
    world.slot.hook_ended(&Ok(()), false);
    world.slot.set_aside(|_| false);
    assert_eq!(world.planned(2), None, "another secret's loss is none of this file's");
    world.slot.set_aside(|_| true);
    world.slot.aside = vec![true];
    assert_eq!(world.planned(1), None);
    let (versions, _, state, _) = world.shown();
    assert_eq!(versions, [Some(0)]);
    assert!(state.starts_with("kept: "), "{state}");
    assert_eq!(world.slot.remembered().unwrap().versions(), [Some(0)]);
    world.slot.aside = vec![false];
    assert!(world.written(2), "the hook runs for it");
    assert_eq!(world.shown().0, [Some(2)]);
}

#[test]
fn a_write_under_way_while_the_vault_goes_over_is_looked_at_anew() {
    let mut world = World::new("", None);
    assert_eq!(world.planned(2), Some(Task::Write(vec![Some(2)])));
    let mut jobs = tokio::task::JoinSet::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    world.slot.busy = Some(runtime.block_on(async { jobs.spawn(async {}).id() }));
    world.slot.set_aside(|_| true);
    world.slot.busy = None;
    world.done(changed(2));
    assert_eq!(world.planned(2), Some(Task::Write(vec![Some(2)])));
}
