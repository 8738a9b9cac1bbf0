//! One run at a time, bursts taken together, failures again: with real processes, and the clock
//! passed in.

use super::*;
use crate::daemon::backoff;
use machine::config::Config;

struct World {
    folder: tempfile::TempDir,
    hooks: Hooks,
    now: Instant,
    order: Order,
    /// Hooks with targets that are still being written.
    held: Vec<HookKey>,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            hooks: Hooks::default(),
            now: Instant::now(),
            order: Order::default(),
            held: Vec::new(),
        }
    }

    /// Has the hooks be those of these targets from now on.
    fn configured(&mut self, targets: &[&Target]) {
        let keys: Vec<_> = targets.iter().map(|target| Key::of(target).unwrap()).collect();
        let paths = targets.iter().map(|target| target.path.as_path());
        self.hooks.forget_others(&paths.zip(&keys).collect());
    }

    /// A target in the world's folder, whose hook is a line for `sh`.
    fn target(&self, name: &str, hook: &str) -> Arc<Target> {
        let path = self.folder.path().join(name);
        let text = format!(
            "[[target]]\npath = {path:?}\nsecrets = [\"secret/a\"]\non_change = {{ command = {hook:?}, retries = 1 }}\n"
        );
        Arc::clone(&Config::parse(&text, Path::new("t")).unwrap().targets[0])
    }

    fn changed(&mut self, target: &Target) {
        self.hooks.request(&Key::of(target).unwrap(), &target.path, Mask::default(), 1);
    }

    fn start(&mut self) {
        self.hooks.start(self.now, &self.order, |key| self.held.contains(key));
    }

    async fn finished(&mut self) -> (usize, String, bool) {
        let ended = self.hooks.runs.join_next().await.unwrap();
        let Finished { targets, result, .. } = self.hooks.ended(ended, self.now);
        let again = targets.values().any(|again| *again);
        (targets.len(), result.err().unwrap_or_else(|| "ok".to_owned()), again)
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default().lines().count()
    }
}

#[tokio::test]
async fn a_burst_is_one_run() {
    let mut world = World::new();
    let (a, b) = (world.target("a", "echo >>out"), world.target("b", "echo >>out"));
    for target in [&a, &b, &a] {
        world.changed(target);
    }
    world.start();
    world.start();
    assert_eq!(world.finished().await, (2, "ok".to_owned(), false));
    assert!(world.hooks.idle());
    assert_eq!(world.runs(), 1);
}

#[tokio::test]
async fn a_change_during_a_run_makes_one_more() {
    let mut world = World::new();
    let target = world.target("a", "echo >>out");
    world.changed(&target);
    world.start();
    for _ in 0..5 {
        world.changed(&target);
        world.start();
    }
    assert_eq!(world.finished().await, (1, "ok".to_owned(), true));
    world.start();
    assert_eq!(world.finished().await, (1, "ok".to_owned(), false));
    assert_eq!(world.runs(), 2);
}

#[tokio::test]
async fn a_shared_hook_waits_for_all_its_targets() {
    let mut world = World::new();
    let (a, b, c) = (
        world.target("a", "echo >>out"),
        world.target("b", "echo >>out"),
        world.target("c", "true"),
    );
    world.held = vec![Key::of(&b).unwrap(), Key::of(&c).unwrap()];
    world.changed(&a);
    world.start();
    assert!(!world.hooks.idle());
    assert_eq!(world.runs(), 0);
    world.changed(&b);
    world.held.remove(0);
    world.start();
    assert_eq!(world.finished().await, (2, "ok".to_owned(), false));
    assert_eq!(world.runs(), 1);
}

#[tokio::test]
async fn targets_do_not_hold_each_other_up() {
    let mut world = World::new();
    let (slow, quick) = (world.target("slow", "exec sleep 60"), world.target("quick", "true"));
    world.changed(&slow);
    world.changed(&quick);
    world.start();
    assert_eq!(world.finished().await, (1, "ok".to_owned(), false));
    assert!(!world.hooks.idle());
}

