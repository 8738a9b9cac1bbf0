//! The rules of the server as functions over a transaction: who may do what, what is written, what
//! is recorded, what the answer is. No HTTP, no SQL text, no TLS.

mod access;
mod adopt;
mod append;
mod audit;
mod blob;
mod caller;
mod checkpoint;
mod clock;
mod clone;
mod code;
mod figures;
mod follow;
mod genesis;
mod heal;
mod hub;
mod join;
mod joining;
mod minute;
mod others;
mod replaced;
mod report;
mod reported;
mod restored;
mod retention;
mod room;
mod signers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::store::StoreFailure;
use host::{process, version};
use shared::audit::{Fact, Op, Outcome as AuditOutcome, Who};
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::log::{Machine, Number, State};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::signed::VaultId;
use shared::text::Text;
use shared::time::Time;
use shared::wire::v1::health::Room;
use shared::wire::v1::shares::{Share, SharesReply};
use tokio::sync::{Semaphore, watch};

use crate::meter::{Limited, Meter, STRANGERS};
use crate::metrics::Metrics;
use crate::store::reserve::Reserve;
use crate::store::{self, Connection, Fault, Payer, Reader, Store, Transaction};

use clone::Clones;
use hub::Hub;
use joining::{HELD, Joining};
use room::Gauge;

pub use append::Append;
pub use caller::{Caller, Peer};
pub use code::CodeFile;
pub use follow::{Join, line};
pub use hub::{Directory, Live, Place, directory};
pub use reported::Reported;
pub use retention::Retention;
pub use signers::Signers;

/// Why a request was refused.
#[derive(Debug)]
pub enum Refusal {
    /// The key belongs to no active machine.
    Stranger,
    /// The machine has no right to this.
    Denied(String),
    /// The one-time code is wrong or was used.
    Claim,
    /// The database was set back: it takes lost entries only, and gives out no blob.
    Restored,
    /// A rule of the format or of the log.
    Rule(Error),
    /// The blob is not here.
    Absent(Hash),
    /// The entries up to this one were dropped.
    Compacted(u64),
    /// The log has no checkpoint.
    NoCheckpoint,
    /// The machine is over its share.
    Limited(Limited),
    /// Too many strangers ask to join: the wait.
    Often(Duration),
    /// The database failed, and nothing was written; the details are in the log.
    Unavailable(StoreFailure),
}

impl From<Limited> for Refusal {
    fn from(why: Limited) -> Self {
        Self::Limited(why)
    }
}

impl From<StoreFailure> for Refusal {
    fn from(why: StoreFailure) -> Self {
        Self::Unavailable(why)
    }
}

/// Why a piece of work ends early.
enum Stop {
    /// The request is refused; what was written before, records among it, stays.
    Refused(Refusal),
    /// The database failed: what was written is taken back.
    Failed(Fault),
}

impl From<Refusal> for Stop {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}

impl From<Fault> for Stop {
    fn from(why: Fault) -> Self {
        Self::Failed(why)
    }
}

/// What a piece of work yields.
type Outcome<T> = Result<T, Stop>;

/// The server's rules and what they act on; clones share it.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

/// What is on disk.
pub struct Disk {
    /// The writer.
    pub store: Store,
    /// The readers beside it.
    pub reader: Reader,
    /// Room for owners.
    pub reserve: Reserve,
    /// Where audit records go, and when.
    pub retention: Retention,
}

/// Who takes part, as the database holds it.
pub struct Members {
    /// The active machines.
    pub machines: Directory,
    /// Who may sign, once there is a vault.
    pub signers: Option<Signers>,
    /// What the machines have reported last.
    pub reported: Reported,
    /// This server's own key.
    pub key: Arc<SignKey>,
    /// Where the one-time code of a database that was set back is shown.
    pub code: CodeFile,
}

