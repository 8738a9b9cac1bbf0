//! Making commits known: handing entries to those who follow the log, and active machines to the
//! connections. Who may follow and which blobs go along is decided elsewhere; nothing here waits or
//! touches the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use host::clock;
use shared::log::{Number, State};
use shared::name::Name;
use tokio::sync::{mpsc, oneshot, watch};

use super::caller::Caller;
use super::signers::Signers;
use crate::meter::Meter;
use crate::metrics::Metrics;

/// Entries that may wait for one follower, if its machine has room for them; a slower one reads the
/// log again from where it is.
const WAITING: usize = 256;

/// Active machines by signing key, as of the last commit.
pub type Directory = Arc<HashMap<[u8; 32], (Number, Name)>>;

/// Returns the active machines of a state.
pub fn directory(state: Option<&State>) -> Directory {
    let active = state.into_iter().flat_map(State::machines).filter(|(_, machine)| machine.active);
    let by_key =
        active.map(|(number, machine)| (*machine.sign.as_bytes(), (*number, machine.name.clone())));
    Arc::new(by_key.collect())
}

/// All followers, the active machines, and who may sign.
pub struct Hub {
    followers: Mutex<Followers>,
    machines: watch::Sender<Directory>,
    signers: Mutex<Option<Arc<Signers>>>,
    meter: Arc<Meter>,
    metrics: Arc<Metrics>,
    started: Duration,
}

#[derive(Default)]
struct Followers {
    next: u64,
    by_id: BTreeMap<u64, Follower>,
    /// When each machine's last stream ended, in time since the boot.
    left: BTreeMap<Number, Duration>,
}

struct Follower {
    caller: Caller,
    /// Open once the follower has caught up.
    live: Option<mpsc::Sender<Line>>,
    /// Dropped to end the stream.
    _stay: oneshot::Sender<()>,
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
}

impl Live {
    /// Waits for the next entry; `None` when the follower was too slow and must catch up.
    pub async fn next(&mut self) -> Option<Line> {
        self.lines.recv().await
    }
}

/// Who follows the log, and until when others did.
#[derive(Debug)]
pub struct Presence {
    /// The machines whose streams are open.
    pub following: BTreeSet<Number>,
    /// When the last stream of others ended, in time since the boot.
    left: BTreeMap<Number, Duration>,
    /// When this process began to listen, in time since the boot.
    started: Duration,
}

impl Presence {
    /// Returns how long ago a machine was last heard that has reported `reported` ago; `now` is the
    /// time since the boot.
    pub fn quiet(&self, machine: Number, reported: Duration, now: Duration) -> Duration {
        if self.following.contains(&machine) {
            return Duration::ZERO;
        }
        let left = self.left.get(&machine).map(|left| now.saturating_sub(*left));
        left.map_or(reported, |left| left.min(reported))
    }

    /// Presence of these alone, since the boot.
    #[cfg(test)]
    pub fn of(following: &[Number]) -> Self {
        let following = following.iter().copied().collect();
        Self { following, left: BTreeMap::new(), started: Duration::ZERO }
    }

    /// Returns how long this process has listened.
    pub const fn up(&self, now: Duration) -> Duration {
        now.saturating_sub(self.started)
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
        let now = clock::since_boot();
        self.hub.change(|followers| {
            if let Some(gone) = followers.by_id.remove(&self.id) {
                followers.left.insert(gone.caller.number, now);
            }
        });
    }
}

/// A follower that is due an entry, with room kept for it.
pub struct Due {
    /// Its machine.
    pub caller: Caller,
    id: u64,
    permit: mpsc::OwnedPermit<Line>,
    hub: Arc<Hub>,
}

