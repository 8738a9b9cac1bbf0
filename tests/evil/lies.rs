//! The lies of a hostile server, by what they are about. Each has a name, which the book's table
//! bears as well, and an end: an alarm of its own code, or nothing at all; acts that write are done
//! where the lie does not concern them, and refused in words otherwise. What was read before is
//! read after it, and the target stays as it is to the byte. Once the server tells the truth again
//! all is well again by itself, but for what only a person may end.

mod answers;
mod blobs;
mod heads;
mod reports;
mod streams;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;
use std::{env, thread};

use crate::acts::{self, End};
use crate::scene::{SPARE, Scene};
use crate::server::{Evil, Told};

/// Machines that are told lies at the same time: most of the time they wait.
const LANES: usize = 4;
/// Alarms that the truth does not end: a person has to look.
const LASTING: [&str; 2] = ["E_FORK", "E_AUDIT_REWRITTEN"];

/// A lie, and what comes of it.
pub struct Lie {
    /// Its name in the book.
    pub name: &'static str,
    /// Makes the server that tells it.
    tell: fn(&Scene) -> Told,
    /// What has to be asked for until the lie is heard; nothing if it is no answer.
    heard: Option<&'static str>,
    /// Code of the alarm that it ends in; none if it is merely not believed.
    alarm: Option<&'static str>,
    /// Whether only acts that write hear it: they are done before the alarm is waited for.
    late: bool,
    /// Whether a writer waits long for an answer.
    waits: bool,
    /// Why `kv get` gives nothing; none if it gives what it gave before.
    get: Option<&'static str>,
    /// How `kv put`, `machine add` and `machine remove` end.
    ends: [End; 3],
}

impl Lie {
    /// Makes a lie that is not believed and raises no alarm; writes end like this.
    const fn idle(
        name: &'static str,
        heard: &'static str,
        end: End,
        tell: fn(&Scene) -> Told,
    ) -> Self {
        let (heard, ends) = (Some(heard), [end; 3]);
        Self { name, tell, heard, alarm: None, late: false, waits: false, get: None, ends }
    }

    /// Makes a lie of the log's stream, which ends in alarm `code`, and keeps writers out.
    const fn fatal(name: &'static str, code: &'static str, tell: fn(&Scene) -> Told) -> Self {
        Self { alarm: Some(code), ..Self::idle(name, "GET /v1/log", End::Refused(code), tell) }
    }

    /// Returns its row of the book's table.
    pub fn row(&self) -> String {
        let alarm = self.alarm.map_or_else(|| "—".to_owned(), |code| format!("`{code}`"));
        let writes = match self.ends {
            [End::Done, End::Done, End::Done] => "done",
            [_, _, End::Done] => "refused, but for `machine remove`",
            _ => "refused",
        };
        format!("| {} | {alarm} | {writes} |", self.name)
    }
}

/// Every lie.
pub fn all() -> impl Iterator<Item = &'static Lie> {
    let all = [answers::LIES, streams::LIES, heads::LIES, blobs::LIES, reports::LIES];
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
    let mut wrong = acts::unexpected(ran, *ends);
    match alarm {
        Some(code) => scene.await_alarm(name, code),
        None => {
            wrong.extend(scene.alarms());
        }
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
