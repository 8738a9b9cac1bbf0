//! The lies of a hostile server, by what they are about. Each has a name, which the book's table
//! bears as well, and an end: an alarm of its own code, or nothing at all; acts that write are done
//! where the lie does not concern them, and refused in words otherwise. What was read before is
//! read after it, and the target stays as it is to the byte. Once the server tells the truth again
//! all is well again by itself, but for what only a person may end.

mod answers;
mod blobs;
mod checkpoints;
mod heads;
mod reports;
mod streams;
mod verify;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;
use std::{env, thread};

use tests::watch;

use crate::acts;
use crate::lie::Lie;
use crate::scene::{SPARE, Scene};
use crate::server::Evil;

/// Machines that are told lies at the same time: most of the time they wait.
const LANES: usize = 4;
/// Alarms that the truth does not end: a person has to look.
const LASTING: [&str; 2] = ["E_FORK", "E_AUDIT_REWRITTEN"];

/// Every lie.
pub fn all() -> impl Iterator<Item = &'static Lie> {
    let all =
        [answers::LIES, streams::LIES, heads::LIES, blobs::LIES, reports::LIES, checkpoints::LIES];
    all.into_iter().flatten()
}

/// Returns the lies to be told: the one that LIE names, or all; with MATRIX_SEED one of those that
/// keep writers waiting.
fn chosen() -> VecDeque<&'static Lie> {
    if let Ok(name) = env::var("LIE") {
        return all().filter(|lie| lie.name == name).collect();
    }
    let (mut slow, quick): (VecDeque<_>, VecDeque<_>) = all().partition(|lie| lie.waits);
    if let Some(seed) = env::var("MATRIX_SEED").ok().and_then(|seed| seed.parse::<usize>().ok()) {
        let one = slow[seed % slow.len()];
        println!("MATRIX_SEED={seed}: of those that keep writers waiting `{}`", one.name);
        slow = VecDeque::from([one]);
    }
    slow.extend(quick);
    slow
}

/// Tells a lie to the machine as it was, then the truth.
fn check(scene: &mut Scene, lie: &Lie) {
    let Lie { name, tell, heard, alarm, late, get, ends, .. } = lie;
    scene.reset();
    let before = scene.target();
    let evil = Evil::start(scene.world.address(), tell(scene));
    scene.host.start();
    if let Some(what) = heard {
        evil.heard(name, what);
    }
    if let Some(code) = alarm.filter(|_| !late) {
        scene.await_alarm(name, code);
    }
    acts::get(name, &scene.host, *get);
    let ran = acts::writes(&scene.host, &scene.line, SPARE);
    let wrong = acts::unexpected(ran, *ends);
    match alarm {
        Some(code) => scene.await_alarm(name, code),
        // A target that waits for its content is told of until it has it: what stays is wrong.
        None => watch::poll(&format!("{name}: no alarm stays"), || {
            scene.alarms().is_empty().then_some(())
        }),
    }
    assert!(wrong.is_empty(), "{name}: {}", wrong.join("\n"));
    assert_eq!(scene.target(), before, "{name}: the target stays");
    assert_eq!(scene.host.hook_runs(), scene.hooks, "{name}: no hook runs");
    let lasting = alarm.filter(|code| LASTING.contains(code));
    let truth = scene.truth_after(evil.told());
    drop(evil);
    scene.await_truth(name, truth, lasting);
    scene.host.stop();
}

#[test]
fn lies_end_in_an_alarm_or_in_nothing() {
    let (lies, failed) = (Mutex::new(chosen()), Mutex::new(Vec::new()));
    let next = || lies.lock().unwrap().pop_front();
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let mut scene = None;
                while let Some(lie) = next() {
                    let (scene, began) = (scene.get_or_insert_with(Scene::new), Instant::now());
                    let told = catch_unwind(AssertUnwindSafe(|| check(scene, lie)));
                    println!("{:>6.1?} {}", began.elapsed(), lie.name);
                    if told.is_err() {
                        failed.lock().unwrap().push(lie.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "not as expected (see above): {failed:#?}");
}

#[test]
fn names_are_distinct() {
    let mut names = std::collections::HashSet::new();
    assert!(all().all(|lie| names.insert(lie.name)));
}
