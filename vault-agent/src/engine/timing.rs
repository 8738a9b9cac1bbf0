//! What time it is for the vault: the time that an entry bears, whether this machine's clock is
//! right, and by which time ages are judged (design/trust, *Time*). Pure.

use std::time::Duration;

use shared::limits;
use shared::time::Time;

/// Returns the time of an entry: this machine's, or that of the entry before if it is a little
/// ahead, so that versions do not go back in time where clocks are seconds apart.
pub(super) fn of_entry(now: Time, before: Time) -> Time {
    if now < before && before.apart(now) <= limits::CLOCK { before } else { now }
}

/// Says so if this machine's clock is not that of the server, which has answered with its own time
/// to a question that `took` so long.
pub(super) fn off(now: Time, took: Duration, server: Time) -> Option<String> {
    let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let asked = Time::from_micros(now.as_micros().saturating_sub(took));
    let apart = if (asked..=now).contains(&server) {
        0
    } else {
        server.apart(now).min(server.apart(asked))
    };
    let text = || format!("this machine's clock says {now}, the server's says {server}");
    (apart > limits::CLOCK_UNNOTICED).then(text)
}

/// Returns by how many seconds another machine's clock was ahead of the server's when its report
/// came in, if it was off by minutes.
pub(super) fn seconds_off(theirs: Time, server: Time) -> Option<i64> {
    let apart = i64::try_from(theirs.apart(server) / 1_000_000).unwrap_or(i64::MAX);
    let is_off = theirs.apart(server) > limits::CLOCK_UNNOTICED;
    is_off.then_some(if theirs > server { apart } else { -apart })
}

/// Returns the time by which it is judged what is too old: with a clock that is wrong nothing is,
/// and files stay as they are. A process that has not heard the server cannot tell whether its
/// clock is right: nothing grows older than it was at the `last` sync of an earlier one.
pub(super) fn for_ages(now: Time, is_off: bool, last: Option<Time>) -> Time {
    if is_off { Time::default() } else { last.map_or(now, |last| last.min(now)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;
    const DAY: u64 = 24 * 60 * MINUTE;
    const NOW: u64 = 1_795_464_000;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn an_entry_follows_the_one_before_if_clocks_nearly_agree() {
        for (before, expected) in [
            (NOW - DAY, NOW),
            (NOW - 1, NOW),
            (NOW, NOW),
            (NOW + 1, NOW + 1),
            (NOW + 5 * MINUTE, NOW + 5 * MINUTE),
            (NOW + 5 * MINUTE + 1, NOW),
            (NOW + 4000 * DAY, NOW),
            (0, NOW),
        ] {
            assert_eq!(of_entry(at(NOW), at(before)), at(expected), "{before}");
        }
        assert_eq!(of_entry(Time::default(), Time::from_micros(u64::MAX)), Time::default());
    }

    #[test]
    fn a_clock_that_is_minutes_off_is_noticed() {
        for (server, took, is_off) in [
            (NOW, 0, false),
            (NOW - 2 * MINUTE, 0, false),
            (NOW + 2 * MINUTE, 0, false),
            (NOW - 2 * MINUTE - 1, 0, true),
            (NOW + 2 * MINUTE + 1, 0, true),
            // The answer was under way for a while.
            (NOW - 3 * MINUTE, 3 * MINUTE, false),
            (NOW - 6 * MINUTE, 3 * MINUTE, true),
            (NOW - 2 * DAY, 0, true),
            (0, 0, true),
            (NOW + 4000 * DAY, 20, true),
        ] {
            let found = off(at(NOW), Duration::from_secs(took), at(server));
            assert_eq!(found.is_some(), is_off, "{server}");
        }
        let text = off(at(NOW), Duration::ZERO, at(NOW - DAY)).unwrap();
        let expected = "this machine's clock says 2026-11-23T20:00:00Z, the server's says \
                        2026-11-22T20:00:00Z";
        assert_eq!(text, expected);
        assert!(off(Time::default(), Duration::MAX, Time::from_micros(u64::MAX)).is_some());
    }

    #[test]
    fn another_machines_clock_is_off_by_minutes_or_not_at_all() {
        let off = |theirs| seconds_off(at(theirs), at(NOW));
        assert_eq!(off(NOW), None);
        assert_eq!((off(NOW + 2 * MINUTE), off(NOW - 2 * MINUTE)), (None, None));
        assert_eq!(off(NOW + 3 * MINUTE), Some(180));
        assert_eq!(off(NOW - 2 * DAY), Some(-172_800));
        assert_eq!(
            seconds_off(Time::from_micros(u64::MAX), Time::default()).map(|it| it > 0),
            Some(true)
        );
    }

    #[test]
    fn with_a_wrong_clock_nothing_is_too_old() {
        assert_eq!(for_ages(at(NOW), false, None), at(NOW));
        assert_eq!(for_ages(at(NOW), true, None), Time::default());
        assert_eq!(for_ages(at(NOW), true, Some(at(NOW - DAY))), Time::default());
    }

    #[test]
    fn before_the_server_is_heard_nothing_grows_older() {
        assert_eq!(for_ages(at(NOW), false, Some(at(NOW - DAY))), at(NOW - DAY));
        // A clock that has been set back since does not make anything younger than it says.
        assert_eq!(for_ages(at(NOW - DAY), false, Some(at(NOW))), at(NOW - DAY));
    }
}
