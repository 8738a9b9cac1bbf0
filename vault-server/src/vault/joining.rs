//! Strangers that ask to join: few, each for a day, none at another one's expense. Pure: judges
//! what it is told, with the time passed in. Who may ask, and what is on record, is `join`'s.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use shared::text::Text;
use shared::time::Time;
use shared::token::MachineLine;
use shared::wire::v1::join::{WAITING, WAITS_SECONDS};

/// Answers that are held at once: each takes a place among strangers.
pub const HELD: usize = 16;
/// How long a request waits.
const WAITS: Duration = Duration::from_secs(WAITS_SECONDS);
/// How many hosts a site may have ask at once, such as all of a house that is set up.
const AT_ONCE: u32 = 16;
/// How often it may after that.
const EACH: Duration = Duration::from_secs(4);
/// Sites remembered; of more, the one that may ask soonest is forgotten.
const TRIED: usize = 256;
/// How long a host that was not heard still counts as waiting: one that waits asks twice a minute.
const LIVELY: Duration = Duration::from_mins(2);
/// How long a host waits that found no place.
const FULL: Duration = Duration::from_secs(30);

/// Where a request comes from: an IPv4 address, behind which a whole house may be, or the network
/// that one IPv6 site can choose its addresses in (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site(u128);

impl From<IpAddr> for Site {
    fn from(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(addr) => Self(addr.to_bits().into()),
            IpAddr::V6(addr) => Self(addr.to_bits() >> 80 << 80 | 1 << 32),
        }
    }
}

/// Who asks, and who has asked of late.
#[derive(Debug, Default)]
pub struct Joining {
    /// By when they came, the oldest first.
    waiting: Vec<Asking>,
    /// When each site may have as many ask at once as at first.
    tried: VecDeque<(Site, Duration)>,
}

