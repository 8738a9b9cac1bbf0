//! Every caller is metered here, by the number of its machine, whoever signed what it carries
//! (design/trust, *Server*): connections, requests, bodies, answers, shares of a day, and turns
//! before the writer and the readers. What is refused or counted is decided here; how it is
//! answered and recorded is not.

mod account;
mod bucket;
mod hold;
mod places;
mod turns;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::clock;
use shared::audit::Fact;
use shared::hash::Hash;
use shared::log::Number;
use shared::wire::v1::shares::{NearShare, OverShare, Share};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::{Limits, Shares};

use account::Account;
use hold::Hold;
use turns::Gate;

pub use account::Room;
pub use places::{Origin, Place, Places};
pub use turns::Turn;

/// Who strangers are, where turns are taken: no machine bears it.
pub const STRANGERS: Number = 0;

/// Pieces of work that may be queued before the writer at once; they share a commit. Few, since
/// nobody overtakes them.
const WRITES: usize = 8;
/// Reads beside the writer at once.
const READS: usize = 4;
/// Large bodies in memory at once.
const BODIES: usize = 8;
/// Bytes of the largest answer that is made whole, about: a blob, a page.
pub const ANSWER: usize = 1 << 20;

/// How long a request waits for one of its machine's places.
const PATIENCE: Duration = Duration::from_secs(10);

/// A machine is over a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Which.
    pub share: Share,
    /// When something of it is left again.
    pub wait: Duration,
}

/// The meter of all callers.
#[derive(Debug)]
pub struct Meter {
    shares: Shares,
    accounts: Mutex<BTreeMap<Number, Arc<Account>>>,
    hold: Mutex<Hold>,
    passed: Notify,
    /// Who may be connected.
    pub places: Places,
    /// Turns before the writer.
    pub writes: Gate,
    /// Turns before the readers.
    pub reads: Gate,
    /// Turns of large bodies.
    pub bodies: Gate,
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under the locks is a single step: a panic elsewhere leaves them whole.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    /// Makes a meter that has counted nothing yet.
    pub fn new(limits: &Limits, shares: Shares) -> Self {
        Self {
            shares,
            accounts: Mutex::default(),
            hold: Mutex::default(),
            passed: Notify::new(),
            places: Places::new(limits.strangers, shares.connections),
            writes: Gate::new(WRITES),
            reads: Gate::new(READS),
            bodies: Gate::new(BODIES),
        }
    }

    /// Returns a machine's account.
    pub fn account(&self, machine: Number) -> Arc<Account> {
        let mut accounts = lock(&self.accounts);
        let account = accounts.entry(machine).or_insert_with(|| Account::new(&self.shares).into());
        Arc::clone(account)
    }

    /// Drops the accounts of all other machines.
    pub fn keep(&self, machines: &HashSet<Number>) {
        lock(&self.accounts).retain(|number, _| machines.contains(number));
    }

    /// Lets one more request in.
    pub fn admit(&self, machine: Number) -> Result<(), Limited> {
        self.afford(machine, &[Share::Requests, Share::Bytes])?;
        self.account(machine).take(Share::Requests, 1, Instant::now());
        Ok(())
    }

    /// Waits for one of the machine's places for open requests.
    pub async fn request(&self, machine: Number) -> Result<OwnedSemaphorePermit, Limited> {
        let account = self.account(machine);
        timeout(PATIENCE, account.request()).await.map_err(|_| {
            account.count(Share::AtOnce, clock::now());
            Limited { share: Share::AtOnce, wait: Duration::ZERO }
        })
    }

    /// Waits until no other large body is on its way from the machine.
    pub async fn body(&self, machine: Number) -> OwnedSemaphorePermit {
        self.account(machine).body().await
    }

    /// Refuses a machine that has used one of the shares up.
    pub fn afford(&self, machine: Number, shares: &[Share]) -> Result<(), Limited> {
        match self.account(machine).used_up(shares, Instant::now(), clock::now()) {
            Some((share, wait)) => Err(Limited { share, wait }),
            None => Ok(()),
        }
    }

    /// Waits until an answer of up to `bytes` fits beside those that the machine has not read yet.
    pub async fn room(&self, machine: Number, bytes: usize) -> Room {
        self.account(machine).room(bytes).await
    }

    /// Takes an amount of a share.
    pub fn take(&self, machine: Number, share: Share, amount: u64) {
        self.account(machine).take(share, amount, Instant::now());
    }

    /// Gives back what was taken for nothing.
    pub fn give_back(&self, machine: Number, share: Share, amount: u64) {
        self.account(machine).give_back(share, amount);
    }