#[tokio::test]
async fn a_target_is_done_though_another_one_of_its_hook_is_not() {
    let mut world = World::new();
    let (a, b) = (world.target("a", "echo >>out"), world.target("b", "echo >>out"));
    world.changed(&a);
    world.start();
    world.changed(&b);
    assert_eq!(world.finished().await, (1, "ok".to_owned(), false));
    world.start();
    assert_eq!(world.finished().await, (1, "ok".to_owned(), false));
    assert!(world.hooks.idle());
}

#[tokio::test]
async fn hooks_run_in_the_order_of_their_targets() {
    let mut world = World::new();
    // The first and the last share a hook, and may not share a run.
    let (a, b, c) = (
        world.target("a", "echo ac >>out"),
        world.target("b", "echo b >>out"),
        world.target("c", "echo ac >>out"),
    );
    let free = world.target("d", "echo d >>free");
    let after = |target: &Target, before: &Target| {
        Arc::new(Target { after: vec![before.path.clone()], ..target.clone() })
    };
    world.order = Order::of(&[Arc::clone(&a), after(&b, &a), after(&c, &b)]);
    for target in [&c, &b, &a, &free] {
        world.changed(target);
    }
    let mut left = 4;
    while left > 0 {
        world.start();
        let (count, result, _) = world.finished().await;
        assert_eq!(result, "ok");
        left -= count;
    }
    assert!(world.hooks.idle());
    let ran = std::fs::read_to_string(world.folder.path().join("out")).unwrap();
    assert_eq!(ran, "ac\nb\nac\n");
}

#[tokio::test]
async fn a_failure_holds_up_nobody_behind_it() {
    let mut world = World::new();
    let (a, b) = (world.target("a", "exit 7"), world.target("b", "true"));
    let b = Arc::new(Target { after: vec![a.path.clone()], ..Target::clone(&b) });
    world.order = Order::of(&[Arc::clone(&a), Arc::clone(&b)]);
    world.changed(&a);
    world.changed(&b);
    world.start();
    assert_eq!(world.finished().await, (1, "exit 7".to_owned(), true));
    world.start();
    assert_eq!(world.finished().await, (1, "ok".to_owned(), false));
    assert_eq!(world.hooks.wake, Some(world.now + backoff::FIRST));
}

#[tokio::test]
async fn a_storm_is_a_few_runs() {
    let mut world = World::new();
    let target = world.target("a", "echo >>out");
    // 500 changes in five seconds, each waited for as a quick hook would end.
    for _ in 0..500 {
        world.changed(&target);
        world.start();
        if !world.hooks.idle() && world.hooks.wake.is_none() {
            world.finished().await;
        }
        world.now += Duration::from_millis(10);
    }
    world.now = world.hooks.wake.unwrap();
    world.start();
    assert_eq!(world.finished().await, (1, "ok".to_owned(), false));
    assert!(world.hooks.idle());
    assert_eq!(world.runs(), 3 + 5);
}

#[tokio::test]
async fn a_failure_is_tried_again_after_a_while() {
    let mut world = World::new();
    let target = world.target("a", "echo >>out; exit 7");
    world.changed(&target);
    world.start();
    assert_eq!(world.finished().await, (1, "exit 7".to_owned(), true));
    world.start();
    assert!(world.hooks.idle());
    assert_eq!(world.hooks.wake, Some(world.now + backoff::FIRST));
    world.now += backoff::FIRST;
    world.start();
    assert_eq!(world.finished().await, (1, "exit 7".to_owned(), false));
    assert_eq!(world.hooks.wake, None);
    assert_eq!(world.runs(), 2);
}

#[tokio::test]
async fn news_is_a_new_chance_at_once() {
    let mut world = World::new();
    let target = world.target("a", "echo >>out; exit 7");
    world.changed(&target);
    world.start();
    assert_eq!(world.finished().await, (1, "exit 7".to_owned(), true));
    world.changed(&target);
    world.start();
    assert_eq!(world.finished().await, (1, "exit 7".to_owned(), true));
    assert_eq!(world.runs(), 2);
}

