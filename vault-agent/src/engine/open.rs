//! Starting up without a server: keys, pins, and the state rebuilt from one's own snapshot and
//! the entries after it.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use anyhow::{Context as _, Result, bail};
use rusqlite::Connection;
use shared::audit::AuditHead;
use shared::error::Code;
use shared::log::{self, State};
use shared::time::Time;
use tokio::sync::{Notify, mpsc, watch};

use super::alarms::Alarms;
use super::cache::Cache;
use super::commit::Commit;
use super::errand::Errand;
use super::fleet::Fleet;
use super::ledger::{Ledger, stand_in};
use super::link::Link;
use super::send::Pending;
use super::{Inner, write};
use crate::state::{self, Store, facts};
use host::clock;
use host::files::check_private;
use machine::identity::{MachineKeys, Pins};
use machine::paths::Paths;

/// What the database held.
struct Found {
    ledger: Ledger,
    /// Entry of the stored snapshot.
    snapshot: u64,
    fleet: Fleet,
    synced_at: Option<Time>,
    fork: Option<String>,
    pending: Option<Pending>,
    report_n: u64,
}

pub(super) fn open(paths: &Paths) -> Result<Arc<Inner>> {
    if !paths.state.exists() {
        bail!(
            "no machine is set up in `{}`\nhint: run `vault-agent init`, or `vault init` on the \
             first machine",
            paths.state.display()
        );
    }
    check_private(&paths.state)?;
    let keys = MachineKeys::load(paths)?;
    let Some(pins) = Pins::load(paths)? else {
        bail!(
            "this machine has not joined a vault\nhint: run `vault machine add` for it on an \
             admin's machine, then here the `vault-agent join` line that it prints"
        );
    };
    let (store, found) = Store::open(&paths.database(), |conn| load(conn, &pins))?;
    let (writes, queue) = mpsc::channel(write::QUEUE);
    let inner = Inner {
        name: pins.name.clone(),
        keys,
        ledger: RwLock::new(found.ledger),
        cache: Mutex::new(Cache::default()),
        alarms: Mutex::new(Alarms::default()),
        fleet: Mutex::new(found.fleet),
        targets: watch::Sender::new(None),
        accesses: super::access::Queue::default(),
        link: watch::Sender::new(Link::UNTRIED),
        changes: watch::Sender::new(0),
        applied: watch::Sender::new(0),
        commit: Mutex::new(Commit::ended(true)),
        halted: watch::Sender::new(found.fork.is_some()),
        synced_at: AtomicU64::new(found.synced_at.unwrap_or_default().as_micros()),
        heard: AtomicU64::new(0),
        snapshot: AtomicU64::new(found.snapshot),
        report_n: AtomicU64::new(found.report_n),
        pending: Mutex::new(found.pending),
        writes,
        queue: Mutex::new(Some(queue)),
        tasks: Mutex::new(Vec::new()),
        fetch_due: Notify::new(),
        nudge: Notify::new(),
        reporting: Errand::default(),
        shipping: Errand::default(),
        store,
        pins,
    };
    if let Some(proof) = found.fork {
        inner.alarms().raise(Code::Fork.as_str(), "", proof, clock::now());
    }
    Ok(Arc::new(inner))
}

fn load(conn: &Connection, pins: &Pins) -> Result<Found> {
    let damaged = "the agent's database does not verify\nhint: stop the agent, move `agent.db` \
                   away and start it again: it syncs anew";
    let (state, born, snapshot) = verified_state(conn, pins).context(damaged)?;
    let held = state::blobs::list(conn)?.into_iter().collect::<HashMap<_, _>>();
    let mut readers = HashMap::new();
    for (hash, count, position) in state::blobs::readers(conn)? {
        readers.insert(hash, (usize::try_from(count)?, usize::try_from(position)?));
    }
    let audit = facts::get::<AuditHead>(conn, facts::AUDIT)?.unwrap_or(AuditHead::EMPTY);
    let fleet = Fleet::load(state::peers::list(conn)?, &state, audit);
    Ok(Found {
        ledger: Ledger { state, born, held, readers },
        snapshot,
        fleet,
        synced_at: facts::get(conn, facts::SYNCED_AT)?,
        fork: facts::get(conn, facts::FORK)?,
        pending: state::pending::load(conn)?
            .map(|found| Pending { hash: found.hash, blobs: Vec::new() }),
        report_n: facts::get(conn, facts::REPORT_N)?.unwrap_or(0),
    })
}

/// Folds the stored log to its stored head; returns the state, whether it has a genesis, and
/// where the snapshot stood.
fn verified_state(conn: &Connection, pins: &Pins) -> Result<(State, bool, u64)> {
    let Some((seq, head)) = state::log::head(conn)? else {
        return Ok((stand_in()?, false, 0));
    };
    let snapshot = state::log::snapshot(conn)?.filter(|state| state.vault() == pins.vault);
    let mut state = match snapshot {
        Some(state) => state,
        None => {
            let genesis = state::log::entry(conn, 0)?.context("the genesis is missing")?;
            log::start(&genesis)?
        }
    };
    if state.vault() != pins.vault {
        bail!("the log is that of vault {}, not of {}", state.vault().short(), pins.vault.short());
    }
    let snapshot = state.seq();
    state::log::replay(conn, snapshot, |at, envelope| {
        log::apply(&mut state, envelope).with_context(|| format!("entry {at}"))?;
        Ok(())
    })?;
    if (state.seq(), state.head()) != (seq, head) {
        bail!("the log ends at entry {}, its head says {seq}", state.seq());
    }
    Ok((state, true, snapshot))
}
