//! What the parts of the engine share, and short ways to its locks. No rule lives here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use shared::blob::Blob;
use shared::error::Code;
use shared::name::Name;
use shared::report::TargetReport;
use shared::time::Time;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::alarms::Alarms;
use super::blob::Due;
use super::cache::Cache;
use super::commit::Commit;
use super::errand::Errand;
use super::fleet::Fleet;
use super::ledger::Ledger;
use super::link::Link;
use super::send::Pending;
use super::types::Status;
use super::{access, work, write};
use crate::state::{self, Outcome, Store, facts};
use host::clock;
use machine::identity::{MachineKeys, Pins};
use machine::remote::Client;

/// Entries after which a new snapshot of the state is written.
const SNAPSHOT: u64 = 4096;
/// The same while a long log is being caught up with: each takes time that the sync would need.
const SNAPSHOT_MIDWAY: u64 = 16_384;

/// The alarm while the agent's own database cannot be written.
const STATE: &str = "E_STATE";

/// Raises an alarm while nothing can be kept.
pub(super) async fn watch_database(inner: Arc<Inner>) {
    let mut trouble = inner.store.trouble();
    while trouble.changed().await.is_ok() {
        let fault = trouble.borrow_and_update().clone();
        match fault {
            Some(fault) => inner.raise(STATE, "", fault.to_string()),
            None => inner.clear_alarm(STATE),
        }
    }
}

fn snapshot_is_due(last: u64, seq: u64, caught_up: bool) -> bool {
    seq >= last + if caught_up { SNAPSHOT } else { SNAPSHOT_MIDWAY }
}

/// The engine's insides. Locks are taken for moments only, `ledger` before any other.
pub(super) struct Inner {
    pub(super) name: Name,
    pub(super) pins: Pins,
    pub(super) keys: MachineKeys,
    pub(super) ledger: RwLock<Ledger>,
    pub(super) cache: Mutex<Cache>,
    pub(super) alarms: Mutex<Alarms>,
    pub(super) fleet: Mutex<Fleet>,
    /// What is reported of the targets; `None` until somebody has looked at them: what was reported last then stands.
    pub(super) targets: watch::Sender<Option<Vec<TargetReport>>>,
    pub(super) accesses: access::Queue,
    pub(super) link: watch::Sender<Link>,
    /// Ticks for those outside.
    pub(super) changes: watch::Sender<u64>,
    /// Ticks when an entry was applied, before it is on disk.
    pub(super) applied: watch::Sender<u64>,
    /// The commit of the newest of them.
    pub(super) commit: Mutex<Commit>,
    /// Whether updates and writes have stopped because of a fork.
    pub(super) halted: watch::Sender<bool>,
    /// Microseconds; 0 for never.
    pub(super) synced_at: AtomicU64,
    /// The same in microseconds since the boot, 0 before this process has heard of the server.
    pub(super) heard: AtomicU64,
    /// Entry of the last snapshot.
    pub(super) snapshot: AtomicU64,
    /// Number of this machine's last report.
    pub(super) report_n: AtomicU64,
    /// Hash of the signed entry that waits for an answer.
    pub(super) pending: Mutex<Option<Pending>>,
    pub(super) writes: mpsc::Sender<write::Job>,
    pub(super) queue: Mutex<Option<mpsc::Receiver<write::Job>>>,
    pub(super) tasks: Mutex<Vec<AbortHandle>>,
    pub(super) fetch_due: Notify,
    /// Ends the pause before the next try to connect.
    pub(super) nudge: Notify,
    pub(super) reporting: Errand,
    pub(super) shipping: Errand,
    pub(super) store: Store,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(super) fn ledger(&self) -> RwLockReadGuard<'_, Ledger> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ledger_mut(&self) -> RwLockWriteGuard<'_, Ledger> {
        self.ledger.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        lock(&self.cache)
    }

