//! Who follows the log, and handing committed entries to them. Who may follow and which blobs go
//! along is decided in `vault`; nothing here waits or touches the database.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::name::Name;
use shared::text::Text;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// Entries that may wait for one follower.
const WAITING: usize = 256;
/// Bytes that may wait for one follower; a slower one reads the log again from where it is.
const WAITING_BYTES: usize = 8 << 20;

/// All followers.
pub struct Hub {
    followers: Mutex<Followers>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Followers {
    next: u64,
    by_id: BTreeMap<u64, Follower>,
}

struct Follower {
    name: Name,
    key: [u8; 32],
    addr: Text<64>,
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
    id: u64,
    stay: oneshot::Receiver<()>,
}

impl Place {
    /// Waits until the follower is told to go.
    pub async fn told_to_go(&mut self) {
        let _ = (&mut self.stay).await;
    }

    /// Returns the follower's number.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}

/// A follower that is due an entry, with room kept for it.
pub struct Due {
    /// Its machine.
    pub name: Name,
    /// The machine's key.
    pub key: [u8; 32],
    /// Its address.
    pub addr: Text<64>,
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
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { followers: Mutex::default(), metrics })
    }

    fn lock(&self) -> MutexGuard<'_, Followers> {
        // Every change under the lock is a single step: a panic elsewhere leaves it whole.
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a follower in that has yet to catch up.
    #[must_use]
    pub fn enter(self: &Arc<Self>, name: Name, key: [u8; 32], addr: Text<64>) -> Place {
        let (stay, told) = oneshot::channel();
        let mut followers = self.lock();
        followers.next += 1;
        let id = followers.next;
        followers.by_id.insert(id, Follower { name, key, addr, live: None, _stay: stay });
        self.metrics.following(followers.by_id.len());
        Place { hub: Arc::clone(self), id, stay: told }
    }

    /// Hands every later entry to the follower.
    #[must_use]
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
    #[must_use]
    pub fn due(&self) -> Vec<Due> {
        let mut due = Vec::new();
        for follower in self.lock().by_id.values_mut() {
            let Some(Sender { lines, waiting }) = follower.live.take() else { continue };
            if waiting.load(Relaxed) > WAITING_BYTES {
                continue;
            }
            if let Ok(permit) = lines.clone().try_reserve_owned() {
                due.push(Due {
                    name: follower.name.clone(),
                    key: follower.key,
                    addr: follower.addr.clone(),
                    permit,
                    waiting: Arc::clone(&waiting),
                });
                follower.live = Some(Sender { lines, waiting });
            }
        }
        due
    }

    /// Ends the streams of every key that `stays` does not hold for.
    pub fn keep(&self, stays: impl Fn(&Name, &[u8; 32]) -> bool) {
        let mut followers = self.lock();
        followers.by_id.retain(|_, follower| stays(&follower.name, &follower.key));
        self.metrics.following(followers.by_id.len());
    }

    /// Tells whether a stream of the machine is open.
    #[must_use]
    pub fn follows(&self, name: &Name) -> bool {
        self.lock().by_id.values().any(|follower| follower.name == *name)
    }

    fn leave(&self, id: u64) {
        let mut followers = self.lock();
        followers.by_id.remove(&id);
        self.metrics.following(followers.by_id.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> Arc<Hub> {
        Hub::new(Arc::default())
    }

    fn line(seq: u64, len: usize) -> Line {
        Line { seq, bytes: Bytes::from(vec![b'x'; len]) }
    }

    #[tokio::test]
    async fn only_live_followers_are_due() {
        let hub = hub();
        let place = hub.enter("a".parse().unwrap(), [1; 32], Text::default());
        assert!(hub.due().is_empty());
        let mut live = hub.go_live(place.id()).unwrap();
        hub.due().remove(0).send(line(7, 3));
        assert_eq!(live.next().await.unwrap().seq, 7);
        drop(place);
        assert!(hub.due().is_empty());
        assert!(live.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_follower_falls_behind_instead_of_filling_memory() {
        let hub = hub();
        let place = hub.enter("a".parse().unwrap(), [1; 32], Text::default());
        let mut live = hub.go_live(place.id()).unwrap();
        for seq in 1..=9 {
            hub.due().remove(0).send(line(seq, 1 << 20));
        }
        assert!(hub.due().is_empty(), "9 MiB wait");
        for seq in 1..=9 {
            assert_eq!(live.next().await.unwrap().seq, seq);
        }
        assert!(live.next().await.is_none());
        assert!(hub.go_live(place.id()).is_some(), "and may catch up");
    }

    #[tokio::test]
    async fn a_removed_machine_is_told_to_go() {
        let hub = hub();
        let mut gone = hub.enter("a".parse().unwrap(), [1; 32], Text::default());
        let _stays = hub.enter("b".parse().unwrap(), [2; 32], Text::default());
        hub.keep(|name, _| name.as_str() == "b");
        gone.told_to_go().await;
        assert!(!hub.follows(&"a".parse().unwrap()) && hub.follows(&"b".parse().unwrap()));
    }
}