#[tokio::test]
async fn a_command_that_was_changed_is_not_tried_again() {
    let mut world = World::new();
    let (old, new) = (world.target("a", "echo >>out; exit 7"), world.target("a", "true"));
    let other = world.target("b", "echo >>out; exit 7");
    world.changed(&old);
    world.start();
    assert_eq!(world.finished().await, (1, "exit 7".to_owned(), true));
    world.configured(&[&new]);
    world.start();
    assert!(world.hooks.idle() && world.hooks.wake.is_none());
    assert_eq!(world.runs(), 1);
    // Another target that still has it goes on.
    world.changed(&old);
    world.changed(&other);
    world.start();
    assert_eq!(world.finished().await, (2, "exit 7".to_owned(), true));
    world.configured(&[&new, &other]);
    world.now += backoff::FIRST;
    world.start();
    assert_eq!(world.finished().await, (1, "exit 7".to_owned(), false));
}

#[tokio::test]
async fn a_run_under_way_says_nothing_about_a_target_that_has_another_hook() {
    let mut world = World::new();
    let (old, new) = (world.target("a", "echo >>out; exit 7"), world.target("a", "true"));
    world.changed(&old);
    world.start();
    world.configured(&[&new]);
    assert!(!world.hooks.idle());
    world.changed(&new);
    world.start();
    let mut ends = [world.finished().await, world.finished().await];
    ends.sort_unstable();
    let [nobody, one] = ends;
    assert_eq!((nobody, one), ((0, "exit 7".to_owned(), false), (1, "ok".to_owned(), false)));
    assert!(world.hooks.idle() && world.hooks.wake.is_none());
}

#[tokio::test]
async fn a_run_of_which_this_program_lost_the_end_has_failed() {
    let mut world = World::new();
    let target = world.target("a", "exec sleep 60");
    world.changed(&target);
    world.start();
    world.hooks.runs.abort_all();
    let (count, why, again) = world.finished().await;
    assert_eq!((count, why.as_str(), again), (1, "the agent failed to run it", true));
    world.now += backoff::FIRST;
    world.start();
    assert!(!world.hooks.idle(), "it runs again");
}

#[tokio::test]
async fn not_begun_to_start_a_hook_says_nothing_about_it() {
    let mut world = World::new();
    let target = world.target("a", "echo >>out");
    world.changed(&target);
    world.start();
    let (key, ..) = world.hooks.runs.join_next().await.unwrap().unwrap();
    let full = || HookFault { text: "no memory".to_owned(), not_begun: true };
    // More often than it may fail, it is tried again.
    for _ in 0..10 {
        let Finished { targets, .. } = world.hooks.settle(&key, Err(full()), world.now);
        assert!(targets.values().all(|again| *again) && !targets.is_empty());
        world.now = world.hooks.slots[&key].due.unwrap();
        world.start();
        let (.., ran) = world.hooks.runs.join_next().await.unwrap().unwrap();
        assert_eq!(ran, Ok(()));
    }
    world.hooks.settle(&key, Err(full()), world.now);
    world.now = world.hooks.slots[&key].due.unwrap();
    world.start();
    assert_eq!(world.finished().await, (1, "ok".to_owned(), false));
}

#[tokio::test]
async fn who_asked_for_a_run_is_told_of_the_one_that_begins_after_it() {
    let mut world = World::new();
    let target = world.target("a", "echo >>out; test $(wc -l <out) = 2");
    world.changed(&target);
    world.start();
    let (waiter, mut told) = oneshot::channel();
    world.changed(&target);
    world.hooks.tell(&Key::of(&target).unwrap(), waiter);
    assert_eq!(world.finished().await, (1, "exit 1".to_owned(), true));
    assert!(told.try_recv().is_err());
    world.start();
    world.finished().await;
    assert_eq!(told.try_recv().unwrap(), Ok(()));
    // Nobody is left without an answer when the target goes.
    let (waiter, told) = oneshot::channel();
    world.changed(&target);
    world.hooks.tell(&Key::of(&target).unwrap(), waiter);
    world.configured(&[]);
    assert!(told.await.is_err());
}