    /// Takes a record's bytes of the audit share; `false` if nothing is left and it is enough to
    /// count the fact.
    pub fn records(&self, machine: Number, fact: &Fact, countable: bool) -> bool {
        self.account(machine).records(fact, countable, Instant::now())
    }

    /// Keeps the next place in the log for the machine that carried the owner's entry `id`.
    pub fn keep_place(&self, id: Hash, machine: Number) {
        lock(&self.hold).keep(id, machine, Instant::now());
    }

    /// Returns until when an entry must wait for one that the next place is kept for.
    pub fn barred(&self, machine: Number, by_owner: bool) -> Option<Instant> {
        let until = lock(&self.hold).pass(machine, by_owner, Instant::now());
        if until.is_none() {
            self.passed.notify_waiters();
        }
        until
    }

    /// Waits until the place is taken, or not kept any more.
    pub async fn passed(&self, until: Instant) {
        let mut passed = std::pin::pin!(self.passed.notified());
        passed.as_mut().enable();
        if lock(&self.hold).until(Instant::now()).is_some() {
            let _ = timeout_at(until, passed).await;
        }
    }

    /// Returns how many bytes of answers the machines have not read yet.
    pub fn unread(&self) -> u64 {
        lock(&self.accounts).values().map(|account| account.unread()).sum()
    }

    /// Returns which machines have taken most of a share of a day.
    pub fn near(&self) -> Vec<NearShare> {
        let (now, time, accounts) = (Instant::now(), clock::now(), lock(&self.accounts));
        let all = accounts.iter().flat_map(|(machine, account)| {
            account.low(now).into_iter().map(|(share, (used_percent, wait))| {
                let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
                NearShare { machine: *machine, share, used_percent, until: time.plus(micros) }
            })
        });
        all.collect()
    }

    /// Returns which machines wanted more than their share.
    pub fn over(&self) -> Vec<OverShare> {
        let accounts = lock(&self.accounts);
        let all = accounts.iter().flat_map(|(machine, account)| {
            let over = account.over().into_iter();
            over.map(|(share, (count, last))| OverShare { machine: *machine, share, count, last })
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_machine_is_refused_by_what_it_took_itself() {
        let shares = Shares { requests_per_second: 1, ..Shares::default() };
        let meter = Meter::new(&Limits::default(), shares);
        let let_in = |machine| (0..100).filter(|_| meter.admit(machine).is_ok()).count();
        assert_eq!((let_in(1), let_in(2)), (10, 10));
        assert_eq!(meter.admit(1).unwrap_err().share, Share::Requests);
        let over: Vec<_> = meter.over().iter().map(|over| (over.machine, over.count)).collect();
        assert_eq!(over, [(1, 91), (2, 90)]);
        meter.keep(&[2].into());
        assert_eq!(meter.over().len(), 1, "nothing is kept of a machine that is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_taken_most_of_a_day_is_named_before_anything_is_refused() {
        let shares = Shares {
            log_bytes_per_day: 100,
            audit_bytes_per_day: 100,
            requests_per_second: 1,
            ..Shares::default()
        };
        let meter = Meter::new(&Limits::default(), shares);
        for (machine, share, amount) in [
            (1, Share::Log, 79),
            (2, Share::Log, 80),
            (2, Share::Audit, 90),
            (3, Share::Requests, 10),
        ] {
            meter.take(machine, share, amount);
        }
        let near: Vec<_> = meter.near().iter().map(|it| (it.machine, it.share)).collect();
        assert_eq!(near, [(2, Share::Log), (2, Share::Audit)], "rates come back within seconds");
        let (audit, before) = (meter.near()[1], clock::now());
        assert_eq!((audit.used_percent, meter.over()), (90, vec![]));
        let wait = audit.until.seconds_since(before);
        assert!((8600..=8640).contains(&wait), "a tenth of a day, not {wait} s");
        tokio::time::advance(Duration::from_secs(8641)).await;
        assert_eq!(meter.near(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_past_the_machines_places_wait_and_are_then_refused() {
        let shares = Shares { requests: 2, ..Shares::default() };
        let meter = Meter::new(&Limits::default(), shares);
        let first = meter.request(1).await.ok();
        let _second = meter.request(1).await.ok();
        let refused = meter.request(1).await.err().unwrap();
        assert_eq!(refused.share, Share::AtOnce);
        assert!(meter.request(2).await.is_ok(), "another machine's");
        drop(first);
        assert!(meter.request(1).await.is_ok());
    }
}
