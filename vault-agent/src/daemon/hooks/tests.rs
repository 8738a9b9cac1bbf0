//! One run at a time, bursts taken together, failures again: with real processes, and the clock
//! passed in.

use super::*;
use machine::config::Config;

struct World {
    folder: tempfile::TempDir,
    hooks: Hooks,
    now: Instant,
    order: Order,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            hooks: Hooks::default(),
            now: Instant::now(),
            order: Order::default(),
        }
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
        self.hooks.start(self.now, &self.order);
    }

    async fn finished(&mut self) -> (usize, String, bool) {
        let now = self.now;
        let finished = self.hooks.finished(|| now).await;
        let again = finished.targets.values().any(|again| *again);
        (finished.targets.len(), finished.result, again)
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
    let (shared, other) = (Key::of(&a).unwrap(), Key::of(&c).unwrap());
    world.hooks.hold(&shared);
    world.hooks.hold(&shared);
    world.hooks.hold(&other);
    world.changed(&a);
    world.hooks.release(&shared);
    world.start();
    assert!(!world.hooks.idle());
    assert_eq!(world.runs(), 0);
    world.changed(&b);
    world.hooks.release(&shared);
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
    assert_eq!(world.hooks.next_due(), Some(world.now + FIRST_WAIT));
}

#[tokio::test]
async fn a_storm_is_a_few_runs() {
    let mut world = World::new();
    let target = world.target("a", "echo >>out");
    // 500 changes in five seconds, each waited for as a quick hook would end.
    for _ in 0..500 {
        world.changed(&target);
        world.start();
        if !world.hooks.idle() && world.hooks.next_due().is_none() {
            world.finished().await;
        }
        world.now += Duration::from_millis(10);
    }
    world.now = world.hooks.next_due().unwrap();
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
    assert_eq!(world.hooks.next_due(), Some(world.now + FIRST_WAIT));
    world.now += FIRST_WAIT;
    world.start();
    assert_eq!(world.finished().await, (1, "exit 7".to_owned(), false));
    assert_eq!(world.hooks.next_due(), None);
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

#[test]
fn waits_grow_to_a_minute() {
    let waits: Vec<u64> = (0..8).map(|n| wait(n).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(wait(u32::MAX), LONGEST_WAIT);
}
