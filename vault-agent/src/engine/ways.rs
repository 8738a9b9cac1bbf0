//! Ways to the server: the addresses there are, how each has answered, and in which order they are
//! tried. Connecting is `reach`'s, looking for a better way `look`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use machine::remote::Wave;

/// The head start of the address that was good last: while it answers, the others are not asked.
const HEAD_START: Duration = Duration::from_millis(30);
/// By how much another way has to be quicker to be a better one. Two that are alike must not take
/// turns.
const MARGIN: Duration = Duration::from_millis(10);
/// How much later an address is tried that led to a server whose log is refused.
const REFUSED: Duration = Duration::from_secs(1);

/// The ways, and what is known of them since the start.
#[derive(Default)]
pub(super) struct Ways(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Those of the configuration.
    listed: Vec<String>,
    /// The one through which the server's head was reached last.
    good: Option<String>,
    of: BTreeMap<String, Way>,
}

/// How an address has answered.
#[derive(Clone, Copy, Default)]
struct Way {
    /// How long connecting took at its quickest, in this network: a moment in which a host has much
    /// to do says nothing of the way.
    took: Option<Duration>,
    /// Whether the log behind it was refused, and not followed since.
    refused: bool,
}

impl Ways {
    /// Takes the addresses of the configuration.
    pub(super) fn list(&self, listed: &[String]) {
        self.lock().listed = listed.to_vec();
    }

    /// Returns all addresses: those of the configuration, or of the pins if it has none, and those
    /// that the owners have signed. Forgets how others have answered.
    pub(super) fn all<T: ToString>(&self, signed: &[T], pinned: &[String]) -> Vec<String> {
        let mut known = self.lock();
        let mut all = known.listed.clone();
        if all.is_empty() {
            all.extend_from_slice(pinned);
        }
        all.extend(signed.iter().map(ToString::to_string));
        let mut seen = BTreeSet::new();
        all.retain(|address| seen.insert(address.clone()));
        // Those of the pins are sought when no other answers.
        known.of.retain(|address, _| seen.contains(address) || pinned.contains(address));
        all
    }

    /// Returns in which order to connect: the good one, a moment later all others.
    pub(super) fn waves(&self, all: &[String]) -> Vec<Wave> {
        let known = self.lock();
        let good = known.good.as_ref().filter(|good| !known.way(good).refused);
        known.order(all, good.map(String::as_str), HEAD_START)
    }

    /// Returns in which order to look whether there is a better way than by `current`.
    pub(super) fn contest(&self, all: &[String], current: &str) -> Vec<Wave> {
        let mut waves = self.lock().order(all, Some(current), MARGIN);
        // What is refused is no better way.
        waves.truncate(2);
        waves
    }

    /// Returns the addresses beside `current`, those last that were refused.
    pub(super) fn others(&self, all: &[String], current: &str) -> Vec<Wave> {
        let mut waves = self.lock().order(all, Some(current), Duration::ZERO);
        waves.remove(0);
        waves
    }

    /// Tells whether another address may be better than `current`: it was once, or has never
    /// answered in this network.
    pub(super) fn may_be_better(&self, all: &[String], current: &str) -> bool {
        let known = self.lock();
        let now = known.way(current).took.unwrap_or(Duration::MAX);
        all.iter().filter(|other| *other != current).any(|other| {
            let Way { took, refused } = known.way(other);
            !refused && took.is_none_or(|took| took.saturating_add(MARGIN) < now)
        })
    }

    /// Notes that an address has answered.
    pub(super) fn answered(&self, address: &str, took: Duration) {
        let mut known = self.lock();
        let best = &mut known.of.entry(address.to_owned()).or_default().took;
        *best = Some(best.map_or(took, |before| before.min(took)));
    }

    /// Notes that the server's head was reached through an address.
    pub(super) fn followed(&self, address: &str) {
        let mut known = self.lock();
        if known.good.as_deref() == Some(address) && !known.way(address).refused {
            return;
        }
        known.good = Some(address.to_owned());
        known.of.entry(address.to_owned()).or_default().refused = false;
    }

    /// Notes that the log behind an address was refused.
    pub(super) fn refused(&self, address: &str) {
        self.lock().of.entry(address.to_owned()).or_default().refused = true;
    }

