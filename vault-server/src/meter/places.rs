//! Who may stay connected: machines by their number, and everybody whose key is not known yet.
//! Which connection goes when there are too many is decided here; how it ends is not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::log::Number;
use tokio::sync::oneshot;

/// Where a stranger comes from: an IPv4 address, or the network that one IPv6 host can choose its
/// addresses in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(u128);

impl From<IpAddr> for Origin {
    fn from(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(addr) => Self(addr.to_bits().into()),
            IpAddr::V6(addr) => Self(addr.to_bits() >> 64 << 64 | 1 << 32),
        }
    }
}

/// All places.
#[derive(Clone, Debug)]
pub struct Places {
    /// Strangers and unfinished handshakes, in all.
    lobby: Arc<Mutex<List<Origin>>>,
    lobby_most: usize,
    /// Connections of machines.
    members: Arc<Mutex<List<Number>>>,
    each_most: usize,
}

#[derive(Debug)]
struct List<K> {
    next: u64,
    /// Oldest first.
    taken: Vec<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    id: u64,
    of: K,
    requests: Arc<AtomicUsize>,
    /// Dropped to end the connection.
    _stay: oneshot::Sender<()>,
}

/// A place; dropping it leaves.
#[derive(Debug)]
pub struct Place<K> {
    list: Arc<Mutex<List<K>>>,
    id: u64,
    told: oneshot::Receiver<()>,
}

impl<K> Place<K> {
    /// Waits until another one needs the place.
    pub async fn told_to_go(&mut self) {
        let _ = (&mut self.told).await;
    }
}

impl<K> Drop for Place<K> {
    fn drop(&mut self) {
        lock(&self.list).taken.retain(|taken| taken.id != self.id);
    }
}

fn lock<K>(list: &Mutex<List<K>>) -> MutexGuard<'_, List<K>> {
    // Every change under the lock is a single step: a panic elsewhere leaves it whole.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Copy + PartialEq> List<K> {
    const fn new() -> Self {
        Self { next: 0, taken: Vec::new() }
    }

    fn enter(&mut self, of: K, requests: Arc<AtomicUsize>) -> (u64, oneshot::Receiver<()>) {
        let (_stay, told) = oneshot::channel();
        let id = self.next;
        self.next += 1;
        self.taken.push(Taken { id, of, requests, _stay });
        (id, told)
    }

    fn count(&self, of: K) -> usize {
        self.taken.iter().filter(|taken| taken.of == of).count()
    }
}

impl Places {
    /// Makes places for `lobby` strangers, and for `each` connections of a machine.
    pub fn new(lobby: usize, each: usize) -> Self {
        let (strangers, members) = (Mutex::new(List::new()), Mutex::new(List::new()));
        Self {
            lobby: Arc::new(strangers),
            lobby_most: lobby,
            members: Arc::new(members),
            each_most: each,
        }
    }

    /// Lets a connection in whose key is not known, or is no machine's. When there are too many,
    /// the oldest goes of those that come from where most come from: a flood from one host pushes
    /// out its own, and a handshake from elsewhere has the time that it needs.
    pub fn stranger(&self, addr: IpAddr) -> Place<Origin> {
        let of = Origin::from(addr);
        let mut list = lock(&self.lobby);
        while list.taken.len() >= self.lobby_most.max(1) {
            // The newcomer counts: with as many as another it is its own turn.
            let mut from: BTreeMap<Origin, usize> = [(of, 1)].into();
            for taken in &list.taken {
                *from.entry(taken.of).or_default() += 1;
            }
            let most = from.values().max();
            let Some(goes) = list.taken.iter().position(|taken| from.get(&taken.of) == most) else {
                break;
            };
            list.taken.remove(goes);
        }
        let (id, told) = list.enter(of, Arc::default());
        Place { list: Arc::clone(&self.lobby), id, told }
    }

    /// Lets a machine's connection in: always. Its oldest one without a request goes, or its oldest
    /// one: those that hang after a change of the network give way to the one that works.
    /// `requests` counts those that are open on it.
    pub fn member(&self, machine: Number, requests: Arc<AtomicUsize>) -> Place<Number> {
        let mut list = lock(&self.members);
        while list.count(machine) >= self.each_most {
            let own = |taken: &Taken<Number>| taken.of == machine;
            let idle = |taken: &Taken<Number>| own(taken) && taken.requests.load(Relaxed) == 0;
            let goes = list.taken.iter().position(idle);
            let Some(goes) = goes.or_else(|| list.taken.iter().position(own)) else { break };
            list.taken.remove(goes);
        }
        let (id, told) = list.enter(machine, requests);
        Place { list: Arc::clone(&self.members), id, told }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_out<K>(place: &mut Place<K>) -> bool {
        place.told.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    fn out<K>(places: &mut [Place<K>]) -> Vec<usize> {
        let told = places.iter_mut().map(is_out).enumerate();
        told.filter(|(_, is_out)| *is_out).map(|(at, _)| at).collect()
    }

    #[test]
    fn a_machines_fifth_connection_ends_its_oldest_idle_one() {
        let places = Places::new(64, 4);
        let requests: Vec<Arc<AtomicUsize>> = (0..5).map(|_| Arc::default()).collect();
        let member = |n: usize| places.member(1, Arc::clone(&requests[n]));
        let mut other = places.member(2, Arc::default());
        let mut mine: Vec<_> = (0..4).map(member).collect();
        requests[0].fetch_add(1, Relaxed);
        mine.push(member(4));
        assert_eq!(out(&mut mine), [1]);
        for requests in &requests {
            requests.fetch_add(1, Relaxed);
        }
        mine.push(member(0));
        assert_eq!(out(&mut mine), [0, 1], "all are busy: the oldest");
        drop(mine.pop());
        mine.push(member(0));
        assert_eq!(out(&mut mine), [0, 1], "one has left");
        assert!(!is_out(&mut other));
    }

    #[test]
    fn a_flood_of_strangers_pushes_out_its_own() {
        let places = Places::new(64, 4);
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut honest = places.stranger(at("10.0.0.7"));
        let mut flood: Vec<_> = (0..500).map(|_| places.stranger(at("10.0.0.66"))).collect();
        assert!(!is_out(&mut honest));
        assert_eq!(out(&mut flood), (0..500 - 63).collect::<Vec<_>>(), "the oldest first");
        let mut member = places.member(1, Arc::default());
        // Addresses that one host can take by the million are one.
        let mut wide: Vec<_> =
            (0..500_u16).map(|n| places.stranger(at(&format!("fd00::{n:x}")))).collect();
        assert!(!is_out(&mut honest) && !is_out(&mut member));
        assert_eq!(out(&mut wide).len(), 500 - 32, "both floods have half");
        assert_eq!(lock(&places.lobby).taken.len(), 64);
    }

    #[test]
    fn from_everywhere_the_oldest_goes() {
        let places = Places::new(4, 4);
        let mut all: Vec<_> = (0..9_u8).map(|n| places.stranger([10, 0, 0, n].into())).collect();
        assert_eq!(out(&mut all), [0, 1, 2, 3, 4]);
    }
}