struct Inner {
    store: Store,
    reader: Reader,
    reserve: Reserve,
    meter: Arc<Meter>,
    hub: Arc<Hub>,
    reported: Reported,
    retention: Retention,
    room: Gauge,
    /// Since when backups fail, in microseconds; 0 while none has failed.
    backup_failing: AtomicU64,
    /// Whether the last piece of work found the disk full.
    had_no_room: AtomicBool,
    clones: Mutex<Clones>,
    joining: Mutex<Joining>,
    /// Answers to strangers that ask to join which may be held at once.
    held: Semaphore,
    /// This server's own key: of its end of TLS, and of the heads that it signs.
    key: Arc<SignKey>,
    code: Arc<CodeFile>,
    metrics: Arc<Metrics>,
}

impl Vault {
    /// Puts the rules over an opened store.
    pub fn new(disk: Disk, members: Members, meter: Meter, metrics: Arc<Metrics>) -> Self {
        let Disk { store, reader, reserve, retention } = disk;
        let Members { machines, signers, reported, key, code } = members;
        let (meter, code) = (Arc::new(meter), Arc::new(code));
        let hub = Hub::new(machines, signers, Arc::clone(&meter), Arc::clone(&metrics));
        let room = Gauge::default();
        store.when_others_wrote(hub.others_wrote());
        Self(Arc::new(Inner {
            store,
            reader,
            reserve,
            meter,
            hub,
            reported,
            retention,
            room,
            backup_failing: AtomicU64::default(),
            had_no_room: AtomicBool::default(),
            clones: Mutex::default(),
            joining: Mutex::default(),
            held: Semaphore::new(HELD),
            key,
            code,
            metrics,
        }))
    }

    /// Returns the meter of all callers.
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// Returns the caller behind a connection, if its key belongs to an active machine, or is an
    /// owner's own.
    pub fn caller(&self, peer: &Peer) -> Option<Caller> {
        let directory = self.0.hub.directory();
        let machine = |(number, name): &(Number, Name)| peer.named(*number, name);
        let machine = directory.borrow().get(&peer.key).map(machine);
        machine.or_else(|| Some(peer.owner(&self.0.hub.signers()?.owner(&peer.key)?)))
    }