    /// Notes that this host is in another network: everything may be nearer or farther.
    pub(super) fn moved(&self) {
        self.lock().of.values_mut().for_each(|way| way.took = None);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn way(&self, address: &str) -> Way {
        self.of.get(address).copied().unwrap_or_default()
    }

    /// Returns `first`, `after` that the others, and last those that were refused.
    fn order(&self, all: &[String], first: Option<&str>, after: Duration) -> Vec<Wave> {
        let (first, rest): (Vec<_>, Vec<_>) =
            all.iter().cloned().partition(|address| Some(address.as_str()) == first);
        let (refused, others) = rest.into_iter().partition(|address| self.way(address).refused);
        let after = if first.is_empty() { Duration::ZERO } else { after };
        vec![
            Wave { addresses: first, after: Duration::ZERO },
            Wave { addresses: others, after },
            Wave { addresses: refused, after: REFUSED },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: &str = "192.168.17.1:8443";
    const VPN: &str = "10.8.0.3:8443";
    const OLD: &str = "10.8.0.9:8443";

    fn ways(listed: &[&str]) -> (Ways, Vec<String>) {
        let (ways, listed) = (Ways::default(), listed.iter().map(ToString::to_string));
        ways.list(&listed.collect::<Vec<_>>());
        let all = ways.all::<&str>(&[], &[]);
        (ways, all)
    }

    /// The order as text: `first | others | refused`.
    fn order(waves: &[Wave]) -> String {
        let waves = waves.iter().map(|wave| wave.addresses.join(" "));
        waves.collect::<Vec<_>>().join(" | ")
    }

    fn millis(took: u64) -> Duration {
        Duration::from_millis(took)
    }

    #[test]
    fn pins_stand_in_for_the_configuration_and_owners_add_to_it() {
        let pinned = ["pinned:1".to_owned()];
        assert_eq!(ways(&[]).0.all::<&str>(&[], &pinned), pinned);
        assert_eq!(ways(&[]).0.all(&[VPN], &pinned), ["pinned:1", VPN]);
        assert_eq!(ways(&[LAN, VPN, LAN]).0.all(&[VPN, OLD], &pinned), [LAN, VPN, OLD]);
    }

    #[test]
    fn the_good_one_has_a_head_start_and_a_refused_one_waits() {
        let (ways, all) = ways(&[OLD, LAN, VPN]);
        assert_eq!(order(&ways.waves(&all)), format!(" | {OLD} {LAN} {VPN} | "));
        assert!(ways.waves(&all)[1].after.is_zero(), "nobody to wait for");
        ways.followed(VPN);
        assert_eq!(order(&ways.waves(&all)), format!("{VPN} | {OLD} {LAN} | "));
        ways.refused(OLD);
        assert_eq!(order(&ways.waves(&all)), format!("{VPN} | {LAN} | {OLD}"));
        assert_eq!(order(&ways.contest(&all, LAN)), format!("{LAN} | {VPN}"));
        assert_eq!(order(&ways.others(&all, LAN)), format!("{VPN} | {OLD}"));
        ways.refused(VPN);
        assert_eq!(order(&ways.waves(&all)), format!(" | {LAN} | {OLD} {VPN}"));
        ways.followed(OLD);
        assert_eq!(order(&ways.waves(&all)), format!("{OLD} | {LAN} | {VPN}"));
        // The last good one is not listed any more.
        let rest = [LAN.to_owned(), VPN.to_owned()];
        assert_eq!(order(&ways.waves(&rest)), format!(" | {LAN} | {VPN}"));
    }

    #[test]
    fn what_is_refused_stays_so_while_it_is_sought_wherever_it_is_named() {
        let pinned = [OLD.to_owned(), LAN.to_owned()];
        let again = |ways: &Ways, listed: &[String], signed: &[&str], pinned: &[String]| {
            ways.list(listed);
            order(&ways.waves(&ways.all(signed, pinned)))
        };
        // The old copy is nearer than the server, and answers first at every try.
        let ways = Ways::default();
        assert_eq!(again(&ways, &[], &[], &pinned), format!(" | {OLD} {LAN} | "));
        ways.refused(OLD);
        assert_eq!(again(&ways, &[], &[], &pinned), format!(" | {LAN} | {OLD}"));
        let listed = [VPN.to_owned()];
        assert_eq!(again(&ways, &listed, &[], &pinned), format!(" | {VPN} | "));
        assert_eq!(again(&ways, &[], &[VPN, OLD], &pinned[1..]), format!(" | {LAN} {VPN} | {OLD}"));
        assert_eq!(again(&ways, &pinned, &[], &[]), format!(" | {LAN} | {OLD}"));
        // One that was not sought in between is like new.
        assert_eq!(again(&ways, &listed, &[], &[]), format!(" | {VPN} | "));
        assert_eq!(again(&ways, &pinned, &[], &[]), format!(" | {OLD} {LAN} | "));
    }

    #[test]
    fn a_better_way_is_one_that_was_quicker_or_has_never_answered() {
        let (ways, all) = ways(&[LAN, VPN]);
        ways.answered(VPN, millis(120));
        assert!(ways.may_be_better(&all, VPN), "nobody knows how near the LAN is");
        assert!(!ways.may_be_better(&all[1..], VPN), "there is no other");
        ways.answered(LAN, millis(3));
        assert!(ways.may_be_better(&all, VPN), "it was better");
        ways.answered(LAN, millis(200));
        assert!(ways.may_be_better(&all, VPN), "it was only busy");
        assert!(!ways.may_be_better(&all, LAN), "the best one: nothing is looked for");
        ways.answered(VPN, millis(12));
        assert!(!ways.may_be_better(&all, VPN), "as good as the other");
        ways.moved();
        assert!(ways.may_be_better(&all, VPN), "another network");
        ways.refused(LAN);
        assert!(!ways.may_be_better(&all, VPN), "another vault's, or an old copy");
    }
}