    pub(super) fn alarms(&self) -> MutexGuard<'_, Alarms> {
        lock(&self.alarms)
    }

    pub(super) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        lock(&self.fleet)
    }

    pub(super) fn commit(&self) -> MutexGuard<'_, Commit> {
        lock(&self.commit)
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        lock(&self.pending)
    }

    /// Tells those outside that something changed.
    pub(super) fn tick(&self) {
        self.changes.send_modify(|tick| *tick += 1);
    }

    /// Tells the writer that entries were applied.
    pub(super) fn advanced(&self) {
        self.applied.send_modify(|tick| *tick += 1);
    }

    /// Returns the connection, or why there is none.
    pub(super) fn client(&self) -> Result<Client, String> {
        let link = self.link.borrow();
        match &link.client {
            Some(client) if !client.is_closed() => Ok(client.clone()),
            Some(_) => Err("the connection is gone".into()),
            None => Err(link.trouble.clone().unwrap_or_else(|| "not connected".into())),
        }
    }

    /// Returns the connection if entries may be built, or why not.
    pub(super) fn writing_client(&self) -> Result<Client, String> {
        let client = self.client()?;
        if *self.halted.borrow() {
            return Err("writes are stopped: the server has shown two histories".into());
        }
        if !self.link.borrow().caught_up {
            return Err("still catching up with the log".into());
        }
        Ok(client)
    }

    /// Returns why there is no connection.
    pub(super) fn reason(&self) -> String {
        self.link.borrow().trouble.clone().unwrap_or_else(|| "not connected".into())
    }

    /// Starts a background task that ends with the engine.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(task);
        let mut tasks = lock(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(handle.abort_handle());
    }

    /// Starts the writer, once.
    pub(super) fn start_writer(self: &Arc<Self>) {
        let queue = lock(&self.queue).take();
        if let Some(queue) = queue {
            self.spawn(write::run(Arc::clone(self), queue));
        }
    }

    /// Ends the background tasks.
    pub(super) fn stop(&self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        self.down("the agent is stopping");
    }

    /// Opens blobs that came along, starting at once; returns the task that still does if there are many.
    pub(super) fn open_all(self: &Arc<Self>, arrived: Vec<(Due, Blob)>) -> Option<JoinHandle<()>> {
        let own = Arc::clone(self);
        // What this machine wrote itself is there already.
        let arrived: Vec<_> =
            arrived.into_iter().filter(|(due, _)| !self.cache().has(&due.blob)).collect();
        let bytes = arrived.iter().map(|(_, blob)| blob.bytes().len()).sum();
        let small = work::is_small(arrived.len(), bytes);
        let open = move || {
            for (due, blob) in arrived {
                // A failure has raised its alarm; whoever asks for the content hears it again.
                let _ = own.open_now(&due, &blob);
            }
        };
        if small {
            open();
            return None;
        }
        Some(tokio::task::spawn_blocking(open))
    }

    /// Raises an alarm about `subject`.
    pub(super) fn raise(&self, code: &str, subject: &str, detail: impl Into<String>) {
        let new = self.alarms().raise(code, subject, detail.into(), clock::now());
        if new {
            self.tick();
        }
    }

    pub(super) fn clear_alarm(self: &Arc<Self>, code: &str) {
        self.alarms().clear(code);
        if code == Code::AuditRewritten.as_str() {
            // A person has looked: the chain is taken as it is shown next, and may only grow again.
            self.fleet().audit = shared::audit::AuditHead::EMPTY;
        }
        if code == Code::Fork.as_str() && self.halted.send_replace(false) {
            let cleared =
                self.store.try_submit(Box::new(|conn| match facts::unset(conn, facts::FORK) {
                    Ok(()) => Outcome::Keep(Box::new(|_| {})),
                    Err(fault) => Outcome::Undo(fault.into()),
                }));
            if let Err(fault) = cleared {
                tracing::error!(%fault, "the fork stays written down");
            }
        }
    }

    /// Writes a snapshot if many entries have come since the last.
    pub(super) fn snapshot_if_due(self: &Arc<Self>) {
        let seq = self.ledger().seq();
        let last = self.snapshot.load(Ordering::Relaxed);
        if snapshot_is_due(last, seq, self.link.borrow().caught_up) {
            let own = Arc::clone(self);
            self.spawn(async move { own.write_snapshot().await });
        }
    }

    /// Writes a snapshot of the state unless there is one of this very entry.
    pub(super) async fn write_snapshot(self: &Arc<Self>) {
        let (born, seq) = {
            let ledger = self.ledger();
            (ledger.born, ledger.seq())
        };
        let synced_at = self.synced_at();
        let fresh = born && seq > self.snapshot.swap(seq, Ordering::Relaxed);
        let own = Arc::clone(self);
        let written = self.store.write(move |conn| {
            if let Some(time) = synced_at {
                facts::set(conn, facts::SYNCED_AT, &time)?;
            }
            if fresh {
                let ledger = own.ledger();
                state::log::set_snapshot(conn, &ledger.state)?;
            }
            Ok(())
        });
        if let Err(fault) = written.await {
            tracing::warn!(%fault, "the snapshot is not written: the next start takes longer");
        }
    }

    pub(super) fn synced_at(&self) -> Option<Time> {
        let micros = self.synced_at.load(Ordering::Relaxed);
        (micros > 0).then(|| Time::from_micros(micros))
    }

    pub(super) fn status(&self) -> Status {
        let link = self.link.borrow().clone();
        let (audit, mut peers) = {
            let fleet = self.fleet();
            (fleet.audit, fleet.list())
        };
        // What this machine last reported may be behind its targets, above all without a server.
        if let Some(targets) = &*self.targets.borrow()
            && let Some(own) = peers.iter_mut().find(|peer| peer.report.machine == self.name)
        {
            own.report.targets.clone_from(targets);
        }
        let alarms = self.alarms().list();
        let pending = self.pending_entry().is_some();
        let ledger = self.ledger();
        let state = &ledger.state;
        Status {
            machine: self.name.clone(),
            vault: self.pins.vault,
            vault_name: if ledger.born { state.name().to_string() } else { String::new() },
            online: link.caught_up,
            server: link.address,
            trouble: link.trouble,
            synced_at: self.synced_at(),
            seq: ledger.seq(),
            head: state.head(),
            audit,
            stale: state.stale().count(),
            pending,
            alarms,
            peers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sync_is_not_all_lost_with_the_process() {
        assert!(!snapshot_is_due(0, 16_383, false));
        assert!(snapshot_is_due(0, 16_384, false));
        assert!(!snapshot_is_due(16_384, 20_480, false));
        assert!(snapshot_is_due(16_384, 20_480, true));
    }
}
