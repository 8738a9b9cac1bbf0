//! How long ago this machine last heard from the server, for targets with `max_stale`. Pure: the
//! clocks are passed in.
//!
//! Within one boot the time since the boot counts, suspended or not, which nobody sets. Over a
//! reboot only the calendar is left; a calendar that went back makes the age no smaller than it
//! was.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shared::time::Time;

/// How long the agent itself must have been without the server before anything is removed: after a
/// start or a sleep the network may need a moment.
const GRACE: Duration = Duration::from_secs(30);

/// What the clocks show.
pub(super) struct Now {
    /// The calendar.
    pub(super) time: Time,
    /// The time since the boot, suspended or not.
    pub(super) up: Duration,
    /// A time that stands still while the machine is suspended.
    pub(super) awake: Instant,
}

/// The last contact, as it is kept over restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastContact {
    /// The boot in which this was written.
    boot: String,
    /// The time since that boot, in microseconds.
    up: u64,
    /// How old the contact was then, in microseconds.
    age: u64,
    /// When it was, by the calendar.
    at: Time,
}

/// How old what this machine knows is.
#[derive(Debug)]
pub(super) struct Contact {
    boot: String,
    /// The age at `up`.
    age: Duration,
    up: Duration,
    at: Time,
    /// Since when the agent has been without the server, awake; `None` while it is connected.
    away: Option<Instant>,
}

/// Whether a target may hold what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The server was heard within the target's `max_stale`.
    Fresh,
    /// It was not, but the agent has not tried for long enough.
    Doubt,
    /// It was not.
    Lost,
}

impl Contact {
    /// Takes up what an earlier process knew; `synced` is what the engine's database has.
    pub(super) fn new(
        boot: String,
        kept: Option<LastContact>,
        synced: Option<Time>,
        now: &Now,
    ) -> Self {
        let by_calendar =
            |at: Time| Duration::from_micros(now.time.as_micros().saturating_sub(at.as_micros()));
        // The engine notes contacts once a minute, also when the agent is killed before it keeps
        // its own record.
        let newer = synced.filter(|at| kept.as_ref().is_none_or(|kept| *at > kept.at));
        let (age, at) = match (newer, kept) {
            (Some(at), _) => (by_calendar(at), at),
            (None, Some(kept)) => {
                let before = Duration::from_micros(kept.age);
                let age = if kept.boot == boot {
                    before + now.up.saturating_sub(Duration::from_micros(kept.up))
                } else {
                    before.max(by_calendar(kept.at))
                };
                (age, kept.at)
            }
            (None, None) => (Duration::ZERO, now.time),
        };
        Self { boot, age, up: now.up, at, away: Some(now.awake) }
    }

    /// Takes the news that the server is there, or when, in time since the boot, it was last heard
    /// by this process.
    pub(super) fn heard(&mut self, last: Option<Duration>, connected: bool, now: &Now) {
        let last = if connected { Some(now.up) } else { last };
        if let Some(last) = last.filter(|last| *last >= self.up) {
            self.age = Duration::ZERO;
            self.up = last;
            let ago = micros(now.up.saturating_sub(last));
            self.at = Time::from_micros(now.time.as_micros().saturating_sub(ago));
        }
        self.away = if connected { None } else { self.away.or(Some(now.awake)) };
    }

    /// Returns the age of what this machine knows.
    pub(super) fn age(&self, now: &Now) -> Duration {
        if self.away.is_none() { Duration::ZERO } else { self.age + now.up.saturating_sub(self.up) }
    }

    /// Judges a target that may be so old; tells how long that stays unless the server is heard,
    /// `None` if for ever.
    pub(super) fn judge(&self, most: Duration, now: &Now) -> (Reach, Option<Duration>) {
        let Some(away) = self.away else { return (Reach::Fresh, None) };
        let (age, grace) = (self.age(now), most.min(GRACE));
        let away = now.awake.saturating_duration_since(away);
        if age <= most {
            (Reach::Fresh, Some(most - age))
        } else if away < grace {
            (Reach::Doubt, Some(grace - away))
        } else {
            (Reach::Lost, None)
        }
    }

