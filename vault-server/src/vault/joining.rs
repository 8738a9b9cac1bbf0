//! Strangers that ask to join: few, each for a day, none at another one's expense. Pure: judges
//! what it is told, with the time passed in. Who may ask, and what is on record, is `join`'s.

use std::collections::VecDeque;
use std::time::Duration;

use shared::text::Text;
use shared::time::Time;
use shared::token::MachineLine;
use shared::wire::v1::join::{WAITING, WAITS_SECONDS};

use crate::meter::Origin;

/// How long a request waits.
const WAITS: Duration = Duration::from_secs(WAITS_SECONDS);
/// How long an address waits before it may ask anew.
const EACH: Duration = Duration::from_mins(1);
/// Addresses remembered; of more, the one that has waited longest is forgotten.
const TRIED: usize = 256;

/// Who asks, and who has asked of late.
#[derive(Debug, Default)]
pub struct Joining {
    /// By when they came, the oldest first.
    waiting: Vec<Asking>,
    tried: VecDeque<(Origin, Duration)>,
}

/// A stranger that asks; its line is verified, and the key in it was the connection's.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Its line.
    pub line: MachineLine,
    /// The same, as it was sent.
    pub text: String,
    /// What its address counts as.
    pub of: Origin,
    /// Its address.
    pub addr: Text<64>,
    /// When it came, by the calendar.
    pub at: Time,
    /// When it came, on a clock that nobody sets.
    pub since: Duration,
    /// When it last asked how it stands, on the same clock.
    pub heard: Duration,
}

impl Joining {
    /// Tells whether the stranger with this key waits with this very line, and for how long it may.
    pub fn again(&mut self, key: &[u8; 32], text: &str, now: Duration) -> Option<Duration> {
        self.forget(now);
        let is_same = |it: &&mut Asking| it.line.sign.as_bytes() == key && it.text == text;
        let own = self.waiting.iter_mut().find(is_same)?;
        own.heard = now;
        Some(WAITS.saturating_sub(now.saturating_sub(own.since)))
    }

