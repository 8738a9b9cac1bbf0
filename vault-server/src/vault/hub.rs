//! Making commits known: handing entries to those who follow the log, and active machines to the
//! connections. Who may follow and which blobs go along is decided elsewhere; nothing here waits or
//! touches the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::log::{Number, State};
use shared::name::Name;
use tokio::sync::{mpsc, oneshot, watch};

use super::caller::Caller;
use crate::metrics::Metrics;

/// Entries that may wait for one follower.
const WAITING: usize = 256;
/// Bytes that may wait for one follower; a slower one reads the log again from where it is.
const WAITING_BYTES: usize = 8 << 20;

/// Active machines by signing key, as of the last commit.
pub type Directory = Arc<HashMap<[u8; 32], (Number, Name)>>;

/// Returns the active machines of a state.
pub fn directory(state: Option<&State>) -> Directory {
    let active = state.into_iter().flat_map(State::machines).filter(|(_, machine)| machine.active);
    let by_key =
        active.map(|(number, machine)| (*machine.sign.as_bytes(), (*number, machine.name.clone())));
    Arc::new(by_key.collect())
}

/// All followers, and the active machines.
pub struct Hub {
    followers: Mutex<Followers>,
    machines: watch::Sender<Directory>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Followers {
    next: u64,
    by_id: BTreeMap<u64, Follower>,
}

struct Follower {
    caller: Caller,
    /// Open once the follower has caught up.
    live: Option<Sender>,
    /// Dropped to end the stream.
    _stay: oneshot::Sender<()>,
}

#[derive(Clone)]
struct Sender {
    lines: mpsc::Sender<Line>,
    waiting: Arc<AtomicUsize>,
}

/// A committed entry, ready to be sent.
#[derive(Debug)]
pub struct Line {
    /// Position of the entry.
    pub seq: u64,
    /// A `Frame` and its line feed.
    pub bytes: Bytes,
}

/// The receiving end of a follower that has caught up.
pub struct Live {
    lines: mpsc::Receiver<Line>,
    waiting: Arc<AtomicUsize>,
}

impl Live {
    /// Waits for the next entry; `None` when the follower was too slow and must catch up.
    pub async fn next(&mut self) -> Option<Line> {
        let line = self.lines.recv().await?;
        self.waiting.fetch_sub(line.bytes.len(), Relaxed);
        Some(line)
    }
}

/// A follower's place in the hub; dropping it leaves.
pub struct Place {
    hub: Arc<Hub>,
    /// The follower's number.
    pub id: u64,
    stay: oneshot::Receiver<()>,
}

impl Place {
    /// Waits until the follower is told to go.
    pub async fn told_to_go(&mut self) {
        let _ = (&mut self.stay).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.change(|followers| followers.by_id.remove(&self.id));
    }
}

/// A follower that is due an entry, with room kept for it.
pub struct Due {
    /// Its machine.
    pub caller: Caller,
    permit: mpsc::OwnedPermit<Line>,
    waiting: Arc<AtomicUsize>,
}

impl Due {
    /// Sends the entry.
    pub fn send(self, line: Line) {
        self.waiting.fetch_add(line.bytes.len(), Relaxed);
        self.permit.send(line);
    }
}

impl Hub {
    /// Makes a hub without followers.
    pub fn new(machines: Directory, metrics: Arc<Metrics>) -> Arc<Self> {
        let (followers, machines) = (Mutex::default(), watch::Sender::new(machines));
        Arc::new(Self { followers, machines, metrics })
    }

    fn lock(&self) -> MutexGuard<'_, Followers> {
        // Every change under the lock is a single step: a panic elsewhere leaves it whole.
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes who follows.
    fn change<T>(&self, change: impl FnOnce(&mut Followers) -> T) -> T {
        let mut followers = self.lock();
        let changed = change(&mut followers);
        self.metrics.followers.set(followers.by_id.len() as u64);
        changed
    }