/// A stranger that asks; its line is verified, and the key in it was the connection's.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Its line.
    pub line: MachineLine,
    /// The same, as it was sent.
    pub text: String,
    /// Where it comes from.
    pub of: Site,
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

    /// Lets a host of a site ask, if there is a place for the key and not too many have asked.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn try_from(&mut self, of: Site, key: &[u8; 32], now: Duration) -> Result<(), Duration> {
        self.forget(now);
        self.place(of, key, now)?;
        self.tried.retain(|(_, whole)| *whole > now);
        let tried = self.tried.iter().position(|(before, _)| *before == of);
        let whole = tried.map_or(now, |at| self.tried[at].1);
        let soonest = whole.saturating_sub(EACH * (AT_ONCE - 1));
        if soonest > now {
            return Err(soonest - now);
        }
        match tried {
            Some(at) => drop(self.tried.remove(at)),
            None if self.tried.len() >= TRIED => drop(self.tried.pop_front()),
            None => {}
        }
        let at = self.tried.partition_point(|(_, other)| *other <= whole + EACH);
        self.tried.insert(at, (of, whole + EACH));
        Ok(())
    }

    /// Takes a request in, in the place of an earlier one with the same key.
    ///
    /// # Errors
    /// How long it has to wait, as there is no place.
    pub fn take(&mut self, asking: Asking) -> Result<(), Duration> {
        let key = asking.line.sign.as_bytes();
        self.forget(asking.since);
        if let Some(goes) = self.place(asking.of, key, asking.since)? {
            self.waiting.remove(goes);
        }
        self.waiting.push(asking);
        Ok(())
    }

    /// Returns which request gives its place to one from `of` with this key: an earlier one with
    /// the key; none while there is room; else, from where most come from, the one that has not
    /// asked for the longest. One that still asks makes room only for a site that has fewer: nobody
    /// pushes out those who wait beside them, and many from one address none from elsewhere.
    fn place(&self, of: Site, key: &[u8; 32], now: Duration) -> Result<Option<usize>, Duration> {
        if let Some(own) = self.waiting.iter().position(|it| it.line.sign.as_bytes() == key) {
            return Ok(Some(own));
        }
        if self.waiting.len() < WAITING {
            return Ok(None);
        }
        let count = |of: Site| self.waiting.iter().filter(|it| it.of == of).count();
        // The newcomer counts, as among connections.
        let weight = |it: &Asking| count(it.of) + usize::from(it.of == of);
        let most = self.waiting.iter().map(weight).max().unwrap_or_default();
        let heaviest = self.waiting.iter().enumerate().filter(|(_, it)| weight(it) == most);
        let goes = heaviest.min_by_key(|(_, it)| it.heard);
        let gives_way =
            |it: &Asking| now.saturating_sub(it.heard) >= LIVELY || most > count(of) + 1;
        goes.filter(|(_, it)| gives_way(it)).map(|(at, _)| Some(at)).ok_or(FULL)
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
    use shared::keys::{Identity, SignKey};
    use shared::token::Line as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// No host's.
    const NOBODY: [u8; 32] = [0; 32];

    fn site(addr: &str) -> Site {
        Site::from(addr.parse::<IpAddr>().unwrap())
    }

    fn asking(name: &str, addr: &str, now: Duration) -> Asking {
        let recipient = Identity::generate().recipient();
        let line = MachineLine::new(name.parse().unwrap(), recipient, &SignKey::generate());
        let line = line.unwrap();
        let (text, of, addr) = (line.to_line().unwrap(), site(addr), Text::lossy(addr));
        Asking { line, text, of, addr, at: Time::default(), since: now, heard: now }
    }

    fn names(joining: &mut Joining, now: Duration) -> Vec<String> {
        let all = joining.waiting(|_| false, now);
        all.iter().map(|it| it.line.name.to_string()).collect()
    }

    /// Counts those whose names begin like this.
    fn count(joining: &mut Joining, name: &str, now: Duration) -> usize {
        names(joining, now).iter().filter(|it| it.starts_with(name)).count()
    }

    /// Has so many hosts ask from an address; returns them, and how many were taken.
    fn many(
        joining: &mut Joining,
        name: &str,
        addr: &str,
        hosts: usize,
        now: Duration,
    ) -> (Vec<Asking>, usize) {
        let all: Vec<Asking> =
            (0..hosts).map(|n| asking(&format!("{name}-{n}"), addr, now)).collect();
        let taken = all.iter().filter(|it| joining.take((*it).clone()).is_ok()).count();
        (all, taken)
    }

    #[test]
    fn a_house_behind_one_address_asks_at_once_and_a_flood_does_not() {
        let mut joining = Joining::default();
        let (one, other) = (site("10.0.0.1"), site("10.0.0.2"));
        let mut tries = |of, now| joining.try_from(of, &NOBODY, now);
        for _ in 0..AT_ONCE {
            assert_eq!(tries(one, 5 * SECOND), Ok(()));
        }
        assert_eq!(tries(one, 5 * SECOND), Err(EACH));
        assert_eq!(tries(one, 6 * SECOND), Err(EACH - SECOND));
        assert_eq!(tries(other, 6 * SECOND), Ok(()));
        assert_eq!(tries(one, 5 * SECOND + EACH), Ok(()));
        assert_eq!(tries(one, 5 * SECOND + EACH), Err(EACH));
        for n in 0..5_000_u32 {
            let _ = tries(IpAddr::from(n.to_be_bytes()).into(), 66 * SECOND);
        }
        assert_eq!(joining.tried.len(), TRIED);
    }

    #[test]
    fn what_one_site_may_choose_its_addresses_in_is_one() {
        assert_eq!(site("2001:db8:7::1"), site("2001:db8:7:ffff::2"));
        assert_ne!(site("2001:db8:7::1"), site("2001:db8:8::1"));
        assert_ne!(site("::ffff:10.0.0.1"), site("::ffff:10.0.0.2"));
        assert_eq!(site("::ffff:10.0.0.1"), site("10.0.0.1"));
    }

    #[test]
    fn a_request_waits_for_a_day_and_is_gone() {
        let mut joining = Joining::default();
        let one = asking("vps", "10.0.0.1", SECOND);
        let (key, text) = (*one.line.sign.as_bytes(), one.text.clone());
        joining.take(one).unwrap();
        let hour = Duration::from_hours(1);
        assert_eq!(joining.again(&key, &text, SECOND + hour), Some(23 * hour));
        assert_eq!(joining.again(&key, "another line", SECOND + hour), None);
        assert_eq!(joining.again(&NOBODY, &text, SECOND + hour), None, "another's");
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
        joining.take(one).unwrap();
        joining.take(renamed).unwrap();
        assert_eq!(names(&mut joining, 2 * SECOND), ["nas"]);
    }

    #[test]
    fn hosts_behind_one_address_do_not_push_each_other_out() {
        let mut joining = Joining::default();
        let (lab, taken) = many(&mut joining, "lab", "10.0.0.1", WAITING + 5, SECOND);
        assert_eq!(taken, WAITING);
        let first: Vec<String> = lab[..WAITING].iter().map(|it| it.line.name.to_string()).collect();
        assert_eq!(names(&mut joining, SECOND), first, "the others wait until one was approved");
        let late = *lab[WAITING].line.sign.as_bytes();
        assert_eq!(joining.try_from(lab[0].of, &late, SECOND), Err(FULL));
        // Neither checked nor counted: there is no place. One that waits may change its line.
        assert!(joining.tried.is_empty());
        let own = *lab[0].line.sign.as_bytes();
        assert_eq!(joining.try_from(lab[0].of, &own, SECOND), Ok(()));
        // One that is gone makes room for one that asks.
        let later = LIVELY + SECOND;
        for it in &lab[1..WAITING] {
            assert!(joining.again(it.line.sign.as_bytes(), &it.text, later).is_some());
        }
        joining.take(Asking { since: later, heard: later, ..lab[WAITING].clone() }).unwrap();
        let left = names(&mut joining, later);
        assert_eq!((left.len(), left.contains(&"lab-0".to_owned())), (WAITING, false));
        assert_eq!(left.last().unwrap(), &format!("lab-{WAITING}"));
    }

    #[test]
    fn many_from_one_address_keep_nobody_from_elsewhere_out() {
        let mut joining = Joining::default();
        joining.take(asking("honest", "10.0.0.1", SECOND)).unwrap();
        let (_, taken) = many(&mut joining, "flood", "10.0.0.2", 100, SECOND);
        assert_eq!(taken, WAITING - 1);
        // A house that is set up meanwhile gets half of the places, and keeps them.
        let (_, taken) = many(&mut joining, "lab", "10.0.0.3", 100, SECOND);
        assert_eq!((taken, count(&mut joining, "lab", SECOND)), (31, 31));
        let (_, taken) = many(&mut joining, "flood", "10.0.0.2", 100, SECOND);
        assert_eq!((taken, count(&mut joining, "honest", SECOND)), (0, 1));
        // Another flood takes of both, and a single host is nobody's prey.
        let _ = many(&mut joining, "second", "10.0.0.4", 100, SECOND);
        assert_eq!(count(&mut joining, "honest", SECOND), 1);
        assert!(count(&mut joining, "lab", SECOND) >= 20, "{:?}", names(&mut joining, SECOND));
    }

    #[test]
    fn from_everywhere_one_that_asks_no_more_goes_and_one_that_waits_stays() {
        let mut joining = Joining::default();
        let honest = asking("honest", "10.0.0.1", SECOND);
        let (key, text) = (*honest.line.sign.as_bytes(), honest.text.clone());
        joining.take(honest).unwrap();
        for n in 0..200_u32 {
            let now = (2 + 2 * n) * SECOND;
            assert!(joining.again(&key, &text, now).is_some(), "it waits on");
            let _ = joining.take(asking(&format!("flood-{n}"), &format!("10.0.1.{n}"), now));
        }
        let left = names(&mut joining, 402 * SECOND);
        assert_eq!((left.len(), left[0].as_str()), (WAITING, "honest"));
        assert_ne!(left[1], "flood-0");
    }

    #[test]
    fn those_who_have_joined_wait_no_more() {
        let mut joining = Joining::default();
        joining.take(asking("vps", "10.0.0.1", SECOND)).unwrap();
        joining.take(asking("nas", "10.0.0.2", SECOND)).unwrap();
        let left = joining.waiting(|line| line.name.as_str() == "vps", SECOND);
        assert_eq!(left.len(), 1);
        assert_eq!(names(&mut joining, SECOND), ["nas"]);
    }
}
