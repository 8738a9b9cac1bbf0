//! Which findings begin and which end: told once each, damped, over restarts. Pure; where findings
//! come from, and who is told, does not live here.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::time::Time;

use super::event::{Alarm, Event};

/// Findings that are followed at a time; more are not told.
pub const MOST: usize = 512;
/// Findings that are remembered after their end.
const RECENT: usize = 512;
/// How long a finding is remembered: one that comes back in this time flaps.
const MEMORY: Duration = Duration::from_secs(3_600);
/// The longest that a finding that flaps must be gone.
const CALMEST: Duration = Duration::from_secs(3_600);

/// What makes a finding the same as before, whatever its text says by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    /// The kind.
    pub code: String,
    /// The machine.
    pub machine: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// The secret, where each of a target stands by itself.
    pub secret: Option<String>,
    /// What tells it from others of its kind.
    pub subject: String,
}

/// A finding that is there now.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which.
    pub id: Id,
    /// How it reads now.
    pub alarm: Alarm,
}

/// How long something has to last before it is told.
#[derive(Clone, Copy, Debug)]
pub struct Damping {
    /// A beginning.
    pub begins: Duration,
    /// An end.
    pub ends: Duration,
}

/// What is followed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tracker {
    standing: Vec<Standing>,
    recent: Vec<Recent>,
}

/// A finding that is there, or has just gone.
#[derive(Debug, Serialize, Deserialize)]
struct Standing {
    id: Id,
    alarm: Alarm,
    /// When it was first seen.
    first: Time,
    /// Since when it is not seen any more.
    gone: Option<Time>,
    /// Whether its beginning was told.
    begun: bool,
    /// How often it has come back lately.
    again: u32,
}

/// A finding that was told and has ended.
#[derive(Debug, Serialize, Deserialize)]
struct Recent {
    id: Id,
    ended: Time,
    again: u32,
}

/// What a look has brought.
#[derive(Debug, Default, PartialEq)]
pub struct Step {
    /// What is to be told, in order.
    pub events: Vec<Event>,
    /// Whether there is something to be kept over a restart.
    pub changed: bool,
    /// Findings that are not followed, as there are too many.
    pub surplus: usize,
}

impl Tracker {
    /// Takes what is seen at `now`. What is not seen is gone only where `knows` says that it would
    /// be seen.
    pub fn step(
        &mut self,
        now: Time,
        seen: Vec<Seen>,
        knows: impl Fn(&Id) -> bool,
        damping: Damping,
    ) -> Step {
        let mut step = Step::default();
        let is_seen = |id: &Id| seen.iter().any(|it| it.id == *id);
        for it in &mut self.standing {
            if !is_seen(&it.id) && it.gone.is_none() && knows(&it.id) {
                it.gone = Some(now);
                step.changed = true;
            }
        }
        for it in seen {
            self.see(now, it, damping, &mut step);
        }
        self.end(now, damping, &mut step);
        step
    }

    fn see(&mut self, now: Time, Seen { id, alarm }: Seen, damping: Damping, step: &mut Step) {
        let found = self.standing.iter().position(|it| it.id == id);
        let at = match found {
            Some(at) => at,
            None if self.standing.len() >= MOST => {
                step.surplus += 1;
                return;
            }
            None => {
                let again = self.recent.iter().find(|it| it.id == id).map_or(0, |it| it.again + 1);
                let (first, gone, begun) = (now, None, false);
                let alarm = alarm.clone();
                self.standing.push(Standing { id, alarm, first, gone, begun, again });
                step.changed = true;
                self.standing.len() - 1
            }
        };
        let standing = &mut self.standing[at];
        step.changed |= standing.gone.take().is_some();
        let since = [standing.alarm.since, alarm.since].into_iter().flatten().min();
        standing.alarm = Alarm { since, ..alarm };
        if !standing.begun && has_passed(standing.first, now, damping.begins) {
            standing.begun = true;
            step.changed = true;
            step.events.push(Event::Begins(standing.alarm.clone()));
        }
    }

    /// Ends what has been gone for long enough, and forgets what ended long ago.
    fn end(&mut self, now: Time, damping: Damping, step: &mut Step) {
        let recent = &mut self.recent;
        recent.retain(|it| !has_passed(it.ended, now, MEMORY));
        self.standing.retain(|it| {
            let over = it.gone.is_some_and(|at| has_passed(at, now, calm(damping.ends, it.again)));
            if over {
                step.changed = true;
            }
            if over && it.begun {
                step.events.push(Event::Ends(it.alarm.clone()));
                recent.retain(|other| other.id != it.id);
                recent.push(Recent { id: it.id.clone(), ended: now, again: it.again });
            }
            !over
        });
        let surplus = recent.len().saturating_sub(RECENT);
        recent.drain(..surplus);
    }

    /// Drops what is not to be told any more, without a word.
    pub fn keep(&mut self, wanted: impl Fn(&Id) -> bool) {
        self.standing.retain(|it| wanted(&it.id));
    }

    /// Tells whether something waits for its time, so that it is looked again soon.
    pub fn is_waiting(&self) -> bool {
        self.standing.iter().any(|it| !it.begun || it.gone.is_some())
    }