    /// Takes a follower in that has yet to catch up.
    #[must_use]
    pub fn enter(self: &Arc<Self>, caller: Caller) -> Place {
        let (_stay, stay) = oneshot::channel();
        let id = self.change(|followers| {
            followers.next += 1;
            followers.by_id.insert(followers.next, Follower { caller, live: None, _stay });
            followers.next
        });
        Place { hub: Arc::clone(self), id, stay }
    }

    /// Hands every later entry to the follower.
    pub fn go_live(&self, id: u64) -> Option<Live> {
        let (sender, lines) = mpsc::channel(WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut followers = self.lock();
        let follower = followers.by_id.get_mut(&id)?;
        follower.live = Some(Sender { lines: sender, waiting: Arc::clone(&waiting) });
        Some(Live { lines, waiting })
    }

    /// Returns the followers that are due an entry now; one without room left falls behind and
    /// will catch up by reading.
    pub fn due(&self) -> Vec<Due> {
        let mut due = Vec::new();
        for Follower { caller, live, .. } in self.lock().by_id.values_mut() {
            let Some(Sender { lines, waiting }) = live.clone() else { continue };
            match lines.try_reserve_owned() {
                Ok(permit) if waiting.load(Relaxed) <= WAITING_BYTES => {
                    due.push(Due { caller: caller.clone(), permit, waiting });
                }
                Ok(_) | Err(_) => *live = None,
            }
        }
        due
    }

    /// Makes the active machines known, and ends the streams of all others: those of removed
    /// machines and of keys that were replaced.
    pub fn admit(&self, machines: Directory) {
        self.change(|followers| {
            followers.by_id.retain(|_, Follower { caller, .. }| machines.contains_key(&caller.key));
        });
        self.machines.send_replace(machines);
    }

    /// Returns the active machines, and later ones.
    pub fn directory(&self) -> watch::Receiver<Directory> {
        self.machines.subscribe()
    }

    /// Returns the machines whose streams are open.
    pub fn following(&self) -> BTreeSet<Number> {
        self.lock().by_id.values().map(|follower| follower.caller.number).collect()
    }
}

#[cfg(test)]
mod tests {
    use shared::text::Text;

    use super::*;

    fn hub() -> Arc<Hub> {
        Hub::new(Directory::default(), Arc::default())
    }

    fn caller(name: &str) -> Caller {
        let (name, key) = (name.parse().unwrap(), name.as_bytes()[0]);
        Caller { number: key.into(), name, key: [key; 32], addr: Text::default() }
    }

    fn line(seq: u64, len: usize) -> Line {
        Line { seq, bytes: Bytes::from(vec![b'x'; len]) }
    }

    #[tokio::test]
    async fn only_live_followers_are_due() {
        let hub = hub();
        let place = hub.enter(caller("a"));
        assert!(hub.due().is_empty());
        let mut live = hub.go_live(place.id).unwrap();
        hub.due().remove(0).send(line(7, 3));
        assert_eq!(live.next().await.unwrap().seq, 7);
        drop(place);
        assert!(hub.due().is_empty());
        assert!(live.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_follower_falls_behind_instead_of_filling_memory() {
        let hub = hub();
        let place = hub.enter(caller("a"));
        let mut live = hub.go_live(place.id).unwrap();
        for seq in 1..=9 {
            hub.due().remove(0).send(line(seq, 1 << 20));
        }
        assert!(hub.due().is_empty(), "9 MiB wait");
        for seq in 1..=9 {
            assert_eq!(live.next().await.unwrap().seq, seq);
        }
        assert!(live.next().await.is_none());
        assert!(hub.go_live(place.id).is_some(), "and may catch up");
    }

    #[tokio::test]
    async fn a_removed_machine_is_told_to_go() {
        let hub = hub();
        let mut gone = hub.enter(caller("a"));
        let _stays = hub.enter(caller("b"));
        let Caller { number, name, key, .. } = caller("b");
        hub.admit(Arc::new([(key, (number, name))].into()));
        gone.told_to_go().await;
        assert_eq!(hub.following(), [number].into());
    }
}
