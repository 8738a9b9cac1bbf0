//! The rules of the server as functions over a transaction: who may do what, what is written, what
//! is recorded, what the answer is. No HTTP, no SQL text, no TLS.

/// Local reads of machines.
pub mod access;
/// New entries.
pub mod append;
/// Reading the audit.
pub mod audit;
/// Age files.
pub mod blob;
/// Reading and following the log.
pub mod follow;
/// The first record.
pub mod genesis;
/// What this server has lost.
pub mod heal;
/// Signed reports.
pub mod report;
/// Keys that belong to no machine.
pub mod strangers;
/// How often such keys came.
mod tally;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use shared::audit::{Fact, Op, Outcome as AuditOutcome, Who};
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::keys::VerifyKey;
use shared::log::{Machine, State};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::text::Text;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::store::{Reader, Store, Transaction, Unavailable};
use crate::watch::Hub;

use tally::Strangers;

/// Active machines by signing key, as of the last commit.
pub type Directory = Arc<HashMap<[u8; 32], Name>>;

/// Who is at the other end of a connection, as TLS proved it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its Ed25519 key.
    pub key: [u8; 32],
    /// Its address.
    pub addr: SocketAddr,
}

impl Peer {
    /// Returns the address without the port, an IPv4 one in its own form.
    fn ip(&self) -> Text<64> {
        Text::lossy(&self.addr.ip().to_canonical().to_string())
    }
}

/// An active machine that makes a request. Whether it still is one is asked again inside the
/// transaction.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: [u8; 32],
    /// Its address, without the port.
    pub addr: Text<64>,
}

/// Why a request was refused.
#[derive(Debug)]
pub enum Refusal {
    /// The key belongs to no active machine.
    Stranger,
    /// The machine has no right to this.
    Denied(String),
    /// The claim code is wrong or was used.
    Claim,
    /// A rule of the format or of the log.
    Rule(Error),
    /// The blob is not here.
    Absent(Hash),
    /// Nothing was written.
    Unavailable(Unavailable),
}

impl From<Unavailable> for Refusal {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

impl From<Error> for Refusal {
    fn from(why: Error) -> Self {
        Self::Rule(why)
    }
}

/// What a piece of work yields: SQLite's refusal takes back its writes, ours does not.
type Outcome<T> = rusqlite::Result<Result<T, Refusal>>;

/// The server's rules and what they act on; clones share it.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    store: Store,
    reader: Reader,
    outlets: Outlets,
    strangers: Strangers,
    /// This server's own TLS key.
    key: VerifyKey,
    metrics: Arc<Metrics>,
}

/// Where commits are made known.
#[derive(Clone)]
struct Outlets {
    hub: Arc<Hub>,
    directory: watch::Sender<Directory>,
}

impl Vault {
    /// Puts the rules over an opened store.
    #[must_use]
    pub fn new(
        store: Store,
        reader: Reader,
        machines: Directory,
        key: VerifyKey,
        metrics: Arc<Metrics>,
    ) -> Self {
        let hub = Hub::new(Arc::clone(&metrics));
        let outlets = Outlets { hub, directory: watch::Sender::new(machines) };
        Self(Arc::new(Inner {
            store,
            reader,
            outlets,
            strangers: Strangers::default(),
            key,
            metrics,
        }))
    }

    /// Returns the caller behind a connection, if its key belongs to an active machine.
    #[must_use]
    pub fn caller(&self, peer: &Peer) -> Option<Caller> {
        let name = self.0.outlets.directory.borrow().get(&peer.key)?.clone();
        Some(Caller { name, key: peer.key, addr: peer.ip() })
    }

    /// Returns the active machines, and later ones.
    #[must_use]
    pub fn directory(&self) -> watch::Receiver<Directory> {
        self.0.outlets.directory.subscribe()
    }

    /// Returns the counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Waits until the writer has answered: it lives.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn ping(&self) -> Result<(), Unavailable> {
        self.0.store.call(|_| Ok(())).await
    }

    /// Does what is due once a minute: records strangers, drops blobs parked for more than an hour.
    pub async fn every_minute(&self) {
        self.record_strangers().await;
        // A failure is in the log; the next minute tries again.
        let _ = self.drop_parked().await;
    }

    /// Records what is still only counted, commits, and closes the database.
    pub async fn close(&self) {
        self.record_strangers().await;
        self.0.reader.close();
        self.0.store.close().await;
    }

    /// Records a request of a machine that was refused before any rule was asked.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn record_malformed(
        &self,
        caller: &Caller,
        why: AuditOutcome,
    ) -> Result<(), Refusal> {
        let fact = Fact { result: why, ..caller.fact(Op::Request) };
        self.call(move |tx| Ok(Ok(tx.record(fact)?))).await
    }

    async fn call<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction) -> Outcome<T> + Send + 'static,
    {
        self.0.store.call(work).await?
    }
}

/// Returns the active machines of a state by signing key.
#[must_use]
pub fn directory(state: Option<&State>) -> Directory {
    let active = state.into_iter().flat_map(State::machines).filter(|(_, machine)| machine.active);
    Arc::new(active.map(|(name, machine)| (*machine.sign.as_bytes(), name.clone())).collect())
}

/// Returns the state and the caller's machine, if the caller is active in it.
fn admitted<'d>(tx: &'d Transaction, caller: &Caller) -> Result<(&'d State, &'d Machine), Refusal> {
    let state = tx.state().ok_or(Refusal::Stranger)?;
    let machine = state.machine(&caller.name).ok_or(Refusal::Stranger)?;
    if *machine.sign.as_bytes() != caller.key {
        return Err(Refusal::Stranger);
    }
    Ok((state, machine))
}

impl Caller {
    /// Starts the audit record of something this caller did.
    fn fact(&self, op: Op) -> Fact {
        Fact { machine: Some(self.name.clone()), addr: Some(self.addr.clone()), ..Fact::new(op) }
    }
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
    Ok(Err(Refusal::Rule(why)))
}

/// Records that the caller may not read something, and returns the refusal.
fn deny<T>(tx: &mut Transaction, mut fact: Fact, caller: &Caller, path: &str) -> Outcome<T> {
    tracing::warn!(machine = %caller.name, op = %fact.op, path, "denied");
    fact.result = AuditOutcome::Refused(Code::Denied);
    tx.record(fact)?;
    Ok(Err(Refusal::Denied(format!("`{}` may not read `{path}`", caller.name))))
}