    /// Returns how many findings stand whose beginning was told.
    #[cfg(test)]
    fn told(&self) -> usize {
        self.standing.iter().filter(|it| it.begun).count()
    }
}

/// Returns how long a finding that has come back so often has to be gone.
fn calm(ends: Duration, again: u32) -> Duration {
    let times = 1_u32 << again.min(12);
    ends.saturating_mul(times).min(CALMEST.max(ends))
}

/// Tells whether so long has passed; a clock that was set back makes it longer.
fn has_passed(since: Time, now: Time, span: Duration) -> bool {
    let passed = now.as_micros().saturating_sub(since.as_micros());
    u128::from(passed) >= span.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAMPING: Damping =
        Damping { begins: Duration::from_secs(10), ends: Duration::from_secs(30) };

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn seen(machine: &str, text: &str) -> Seen {
        let alarm = Alarm {
            code: "silent".to_owned(),
            machine: Some(machine.to_owned()),
            target: None,
            secret: None,
            text: text.to_owned(),
            since: Some(at(1)),
            todo: String::new(),
        };
        let id = Id {
            code: "silent".to_owned(),
            machine: Some(machine.to_owned()),
            target: None,
            secret: None,
            subject: String::new(),
        };
        Seen { id, alarm }
    }

    /// Looks once a second from one second to another, and names what is told and when.
    fn look(
        tracker: &mut Tracker,
        from: u64,
        to: u64,
        is_there: impl Fn(u64) -> bool,
    ) -> Vec<String> {
        let mut told = Vec::new();
        for second in from..to {
            let seen = is_there(second).then(|| seen("vps", "x"));
            let step = tracker.step(at(second), Vec::from_iter(seen), |_| true, DAMPING);
            told.extend(step.events.iter().map(|event| match event {
                Event::Begins(_) => format!("begins {second}"),
                _ => format!("ends {second}"),
            }));
        }
        told
    }

    #[test]
    fn a_beginning_and_an_end_are_told_once_each() {
        let mut tracker = Tracker::default();
        let told = look(&mut tracker, 0, 200, |second| (50..100).contains(&second));
        assert_eq!(told, ["begins 60", "ends 130"]);
        assert!(!tracker.is_waiting());
    }

    #[test]
    fn what_is_short_is_not_told_and_what_flickers_is_told_once() {
        let mut tracker = Tracker::default();
        assert!(look(&mut tracker, 0, 100, |second| (50..55).contains(&second)).is_empty());
        let mut tracker = Tracker::default();
        // On and off every three seconds, for five minutes.
        let told = look(&mut tracker, 0, 600, |second| second < 300 && second % 6 < 3);
        assert_eq!(told, ["begins 12", "ends 327"]);
    }

    #[test]
    fn what_comes_back_soon_has_to_be_gone_for_longer() {
        let mut tracker = Tracker::default();
        // A minute on, a minute off, for two hours.
        let told = look(&mut tracker, 0, 7_200, |second| second % 120 < 60);
        assert_eq!(told, ["begins 10", "ends 90", "begins 130"]);
        assert_eq!(look(&mut tracker, 7_200, 7_400, |_| false), ["ends 7200"]);
    }

    #[test]
    fn a_restart_tells_nothing_twice() {
        let mut tracker = Tracker::default();
        assert_eq!(look(&mut tracker, 0, 20, |_| true), ["begins 10"]);
        let kept = serde_json::to_string(&tracker).unwrap();
        let mut tracker: Tracker = serde_json::from_str(&kept).unwrap();
        assert!(look(&mut tracker, 100, 120, |_| true).is_empty());
        assert_eq!(look(&mut tracker, 120, 200, |_| false), ["ends 150"]);
    }

    #[test]
    fn what_nobody_can_see_does_not_end() {
        let mut tracker = Tracker::default();
        assert_eq!(look(&mut tracker, 0, 20, |_| true), ["begins 10"]);
        for second in 20..200 {
            let step = tracker.step(at(second), Vec::new(), |_| false, DAMPING);
            assert_eq!(step, Step::default());
        }
        assert_eq!(tracker.told(), 1);
    }

    #[test]
    fn a_text_that_changes_is_the_same_finding() {
        let mut tracker = Tracker::default();
        let once = Damping { begins: Duration::ZERO, ends: Duration::ZERO };
        let step = tracker.step(at(1), vec![seen("vps", "holds v1")], |_| true, once);
        assert_eq!(step.events.len(), 1);
        let step = tracker.step(at(2), vec![seen("vps", "holds v2")], |_| true, once);
        assert_eq!(step, Step::default());
    }

    #[test]
    fn more_than_can_be_followed_are_counted() {
        let mut tracker = Tracker::default();
        let many = (0..MOST + 5).map(|n| seen(&format!("m{n}"), "x")).collect();
        let step = tracker.step(at(1), many, |_| true, DAMPING);
        assert_eq!(step.surplus, 5);
        tracker.keep(|id| id.machine.as_deref() == Some("m3"));
        assert_eq!(tracker.standing.len(), 1);
    }
}