    /// Returns the active machines, and later ones.
    pub fn directory(&self) -> watch::Receiver<Directory> {
        self.0.hub.directory()
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Waits until the writer has answered: it lives.
    pub async fn ping(&self) -> Result<(), StoreFailure> {
        self.0.store.call(|_| Ok(())).await
    }

    /// Tells whether machines' writes are refused for want of room on the disk.
    pub fn is_full(&self) -> bool {
        !self.0.reserve.is_whole()
    }

    /// Tells whether the disk had no room for what was last to be written, or machines have none.
    pub fn had_no_room(&self) -> bool {
        self.0.had_no_room.load(Ordering::Relaxed) || self.is_full()
    }

    /// Tells whether there is a vault already.
    pub fn is_founded(&self) -> bool {
        self.0.hub.signers().is_some()
    }

    /// Returns which machines wanted more than their share or have taken most of it, and the room
    /// on a disk that is getting full.
    pub fn shares(&self) -> SharesReply {
        let meter = &self.0.meter;
        let room = Some(self.room()).filter(Room::is_low);
        let failing = self.0.backup_failing.load(Ordering::Relaxed);
        let backup_failing = (failing > 0).then(|| Time::from_micros(failing));
        let restored = self.0.store.end().is_some_and(|end| end.restored);
        let program = Some(Text::lossy(&format!("vault-server {}", version::own())));
        let (over, near, replaced) = (meter.over(), meter.near(), process::replaced());
        SharesReply { over, near, room, backup_failing, restored, program, replaced }
    }

    /// Returns the vault, once there is one.
    pub fn id(&self) -> Option<VaultId> {
        self.0.store.end().map(|end| end.listed.vault)
    }

    /// Refuses a machine that has used one of the shares up.
    pub fn afford(&self, caller: &Caller, shares: &[Share]) -> Result<(), Refusal> {
        Ok(self.0.meter.afford(caller.number, shares)?)
    }

    /// Counts a request that was refused since its machine is over its share; all of a minute
    /// become one record.
    pub fn count_limited(&self, caller: &Caller) {
        let fact = Fact { result: AuditOutcome::Limited, ..caller.fact(Op::Request) };
        self.0.store.folded().count(&fact);
    }

    /// Does what is due once a minute: records what is only counted, looks after the one-time code,
    /// drops blobs whose time is over and entries that a checkpoint stands for, moves old audit
    /// records into sealed files, looks how full the disk is. A failure is in the log; the next
    /// minute tries again.
    pub async fn every_minute(&self) {
        self.record_counted().await;
        self.look_after_code().await;
        let _ = self.drop_parked().await;
        self.look_at_room().await;
        let _ = self.drop_replaced().await;
        self.drop_entries().await;
        self.seal_audit().await;
    }

    /// Records what is still only counted or in memory, commits, and closes the database.
    pub async fn close(&self) {
        self.record_counted().await;
        self.save_reports().await;
        self.0.reader.close().await;
        self.0.store.close().await;
    }

    /// Counts a request by a key that belongs to no active machine.
    pub fn count_stranger(&self, peer: &Peer) {
        self.0.metrics.strangers.add(1);
        let fact = Fact { result: AuditOutcome::Forbidden, ..peer.fact(Op::Stranger) };
        self.0.store.folded().count(&fact);
    }

    async fn record_counted(&self) {
        // A failure is in the log; the counters in the metrics still hold these requests.
        let _ = self.0.store.call(Transaction::record_counted).await;
    }

    /// Records a request of a machine that was refused before any rule was asked.
    pub async fn record_malformed(
        &self,
        caller: &Caller,
        why: AuditOutcome,
    ) -> Result<(), Refusal> {
        let fact = Fact { result: why, ..caller.fact(Op::Request) };
        self.call(caller.number, move |tx| Ok(tx.record(fact)?)).await
    }

    /// Runs a piece of work of a machine in its turn. Without room on the disk it is refused: what
    /// is left is the owner's.
    async fn call<T, F>(&self, machine: Number, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction) -> Outcome<T> + Send + 'static,
    {
        if machine != STRANGERS && self.is_full() {
            return Err(StoreFailure::Full.into());
        }
        self.in_turn(machine, false, work).await
    }

    /// Runs a piece of work in the turn of `machine`, of whose share its records are taken;
    /// `is_tight` has those counted that may be, as there is no room on the disk.
    async fn in_turn<T, F>(&self, machine: Number, is_tight: bool, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction) -> Outcome<T> + Send + 'static,
    {
        let turn = self.0.meter.writes.enter(machine).await;
        let meter = Arc::clone(&self.0.meter);
        let payer = (machine != STRANGERS).then_some(Payer { meter, machine, is_tight });
        let done = self.0.store.call(move |tx| {
            // Held while the work is queued, even if nobody waits for it any more.
            let _turn = turn;
            tx.bill(payer);
            let done = work(tx);
            tx.bill(None);
            match done {
                Ok(done) => Ok(Ok(done)),
                Err(Stop::Refused(why)) => Ok(Err(why)),
                Err(Stop::Failed(why)) => Err(why),
            }
        });
        let done = done.await;
        match &done {
            Ok(_) => self.0.had_no_room.store(false, Ordering::Relaxed),
            Err(StoreFailure::Full) => self.0.had_no_room.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        done?
    }

    /// As [`Vault::call`], for an owner: if the disk is full, the reserve is given up.
    async fn call_for_owner<T, F>(&self, machine: Number, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction) -> Outcome<T> + Clone + Send + 'static,
    {
        let is_full = |done: &Result<T, Refusal>| {
            matches!(done, Err(Refusal::Unavailable(StoreFailure::Full)))
        };
        let done = self.in_turn(machine, self.is_full(), work.clone()).await;
        if !is_full(&done) {
            return done;
        }
        // A refusal needs no room: the reserve is for what an owner does.
        let done = self.in_turn(machine, true, work.clone()).await;
        if !is_full(&done) {
            return done;
        }
        if let Err(why) = self.0.reserve.release() {
            tracing::error!(%why, "the reserve cannot be given up");
            return done;
        }
        self.in_turn(machine, true, work).await
    }

    /// Reads beside the writer in the turn of `machine`.
    async fn ask<T, F>(&self, machine: Number, ask: F) -> Result<T, StoreFailure>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> store::Result<T> + Send + 'static,
    {
        let turn = self.0.meter.reads.enter(machine).await;
        let asked = self.0.reader.ask(move |conn| {
            let _turn = turn;
            ask(conn)
        });
        asked.await
    }
}

/// Returns the state and the caller's machine, if its key is that of an active one; calls the
/// caller by its present name.
fn admitted<'d>(
    tx: &'d Transaction,
    caller: &mut Caller,
) -> Result<(&'d State, &'d Machine), Refusal> {
    let state = tx.state().ok_or(Refusal::Stranger)?;
    let (_, machine) = state.machine_by_key(&caller.key).ok_or(Refusal::Stranger)?;
    if caller.name != machine.name {
        caller.name.clone_from(&machine.name);
    }
    Ok((state, machine))
}

/// Returns the state if the caller is admitted, or is an owner by their own key: the log is theirs
/// to read and to go on with, also when no machine is left.
fn admitted_to_log<'d>(tx: &'d Transaction, caller: &mut Caller) -> Result<&'d State, Refusal> {
    if !caller.is_owner() {
        return admitted(tx, caller).map(|(state, _)| state);
    }
    let state = tx.state().ok_or(Refusal::Stranger)?;
    let mut keys = state.admins().values().chain(state.key(&Actor::Root));
    match keys.any(|key| *key.as_bytes() == caller.key) {
        true => Ok(state),
        false => Err(Refusal::Stranger),
    }
}

