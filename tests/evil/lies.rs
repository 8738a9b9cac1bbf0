//! The lies of a hostile server, by what they are about. Each has a name, which the book's table
//! bears as well, and an end: an alarm of its own code, or nothing at all; acts that write are done
//! where the lie does not concern them, and refused in words otherwise. What was read before is
//! read after it, and the target stays as it is to the byte.

mod answers;
mod blobs;
mod heads;
mod reports;
mod streams;

use crate::acts::{self, End};
use crate::scene::{SPARE, Scene};
use crate::server::{Evil, Told};

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
    /// Why `kv get` gives nothing; none if it gives what it gave before.
    get: Option<&'static str>,
    /// How `kv put`, `machine add` and `machine remove` end.
    ends: [End; 3],
}

impl Lie {
    /// Makes a lie of the log's stream, which ends in alarm `code`, and keeps writers out.
    const fn fatal(name: &'static str, code: &'static str, tell: fn(&Scene) -> Told) -> Self {
        let ends = [End::Refused(code); 3];
        Self { name, tell, heard: Some("GET /v1/log"), alarm: Some(code), get: None, ends }
    }

    /// Makes a lie that is not believed and raises no alarm; writes end like this.
    const fn idle(
        name: &'static str,
        heard: &'static str,
        end: End,
        tell: fn(&Scene) -> Told,
    ) -> Self {
        Self { name, tell, heard: Some(heard), alarm: None, get: None, ends: [end; 3] }
    }
}

/// Every lie.
pub fn all() -> impl Iterator<Item = &'static Lie> {
    let all = [streams::LIES, heads::LIES, blobs::LIES, answers::LIES, reports::LIES];
    all.into_iter().flatten()
}

/// Tells lies one after another, each to the machine as it was.
fn check(lies: &[Lie]) {
    let mut scene = Scene::new();
    let before = scene.target();
    let only = std::env::var("LIE").ok();
    for lie in lies.iter().filter(|lie| only.as_deref().is_none_or(|only| lie.name == only)) {
        let Lie { name, tell, heard, alarm, get, ends } = lie;
        scene.reset();
        let evil = Evil::start(scene.world.address(), tell(&scene));
        scene.host.start();
        if let Some(what) = heard {
            evil.heard(name, what);
        }
        if let Some(code) = alarm {
            scene.await_alarm(name, code);
        }
        acts::get(name, &scene.host, *get);
        acts::check(name, acts::writes(&scene.host, &scene.line, SPARE), *ends);
        if alarm.is_none() {
            let alarms = scene.alarms();
            assert!(alarms.is_empty(), "{name}: {alarms:?}");
        }
        assert_eq!(scene.target(), before, "{name}: the target stays");
        assert_eq!(scene.host.hook_runs(), scene.hooks, "{name}: no hook runs");
        scene.host.stop();
    }
}

#[test]
fn names_are_distinct() {
    let mut names = std::collections::HashSet::new();
    assert!(all().all(|lie| names.insert(lie.name)));
}