    /// Returns what the next process should know.
    pub(super) fn kept(&self, now: &Now) -> LastContact {
        LastContact {
            boot: self.boot.clone(),
            up: micros(now.up),
            age: micros(self.age(now)),
            at: if self.away.is_none() { now.time } else { self.at },
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    const HOUR: u64 = 3600;
    const DAY: Duration = Duration::from_secs(24 * HOUR);

    /// So many seconds on the calendar, since the boot, and awake.
    fn now(time: u64, up: u64, awake: u64) -> Now {
        Now {
            time: Time::from_micros(time * 1_000_000),
            up: Duration::from_secs(up),
            awake: *START + Duration::from_secs(awake),
        }
    }

    fn connected(at: &Now) -> Contact {
        let mut contact = Contact::new("boot-1".to_owned(), None, None, at);
        contact.heard(None, true, at);
        contact
    }

    #[test]
    fn age_counts_from_the_last_contact_and_a_day_is_a_day() {
        let start = now(1_000_000, 100, 100);
        let mut contact = connected(&start);
        assert_eq!(contact.judge(DAY, &now(9_000_000, 90_000_000, 200)).0, Reach::Fresh);
        contact.heard(Some(Duration::from_secs(150)), false, &now(1_000_060, 160, 160));
        let at = |up: u64| now(1_000_000 + up, up, up);
        assert_eq!(contact.age(&at(160)), Duration::from_secs(10));
        assert_eq!(contact.judge(DAY, &at(150 + 24 * HOUR)).0, Reach::Fresh);
        assert_eq!(contact.judge(DAY, &at(160)).1, Some(DAY - Duration::from_secs(10)));
        assert_eq!(contact.judge(DAY, &at(151 + 24 * HOUR)).0, Reach::Lost);
        contact.heard(None, true, &at(200 + 24 * HOUR));
        assert_eq!(contact.judge(DAY, &at(200 + 24 * HOUR)).0, Reach::Fresh);
    }

    #[test]
    fn a_machine_that_wakes_up_has_a_moment_to_connect() {
        let mut contact = connected(&now(0, 0, 0));
        let woken = now(3 * 24 * HOUR, 3 * 24 * HOUR, 60);
        contact.heard(Some(Duration::from_secs(50)), false, &woken);
        assert_eq!(contact.judge(DAY, &woken).0, Reach::Doubt);
        assert_eq!(contact.judge(DAY, &woken).1, Some(GRACE));
        let later = now(3 * 24 * HOUR + 30, 3 * 24 * HOUR + 30, 90);
        assert_eq!(contact.judge(DAY, &later).0, Reach::Lost);
    }

    #[test]
    fn a_calendar_that_jumps_changes_nothing_within_a_boot() {
        let mut contact = connected(&now(1_000_000, 100, 100));
        contact.heard(Some(Duration::from_secs(100)), false, &now(1_000_000, 100, 100));
        for time in [0, 1_000_000_000] {
            assert_eq!(contact.age(&now(time, 160, 160)), Duration::from_secs(60));
            let kept = contact.kept(&now(time, 160, 160));
            let restarted = now(time, 170, 0);
            let again = Contact::new("boot-1".to_owned(), Some(kept), None, &restarted);
            assert_eq!(again.age(&restarted), Duration::from_secs(70));
        }
    }

    #[test]
    fn over_a_reboot_the_calendar_counts_but_never_backwards() {
        let mut contact = connected(&now(1_000_000, 100, 100));
        contact.heard(Some(Duration::from_secs(100)), false, &now(1_000_000, 100, 100));
        let kept = contact.kept(&now(1_000_600, 700, 700));
        let age = |time: u64, synced: Option<u64>| {
            let start = now(time, 5, 5);
            let synced = synced.map(|at| Time::from_micros(at * 1_000_000));
            Contact::new("boot-2".to_owned(), Some(kept.clone()), synced, &start).age(&start)
        };
        assert_eq!(age(1_086_400, None), DAY);
        assert_eq!(age(0, None), Duration::from_secs(600), "no younger than it was");
        assert_eq!(age(1_086_400, Some(1_086_000)), Duration::from_secs(400));
    }

    #[test]
    fn a_start_judges_nothing_lost_before_it_has_tried() {
        let start = now(90_000_000, 10, 10);
        let synced = Some(Time::from_micros(1));
        let contact = Contact::new("boot-1".to_owned(), None, synced, &start);
        assert_eq!(contact.judge(DAY, &start).0, Reach::Doubt);
        assert_eq!(contact.judge(DAY, &now(90_000_030, 40, 40)).0, Reach::Lost);
        // A short limit is waited for just as long as it is.
        let second = Duration::from_secs(1);
        assert_eq!(contact.judge(second, &now(90_000_001, 11, 11)).0, Reach::Lost);
        // Who has never heard of a server counts from the start.
        let fresh = Contact::new("boot-1".to_owned(), None, None, &start);
        assert_eq!(fresh.age(&start), Duration::ZERO);
    }
}