/// Names the signer of an entry as audit records do.
fn signer(by: &Actor) -> Who {
    Who::lossy(&by.to_string())
}

/// Records a refusal; tells whether it is worth a line in the log, too: what is only counted, since
/// its machine is over its share, would fill that instead.
fn recorded(tx: &mut Transaction, fact: Fact) -> store::Result<bool> {
    let before = tx.audit().n;
    tx.record(fact)?;
    Ok(tx.audit().n > before)
}

/// Records that a rule refused, and returns the refusal.
fn refuse<T>(tx: &mut Transaction, mut fact: Fact, why: Error) -> Outcome<T> {
    fact.result = AuditOutcome::Refused(why.code);
    if recorded(tx, fact.clone())? {
        let Fact { machine, op, path, .. } = &fact;
        let (machine, path) =
            (machine.as_ref().map(Name::as_str), path.as_ref().map(SecretPath::as_str));
        tracing::warn!(machine, %op, path, %why, "refused");
    }
    Err(Refusal::Rule(why).into())
}

/// Records what came of a request that is refused for another reason than a rule.
fn give_up<T>(
    tx: &mut Transaction,
    mut fact: Fact,
    result: AuditOutcome,
    why: Refusal,
) -> Outcome<T> {
    fact.result = result;
    if recorded(tx, fact.clone())? {
        let machine = fact.machine.as_ref().map(Name::as_str);
        tracing::warn!(machine, op = %fact.op, result = %fact.result, "refused");
    }
    Err(why.into())
}

/// Records that the caller may not read something, and returns the refusal.
fn deny<T>(tx: &mut Transaction, mut fact: Fact, caller: &Caller, path: &str) -> Outcome<T> {
    let op = fact.op.clone();
    fact.result = AuditOutcome::Refused(Code::Denied);
    if recorded(tx, fact)? {
        tracing::warn!(machine = %caller.name, %op, path, "denied");
    }
    Err(Refusal::Denied(format!("`{}` may not read `{path}`", caller.name)).into())
}