impl Due {
    /// Sends the entry, if its machine has room for it beside what it has not read yet; else the
    /// follower falls behind.
    pub fn send(self, seq: u64, bytes: Bytes) {
        let Self { caller, id, permit, hub } = self;
        match hub.meter.account(caller.number).room_now(bytes.len()) {
            Some(room) => drop(permit.send(Line { seq, bytes: room.hold(bytes) })),
            None => hub.fall_behind(id),
        }
    }
}

impl Hub {
    /// Makes a hub without followers.
    pub fn new(
        machines: Directory,
        signers: Option<Signers>,
        meter: Arc<Meter>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (followers, machines) = (Mutex::default(), watch::Sender::new(machines));
        let signers = Mutex::new(signers.map(Arc::new));
        let started = clock::since_boot();
        Arc::new(Self { followers, machines, signers, meter, metrics, started })
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

    /// Takes a follower in that has yet to catch up; the stream that its machine had before ends.
    #[must_use]
    pub fn enter(self: &Arc<Self>, caller: Caller) -> Place {
        let (_stay, stay) = oneshot::channel();
        let id = self.change(|followers| {
            followers.by_id.retain(|_, before| before.caller.number != caller.number);
            followers.left.remove(&caller.number);
            followers.next += 1;
            followers.by_id.insert(followers.next, Follower { caller, live: None, _stay });
            followers.next
        });
        Place { hub: Arc::clone(self), id, stay }
    }

    /// Hands every later entry to the follower.
    pub fn go_live(&self, id: u64) -> Option<Live> {
        let (sender, lines) = mpsc::channel(WAITING);
        let mut followers = self.lock();
        followers.by_id.get_mut(&id)?.live = Some(sender);
        Some(Live { lines })
    }

    /// Hands no later entry to the follower, until it has caught up.
    fn fall_behind(&self, id: u64) {
        if let Some(follower) = self.lock().by_id.get_mut(&id) {
            follower.live = None;
        }
    }

    /// Returns what is called once other servers have written: followers catch up, since nobody
    /// hands them those entries, and connections are told who takes part, if that has changed.
    pub fn others_wrote(self: &Arc<Self>) -> impl Fn(Option<&State>, bool) + Send + Sync + use<> {
        let hub = Arc::clone(self);
        move |state, changed| {
            if changed {
                hub.admit(directory(state), state.map(Signers::of));
            }
            for follower in hub.lock().by_id.values_mut() {
                follower.live = None;
            }
        }
    }

    /// Returns the followers that are due an entry now; one without room left falls behind and
    /// will catch up by reading.
    pub fn due(self: &Arc<Self>) -> Vec<Due> {
        let mut due = Vec::new();
        for (id, Follower { caller, live, .. }) in &mut self.lock().by_id {
            let Some(lines) = live.clone() else { continue };
            match lines.try_reserve_owned() {
                Ok(permit) => {
                    let (caller, hub) = (caller.clone(), Arc::clone(self));
                    due.push(Due { caller, id: *id, permit, hub });
                }
                Err(_) => *live = None,
            }
        }
        due
    }

    /// Makes the active machines and the signers known, and ends the streams of all others: those
    /// of removed machines and of keys that were replaced.
    pub fn admit(&self, machines: Directory, signers: Option<Signers>) {
        *self.signers.lock().unwrap_or_else(PoisonError::into_inner) = signers.map(Arc::new);
        self.meter.keep(&machines.values().map(|(number, _)| *number).collect());
        self.change(|followers| {
            followers.by_id.retain(|_, Follower { caller, .. }| machines.contains_key(&caller.key));
            let active: BTreeSet<Number> = machines.values().map(|(number, _)| *number).collect();
            followers.left.retain(|number, _| active.contains(number));
        });
        self.machines.send_replace(machines);
    }

    /// Returns who may sign, as of the last commit; nobody before there is a vault.
    pub fn signers(&self) -> Option<Arc<Signers>> {
        self.signers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the active machines, and later ones.
    pub fn directory(&self) -> watch::Receiver<Directory> {
        self.machines.subscribe()
    }

    /// Returns who follows, and who has followed since the start.
    pub fn presence(&self) -> Presence {
        let followers = self.lock();
        let following = followers.by_id.values().map(|follower| follower.caller.number).collect();
        Presence { following, left: followers.left.clone(), started: self.started }
    }
}

#[cfg(test)]
mod tests {
    use shared::text::Text;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::config::{Limits, Shares};

    fn hub() -> Arc<Hub> {
        let meter = Meter::new(&Limits::default(), Shares::default());
        Hub::new(Directory::default(), None, Arc::new(meter), Arc::default())
    }

    fn caller(name: &str) -> Caller {
        let (name, key) = (name.parse().unwrap(), name.as_bytes()[0]);
        Caller { number: key.into(), name, key: [key; 32], addr: Text::default() }
    }

    fn mib() -> Bytes {
        Bytes::from(vec![b'x'; 1 << 20])
    }

    #[tokio::test]
    async fn only_live_followers_are_due() {
        let hub = hub();
        let place = hub.enter(caller("a"));
        assert!(hub.due().is_empty());
        let mut live = hub.go_live(place.id).unwrap();
        hub.due().remove(0).send(7, Bytes::from("abc"));
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
        let mut other = hub.enter(caller("b"));
        let mut quick = hub.go_live(other.id).unwrap();
        for seq in 1..=5 {
            assert_eq!(hub.due().len(), 2);
            hub.due().into_iter().for_each(|due| due.send(seq, mib()));
            assert_eq!(quick.next().await.unwrap().seq, seq);
        }
        assert_eq!(hub.due().len(), 1, "4 MiB wait, and a fifth did not fit");
        for seq in 1..=4 {
            assert_eq!(live.next().await.unwrap().seq, seq);
        }
        assert!(live.next().await.is_none());
        assert!(hub.go_live(place.id).is_some(), "and may catch up");
        assert!(other.stay.try_recv().is_err_and(|why| why != TryRecvError::Closed));
    }

    #[tokio::test]
    async fn who_has_left_was_heard_then() {
        let (hub, a) = (hub(), caller("a").number);
        let hour = Duration::from_hours(1);
        let quiet = || {
            let now = clock::since_boot() + Duration::from_mins(7);
            hub.presence().quiet(a, hour, now)
        };
        assert_eq!(quiet(), hour, "it has reported, and not followed since the start");
        let (first, second) = (hub.enter(caller("a")), hub.enter(caller("a")));
        drop(first);
        assert_eq!(quiet(), Duration::ZERO, "its newest stream stays");
        drop(second);
        let minutes = Duration::from_mins(7)..Duration::from_mins(8);
        assert!(minutes.contains(&quiet()), "{:?}", quiet());
        assert_eq!(
            hub.presence().quiet(a, Duration::from_secs(3), clock::since_boot()).as_secs(),
            0
        );
        hub.admit(Directory::default(), None);
        assert_eq!(quiet(), hour, "nothing is kept of a machine that is gone");
    }

    #[tokio::test]
    async fn of_a_machines_streams_the_newest_stays() {
        let hub = hub();
        let (mut first, mut other) = (hub.enter(caller("a")), hub.enter(caller("b")));
        let mut second = hub.enter(caller("a"));
        first.told_to_go().await;
        for stays in [&mut other, &mut second] {
            assert_eq!(stays.stay.try_recv(), Err(TryRecvError::Empty));
        }
        drop(first);
        assert!(hub.presence().following.contains(&caller("a").number));
    }

    #[tokio::test]
    async fn a_removed_machine_is_told_to_go() {
        let hub = hub();
        let mut gone = hub.enter(caller("a"));
        let _stays = hub.enter(caller("b"));
        let Caller { number, name, key, .. } = caller("b");
        hub.admit(Arc::new([(key, (number, name))].into()), None);
        gone.told_to_go().await;
        assert_eq!(hub.presence().following, [number].into());
    }
}
