//! What is told of the versions that a file has got, and when.

use shared::audit::Op;

use super::*;
use crate::daemon::hooks::Span;

/// Says what is told, each with how the hook ended.
fn told(slot: &mut Slot) -> Vec<String> {
    let facts = slot.told().into_iter().map(|fact| {
        assert_eq!(fact.op, Op::LocalApplied);
        let applied = fact.applied.unwrap();
        let hook = applied.hook.map_or("-".to_owned(), |hook| {
            hook.failed.map_or("ok".to_owned(), |why| why.to_string())
        });
        let how = if applied.found { "found" } else { "wrote" };
        let at = fact.at.unwrap().as_micros();
        format!("{how} {} {:?} at {at}: {hook}", fact.path.unwrap(), fact.ver)
    });
    facts.collect()
}

impl World {
    fn ended(&mut self, result: Result<(), &str>, again: bool, began: u64) -> Vec<String> {
        let result = result.map_err(str::to_owned);
        self.slot.hook_ended(&result, again);
        let [began, ended] = [began, began + 1].map(Time::from_micros);
        self.slot.tell_hook(&result, again, Span { began, ended });
        told(&mut self.slot)
    }
}

#[test]
fn a_version_is_told_once_and_with_the_end_of_its_hook() {
    let mut world = World::new("", None);
    world.written(1);
    assert_eq!(told(&mut world.slot), ["wrote secret/a Some(1) at 2: -"]);
    world.unchanged(2);
    assert_eq!(told(&mut world.slot), ["found secret/a Some(2) at 2: -"]);
    let mut world = World::new(HOOK, None);
    world.written(1);
    assert!(told(&mut world.slot).is_empty(), "the hook has not ended");
    assert_eq!(world.ended(Ok(()), false, 3), ["wrote secret/a Some(1) at 2: ok"]);
    assert!(world.ended(Ok(()), false, 5).is_empty(), "a run by hand");
    // Put back after somebody else's change: no other version.
    assert!(world.done(changed(1)));
    assert!(told(&mut world.slot).is_empty());
}

#[test]
fn a_failing_hook_is_told_once_and_again_when_it_ends_well() {
    let mut world = World::new(HOOK, None);
    world.written(1);
    assert_eq!(world.ended(Err("exit 7"), true, 3), ["wrote secret/a Some(1) at 2: exit 7"]);
    assert!(world.ended(Err("exit 8"), true, 4).is_empty());
    assert!(world.ended(Err("exit 8"), false, 5).is_empty());
    assert_eq!(world.ended(Ok(()), false, 6), ["wrote secret/a Some(1) at 2: ok"]);
}

#[test]
fn a_run_that_began_before_the_version_says_nothing_of_it() {
    let mut world = World::new(HOOK, None);
    world.written(1);
    world.written(2);
    assert_eq!(told(&mut world.slot), ["wrote secret/a Some(1) at 2: -"], "it was not told of it");
    assert!(world.ended(Ok(()), true, 1).is_empty());
    assert!(world.ended(Err("exit 1"), true, 1).is_empty());
    assert_eq!(world.ended(Ok(()), false, 3), ["wrote secret/a Some(2) at 2: ok"]);
}

#[test]
fn what_a_killed_agent_has_not_told_the_next_one_tells() {
    let mut world = World::new(HOOK, None);
    world.written(1);
    let remembered = world.slot.remembered().unwrap();
    let mut next = World::new(HOOK, None);
    next.slot = Slot::new(target(HOOK), Some(remembered));
    assert!(next.unchanged(1), "the hook runs once more");
    assert_eq!(next.ended(Ok(()), false, 9), ["wrote secret/a Some(1) at 2: ok"]);
    let mut last = World::new(HOOK, None);
    last.slot = Slot::new(target(HOOK), next.slot.remembered());
    assert!(!last.unchanged(1));
    assert!(told(&mut last.slot).is_empty());
}
