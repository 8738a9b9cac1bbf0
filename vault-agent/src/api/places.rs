//! Room for connections: so many at a time, and when it is used up the one goes that has been idle
//! for the longest. What a connection is used for does not live here.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Descriptors that connections leave to files, hooks, the database and the way to the server.
const RESERVED: u64 = 128;
/// Kinds of listeners that share the others: the socket, TCP, credentials.
const LISTENERS: u64 = 3;
/// How long a connection that has to leave may take to hand over its last answer.
pub(super) const LEAVE: Duration = Duration::from_secs(1);
/// Connections that every listener takes, however few descriptors there are.
const FEWEST: usize = 4;

/// Room for connections.
#[derive(Debug)]
pub(super) struct Places {
    room: Arc<Semaphore>,
    seats: Mutex<Vec<Arc<Seat>>>,
    /// How many wait for a place.
    wanted: AtomicUsize,
}

/// A connection's place; dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    seat: Arc<Seat>,
    /// Where the place is; `None` for a connection that nobody else needs room beside.
    in_room: Option<(Arc<Places>, OwnedSemaphorePermit)>,
}

#[derive(Debug)]
struct Seat {
    /// Since when it is idle; `None` while a request is under way.
    idle: Mutex<Option<Instant>>,
    has_served: AtomicBool,
    leave: Notify,
}

/// A request under way; dropping it ends it.
#[derive(Debug)]
pub(super) struct Busy(Arc<Seat>, Option<Arc<Places>>);

impl Places {
    /// Makes room for `most` connections, or fewer where this process may open few files.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Self::among(most, 1)
    }

    /// As [`Places::new`], for each of several listeners of a kind: they share what one would have.
    pub(super) fn among(most: usize, listeners: usize) -> Arc<Self> {
        let room = (fitting(most, limit()) / listeners).max(FEWEST);
        let (room, seats) = (Arc::new(Semaphore::new(room)), Mutex::default());
        Arc::new(Self { room, seats, wanted: AtomicUsize::new(0) })
    }

    /// Tells how many connections there is room for.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.room.available_permits()
    }

    /// Waits for a place; the connection that has been idle for the longest makes room for it.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        let permit = match self.room.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _wanted = Wanted::new(&self.wanted);
                self.dismiss();
                let permit = self.room.clone().acquire_owned().await;
                permit.expect("the room is never closed")
            }
        };
        let seat = Seat::new();
        self.lock().push(Arc::clone(&seat));
        Place { seat, in_room: Some((Arc::clone(self), permit)) }
    }

    /// Asks the connection to leave that has been idle for the longest.
    fn dismiss(&self) {
        let mut seats = self.lock();
        let idle = seats.iter().enumerate().filter_map(|(n, seat)| Some(((*seat.lock())?, n)));
        if let Some((_, n)) = idle.min() {
            // It is asked once; the next who comes asks another.
            seats.remove(n).leave.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A place that nobody else wants.
    pub(super) fn alone() -> Self {
        Self { seat: Seat::new(), in_room: None }
    }

    /// Notes that a request is under way.
    pub(super) fn begin(&self) -> Busy {
        *self.seat.lock() = None;
        self.seat.has_served.store(true, Ordering::Relaxed);
        Busy(Arc::clone(&self.seat), self.in_room.as_ref().map(|(places, _)| Arc::clone(places)))
    }

    /// Lets a connection end that has to leave: at once if it is idle, after its answer if a
    /// request has just come.
    pub(super) async fn leave<C, E>(&self, connection: C) -> Result<(), E>
    where
        C: Future<Output = Result<(), E>>,
    {
        if self.has_served() || self.is_busy() {
            return timeout(LEAVE, connection).await.unwrap_or(Ok(()));
        }
        Ok(())
    }

    /// Tells whether a request is under way.
    fn is_busy(&self) -> bool {
        self.seat.lock().is_none()
    }

    /// Tells whether any request has come.
    fn has_served(&self) -> bool {
        self.seat.has_served.load(Ordering::Relaxed)
    }

    /// Waits until somebody else needs the place more.
    pub(super) async fn dismissed(&self) {
        self.seat.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((places, _)) = &self.in_room {
            places.lock().retain(|seat| !Arc::ptr_eq(seat, &self.seat));
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.lock() = Some(Instant::now());
        let Some(places) = self.1.as_ref() else { return };
        if places.wanted.load(Ordering::Relaxed) > 0 {
            places.dismiss();
        }
    }
}

impl Seat {
    fn new() -> Arc<Self> {
        let idle = Mutex::new(Some(Instant::now()));
        Arc::new(Self { idle, has_served: AtomicBool::new(false), leave: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits, or has stopped to.
struct Wanted<'a>(&'a AtomicUsize);

impl<'a> Wanted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns how many files this process may open.
fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns how many connections of `most` one listener may have within a limit of files.
fn fitting(most: usize, limit: u64) -> usize {
    let reserved = RESERVED.min(limit / 8 * 5);
    let share = usize::try_from((limit - reserved) / LISTENERS).unwrap_or(usize::MAX);
    most.min(share).max(FEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_full(places: &Arc<Places>) -> bool {
        timeout(Duration::ZERO, places.take()).await.is_err()
    }

    #[tokio::test]
    async fn the_longest_idle_makes_room() {
        let places = Places::new(FEWEST);
        let mut seats = Vec::new();
        for _ in 0..FEWEST {
            seats.push(places.take().await);
        }
        let busy = seats[0].begin();
        // The second is idle for the longest: it goes, and who waits has its place.
        let waiter = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        seats[1].dismissed().await;
        drop(seats.remove(1));
        let new = waiter.await.unwrap();
        assert!(seats[0].is_busy() && !new.is_busy());
        // The first is idle from now on, behind the others.
        drop(busy);
        let waiter = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        seats[1].dismissed().await;
        drop(seats.remove(1));
        waiter.await.unwrap();
    }

    #[tokio::test]
    async fn who_ends_a_request_makes_room_for_those_who_wait() {
        let places = Places::new(FEWEST);
        let mut seats = Vec::new();
        for _ in 0..FEWEST {
            seats.push(places.take().await);
        }
        let mut busy: Vec<Busy> = seats.iter().map(Place::begin).collect();
        assert!(is_full(&places).await);
        let waiter = tokio::spawn({
            let places = Arc::clone(&places);
            async move { drop(places.take().await) }
        });
        while places.wanted.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(busy.pop());
        seats.last().unwrap().dismissed().await;
        seats.pop();
        waiter.await.unwrap();
        assert_eq!(places.wanted.load(Ordering::Relaxed), 0);
        drop((busy, seats));
        assert!(places.lock().is_empty());
    }

    #[test]
    fn files_keep_their_descriptors() {
        let check = |limit, expected| assert_eq!(fitting(512, limit), expected, "{limit}");
        for (limit, expected) in
            [(0, 4), (16, 4), (64, 8), (256, 42), (1024, 298), (4096, 512), (u64::MAX, 512)]
        {
            check(limit, expected);
        }
    }
}
