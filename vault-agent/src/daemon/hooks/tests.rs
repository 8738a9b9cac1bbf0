//! One run at a time, bursts taken together, failures again: with real processes, and the clock passed in.

use super::*;
use crate::config::Config;

struct World {
    folder: tempfile::TempDir,
    hooks: Hooks,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), hooks: Hooks::default(), now: Instant::now() }
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
        self.hooks.request(&Key::of(target).unwrap(), &target.path, Mask::default());
    }

    fn start(&mut self) {
        self.hooks.start(self.now);
    }

    async fn finished(&mut self) -> (usize, String, bool) {
        let now = self.now;
        let finished = self.hooks.finished(|| now).await;
        (finished.targets.len(), finished.result, finished.again)
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
