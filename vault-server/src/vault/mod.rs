//! The rules of the server as functions over a transaction: who may do what, what is written, what
//! is recorded, what the answer is. No HTTP, no SQL text, no TLS.

mod access;
mod append;
mod audit;
mod blob;
mod caller;
mod code;
mod follow;
mod genesis;
mod heal;
mod hub;
mod report;
mod reported;
mod restored;
mod strangers;

use std::sync::Arc;

use host::store::StoreFailure;
use shared::audit::{Fact, Op, Outcome as AuditOutcome, Who};
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::log::{Machine, State};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::store::{Reader, Store, Transaction};

use hub::Hub;
use strangers::Strangers;

pub use append::Append;
pub use caller::{Caller, Peer};
pub use code::CodeFile;
pub use follow::{Join, line};
pub use hub::{Directory, Live, Place, directory};
pub use reported::Reported;

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
    /// The database failed, and nothing was written; the details are in the log.
    Unavailable(StoreFailure),
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
    /// SQLite failed: what was written is taken back.
    Failed(rusqlite::Error),
}

impl From<Refusal> for Stop {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(why: rusqlite::Error) -> Self {
        Self::Failed(why)
    }
}

/// What a piece of work yields.
type Outcome<T> = Result<T, Stop>;

/// The server's rules and what they act on; clones share it.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    store: Store,
    reader: Reader,
    hub: Arc<Hub>,
    strangers: Strangers,
    reported: Reported,
    /// This server's own key: of its end of TLS, and of the heads that it signs.
    key: Arc<SignKey>,
    code: Arc<CodeFile>,
    metrics: Arc<Metrics>,
}

/// What a vault is opened with.
pub struct Opened {
    /// The writer.
    pub store: Store,
    /// What reads beside it.
    pub reader: Reader,
    /// The active machines.
    pub machines: Directory,
    /// What they have reported last.
    pub reported: Reported,
    /// This server's own key.
    pub key: Arc<SignKey>,
    /// Where the one-time code of a database that was set back is shown.
    pub code: CodeFile,
    /// The counters.
    pub metrics: Arc<Metrics>,
}

impl Vault {
    /// Puts the rules over an opened store.
    pub fn new(opened: Opened) -> Self {
        let Opened { store, reader, machines, reported, key, code, metrics } = opened;
        let hub = Hub::new(machines, Arc::clone(&metrics));
        let (strangers, code) = (Strangers::default(), Arc::new(code));
        Self(Arc::new(Inner { store, reader, hub, strangers, reported, key, code, metrics }))
    }

    /// Returns the caller behind a connection, if its key belongs to an active machine.
    pub fn caller(&self, peer: &Peer) -> Option<Caller> {
        let directory = self.0.hub.directory();
        directory.borrow().get(&peer.key).map(|(number, name)| peer.named(*number, name))
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

    /// Does what is due once a minute: records strangers, drops blobs parked for more than an hour,
    /// looks after the one-time code.
    pub async fn every_minute(&self) {
        self.record_strangers().await;
        self.look_after_code().await;
        // A failure is in the log; the next minute tries again.
        let _ = self.drop_parked().await;
    }

    /// Records what is still only counted or in memory, commits, and closes the database.
    pub async fn close(&self) {
        self.record_strangers().await;
        self.save_reports().await;
        self.0.reader.close();
        self.0.store.close().await;
    }

    /// Counts a request by a key that belongs to no active machine.
    pub fn count_stranger(&self, peer: &Peer) {
        self.0.metrics.strangers.add(1);
        self.0.strangers.count(peer);
    }

    async fn record_strangers(&self) {
        let facts = self.0.strangers.take();
        if facts.is_empty() {
            return;
        }
        // A failure is in the log; the counters in the metrics still hold these requests.
        let record = |tx: &mut Transaction| facts.into_iter().try_for_each(|fact| tx.record(fact));
        let _ = self.0.store.call(record).await;
    }

    /// Records a request of a machine that was refused before any rule was asked.
    pub async fn record_malformed(
        &self,
        caller: &Caller,
        why: AuditOutcome,
    ) -> Result<(), StoreFailure> {
        let fact = Fact { result: why, ..caller.fact(Op::Request) };
        self.0.store.call(move |tx| tx.record(fact)).await
    }

    async fn call<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction) -> Outcome<T> + Send + 'static,
    {
        let done = self.0.store.call(move |tx| match work(tx) {
            Ok(done) => Ok(Ok(done)),
            Err(Stop::Refused(why)) => Ok(Err(why)),
            Err(Stop::Failed(why)) => Err(why),
        });
        done.await?
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

/// Names the signer of an entry as audit records do.
fn signer(by: &Actor) -> Who {
    Who::lossy(&by.to_string())
}

/// Records that a rule refused, and returns the refusal.
fn refuse<T>(tx: &mut Transaction, mut fact: Fact, why: Error) -> Outcome<T> {
    let Fact { machine, op, path, .. } = &fact;
    let (machine, path) =
        (machine.as_ref().map(Name::as_str), path.as_ref().map(SecretPath::as_str));
    tracing::warn!(machine, %op, path, %why, "refused");
    fact.result = AuditOutcome::Refused(why.code);
    tx.record(fact)?;
    Err(Refusal::Rule(why).into())
}

/// Records what came of a request that is refused for another reason than a rule.
fn give_up<T>(
    tx: &mut Transaction,
    mut fact: Fact,
    result: AuditOutcome,
    why: Refusal,
) -> Outcome<T> {
    tracing::warn!(machine = fact.machine.as_ref().map(Name::as_str), op = %fact.op, %result, "refused");
    fact.result = result;
    tx.record(fact)?;
    Err(why.into())
}

/// Records that the caller may not read something, and returns the refusal.
fn deny<T>(tx: &mut Transaction, mut fact: Fact, caller: &Caller, path: &str) -> Outcome<T> {
    tracing::warn!(machine = %caller.name, op = %fact.op, path, "denied");
    fact.result = AuditOutcome::Refused(Code::Denied);
    tx.record(fact)?;
    Err(Refusal::Denied(format!("`{}` may not read `{path}`", caller.name)).into())
}
