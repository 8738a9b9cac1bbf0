//! Looks at the fleet as `vault status` does, again and again, for those who are told of alarms.

use std::sync::Arc;
use std::time::Duration;

use shared::time::Time;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::event::Alarm;
use super::track::{Id, Seen};
use crate::engine::Engine;
use host::clock;
use machine::findings::{Finding, Kind, each};
use machine::local::Status;

/// How often to look while nothing changes.
const CALM: Duration = Duration::from_secs(30);
/// How often to look while something is about to be told.
const SOON: Duration = Duration::from_secs(3);
/// The least time between two looks: news comes in bursts.
const PACE: Duration = Duration::from_secs(1);
/// How long the first look waits for the server.
const FIRST: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Clone, Debug)]
pub struct Look {
    /// When.
    pub at: Time,
    /// All findings.
    pub seen: Arc<Vec<Seen>>,
    /// Whether the server has said how the others stand; else what is theirs is not known.
    pub told: bool,
    /// This machine.
    pub own: String,
}

impl Look {
    /// Makes a look of a status.
    pub fn of(status: &Status, at: Time) -> Self {
        let seen = each(status).into_iter().map(|(finding, subject)| Seen {
            id: id(&finding, subject),
            alarm: Alarm::of(&finding),
        });
        let mut distinct: Vec<Seen> = Vec::new();
        for it in seen {
            if !distinct.iter().any(|other| other.id == it.id) {
                distinct.push(it);
            }
        }
        let own = status.machine.to_string();
        Self { at, seen: Arc::new(distinct), told: status.told, own }
    }

    /// Tells whether a finding that is not seen is gone: not so one of others while nobody says
    /// how they stand.
    pub fn knows(&self, id: &Id) -> bool {
        let is_own = id.machine.as_ref() == Some(&self.own);
        self.told || is_own || id.code == Kind::Server.word()
    }
}

/// What tells a finding from all others: of a hook or a file that lags, only which; how it reads
/// may change.
fn id(finding: &Finding, subject: String) -> Id {
    let Finding { kind, machine, target, secret, .. } = finding;
    // A target has one file and one hook, whatever secrets it holds.
    let per_secret = matches!(kind, Kind::Target(_) | Kind::Lags);
    Id {
        code: kind.word().to_owned(),
        machine: machine.as_ref().map(ToString::to_string),
        target: target.clone(),
        secret: secret.as_ref().filter(|_| per_secret).map(ToString::to_string),
        subject,
    }
}

/// Whether somebody is about to tell something, and wants to look soon.
#[derive(Debug)]
pub struct Hurry {
    all: Arc<watch::Sender<u64>>,
    is_hurried: bool,
}

impl Default for Hurry {
    fn default() -> Self {
        Self { all: Arc::new(watch::Sender::new(0)), is_hurried: false }
    }
}

impl Hurry {
    /// Makes one more who may be in a hurry.
    pub fn share(&self) -> Self {
        Self { all: Arc::clone(&self.all), is_hurried: false }
    }

    /// Says whether this one is.
    pub fn set(&mut self, is_hurried: bool) {
        if std::mem::replace(&mut self.is_hurried, is_hurried) != is_hurried {
            let change =
                |count: &mut u64| *count = if is_hurried { *count + 1 } else { *count - 1 };
            self.all.send_modify(change);
        }
    }

    /// Returns how many are, as it changes.
    pub fn followed(&self) -> watch::Receiver<u64> {
        self.all.subscribe()
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Looks until nobody listens any more; `hurried` tells how many are about to tell something.
pub async fn run(
    engine: Engine,
    looks: watch::Sender<Option<Look>>,
    mut hurried: watch::Receiver<u64>,
) {
    let mut changes = engine.changes();
    let _ = timeout(FIRST, engine.tried()).await;
    loop {
        changes.mark_unchanged();
        match engine.fleet().await {
            Ok(status) => drop(looks.send_replace(Some(Look::of(&status, clock::now())))),
            Err(why) => tracing::warn!("how all stand cannot be told to anybody: {why:#}"),
        }
        sleep(PACE).await;
        let is_hurried = *hurried.borrow_and_update() > 0;
        let pause = if is_hurried { SOON } else { CALM };
        tokio::select! {
            Ok(()) = changes.changed() => {}
            Ok(()) = hurried.changed() => {}
            () = sleep(pause.saturating_sub(PACE)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_in_no_hurry() {
        let hurry = Hurry::default();
        let followed = hurry.followed();
        let (mut one, mut other) = (hurry.share(), hurry.share());
        one.set(true);
        one.set(true);
        other.set(true);
        assert_eq!(*followed.borrow(), 2);
        drop(one);
        other.set(false);
        assert_eq!(*followed.borrow(), 0);
    }
}