    /// Lets an address ask, once a minute.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn try_from(&mut self, of: Origin, now: Duration) -> Result<(), Duration> {
        self.tried.retain(|(_, at)| now.saturating_sub(*at) < EACH);
        if let Some((_, at)) = self.tried.iter().find(|(before, _)| *before == of) {
            return Err(EACH.saturating_sub(now.saturating_sub(*at)));
        }
        if self.tried.len() >= TRIED {
            self.tried.pop_front();
        }
        self.tried.push_back((of, now));
        Ok(())
    }

    /// Takes a request in, in the place of an earlier one with the same key. When there are too
    /// many, one goes of those that come from where most come from, the one that has not asked for
    /// the longest: a flood from one address pushes out its own.
    pub fn take(&mut self, asking: Asking) {
        self.forget(asking.since);
        self.waiting.retain(|it| it.line.sign != asking.line.sign);
        while self.waiting.len() >= WAITING {
            let count = |of: Origin| self.waiting.iter().filter(|it| it.of == of).count();
            // The newcomer counts, as among connections.
            let weight = |it: &Asking| count(it.of) + usize::from(it.of == asking.of);
            let most = self.waiting.iter().map(weight).max().unwrap_or_default();
            let heaviest = self.waiting.iter().enumerate().filter(|(_, it)| weight(it) == most);
            let Some((goes, _)) = heaviest.min_by_key(|(_, it)| it.heard) else { break };
            self.waiting.remove(goes);
        }
        self.waiting.push(asking);
    }

    /// Returns who waits, the oldest first, without those that `is_over` names: they wait no more.
    pub fn waiting(&mut self, is_over: impl Fn(&MachineLine) -> bool, now: Duration) -> &[Asking] {
        self.forget(now);
        self.waiting.retain(|it| !is_over(&it.line));
        &self.waiting
    }

    fn forget(&mut self, now: Duration) {
        self.waiting.retain(|it| now.saturating_sub(it.since) < WAITS);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use shared::keys::{Identity, SignKey};
    use shared::token::Line as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn origin(addr: &str) -> Origin {
        Origin::from(addr.parse::<IpAddr>().unwrap())
    }

    fn asking(name: &str, addr: &str, now: Duration) -> Asking {
        let recipient = Identity::generate().recipient();
        let line = MachineLine::new(name.parse().unwrap(), recipient, &SignKey::generate());
        let line = line.unwrap();
        let (text, of, addr) = (line.to_line().unwrap(), origin(addr), Text::lossy(addr));
        Asking { line, text, of, addr, at: Time::default(), since: now, heard: now }
    }

    fn names(joining: &mut Joining, now: Duration) -> Vec<String> {
        let all = joining.waiting(|_| false, now);
        all.iter().map(|it| it.line.name.to_string()).collect()
    }

    #[test]
    fn an_address_asks_once_a_minute() {
        let mut joining = Joining::default();
        let (one, other) = (origin("10.0.0.1"), origin("10.0.0.2"));
        assert_eq!(joining.try_from(one, 5 * SECOND), Ok(()));
        assert_eq!(joining.try_from(one, 6 * SECOND), Err(59 * SECOND));
        assert_eq!(joining.try_from(other, 6 * SECOND), Ok(()));
        assert_eq!(joining.try_from(one, 65 * SECOND), Ok(()));
        // What one IPv6 host may choose its addresses in is one address.
        assert_eq!(joining.try_from(origin("2001:db8::1"), 65 * SECOND), Ok(()));
        assert!(joining.try_from(origin("2001:db8::2"), 65 * SECOND).is_err());
        for n in 0..5_000_u32 {
            let _ = joining.try_from(IpAddr::from(n.to_be_bytes()).into(), 66 * SECOND);
        }
        assert_eq!(joining.tried.len(), TRIED);
    }

    #[test]
    fn a_request_waits_for_a_day_and_is_gone() {
        let mut joining = Joining::default();
        let one = asking("vps", "10.0.0.1", SECOND);
        let (key, text) = (*one.line.sign.as_bytes(), one.text.clone());
        joining.take(one);
        let hour = Duration::from_hours(1);
        assert_eq!(joining.again(&key, &text, SECOND + hour), Some(23 * hour));
        assert_eq!(joining.again(&key, "another line", SECOND + hour), None);
        assert_eq!(joining.again(&[0; 32], &text, SECOND + hour), None, "another's");
        // That it asks on and on does not prolong it.
        assert_eq!(joining.again(&key, &text, 24 * hour), Some(SECOND));
        assert_eq!(joining.again(&key, &text, SECOND + 24 * hour), None);
        assert!(names(&mut joining, SECOND + 24 * hour).is_empty());
    }

    #[test]
    fn one_key_has_one_request() {
        let mut joining = Joining::default();
        let one = asking("vps", "10.0.0.1", SECOND);
        let mut renamed = asking("nas", "10.0.0.1", 2 * SECOND);
        renamed.line.sign = one.line.sign.clone();
        joining.take(one);
        joining.take(renamed);
        assert_eq!(names(&mut joining, 2 * SECOND), ["nas"]);
    }

    #[test]
    fn one_address_pushes_out_its_own() {
        let mut joining = Joining::default();
        joining.take(asking("honest", "10.0.0.1", SECOND));
        for n in 0..100 {
            joining.take(asking(&format!("flood-{n}"), "10.0.0.2", (2 + n) * SECOND));
        }
        let left = names(&mut joining, 102 * SECOND);
        assert_eq!((left.len(), left[0].as_str()), (WAITING, "honest"));
        assert_eq!(left[1], "flood-85", "the oldest of the flood went");
    }

    #[test]
    fn of_many_addresses_the_one_that_asks_no_more_goes() {
        let mut joining = Joining::default();
        let honest = asking("honest", "10.0.0.1", SECOND);
        let (key, text) = (*honest.line.sign.as_bytes(), honest.text.clone());
        joining.take(honest);
        for n in 0..100_u32 {
            let now = (2 + n) * SECOND;
            assert!(joining.again(&key, &text, now).is_some(), "it waits on");
            joining.take(asking(&format!("flood-{n}"), &format!("10.0.1.{n}"), now));
        }
        assert_eq!(names(&mut joining, 102 * SECOND).len(), WAITING);
    }

    #[test]
    fn those_who_have_joined_wait_no_more() {
        let mut joining = Joining::default();
        joining.take(asking("vps", "10.0.0.1", SECOND));
        joining.take(asking("nas", "10.0.0.2", SECOND));
        let left = joining.waiting(|line| line.name.as_str() == "vps", SECOND);
        assert_eq!(left.len(), 1);
        assert_eq!(names(&mut joining, SECOND), ["nas"]);
    }
}
