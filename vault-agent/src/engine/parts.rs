//! All that the engine works with: who this machine is, its database, the owners of its state; and
//! how they start without a server, from one's own snapshot and the entries after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use rusqlite::Connection;
use shared::blob::Blob;
use shared::error::Code;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::log::{self, Refused, State};
use shared::time::Time;
use tokio::sync::Notify;

use super::access::Accesses;
use super::alarms::Alarms;
use super::aside;
use super::cache::Cache;
use super::folded::{Folded, stand_in};
use super::harmless::Harmless;
use super::ledger::Ledger;
use super::link::Link;
use super::pending::Pending;
use super::report::Reports;
use super::stored;
use super::tasks::Tasks;
use super::timing;
use super::types::{Commit, Own, Ticks};
use super::ways::Ways;
use crate::state::set_aside::{self, SetAside};
use crate::state::{self, Store, Trouble, facts};
use host::clock;
use host::files::check_private;
use host::hint::{Failure, hinted};
use host::store::checkpoint;
use machine::identity::{MachineKeys, Pins};
use machine::paths::Paths;

/// What the engine works with; each owner has its own lock.
pub(super) struct Parts {
    pub(super) own: Arc<Own>,
    pub(super) store: Arc<Store>,
    pub(super) trouble: Trouble,
    pub(super) alarms: Arc<Alarms>,
    pub(super) cache: Arc<Cache>,
    pub(super) pending: Arc<Pending>,
    pub(super) ways: Ways,
    pub(super) link: Arc<Link>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) reports: Arc<Reports>,
    pub(super) accesses: Arc<Accesses>,
    /// Versions that this machine does not open itself, by the blob that the log has of each; the
    /// recovery kit has, and encrypted them to this machine alone.
    pub(super) given: Mutex<HashMap<Hash, Blob>>,
    pub(super) tasks: Tasks,
    /// Ticks when the log advanced, a blob arrived, or peers or alarms changed.
    pub(super) ticks: Ticks,
    /// Says that the blob of a newest version may be missing.
    pub(super) fetch_due: Notify,
    /// Texts that tell no value; one at a time is looked at.
    pub(super) harmless: tokio::sync::Mutex<Harmless>,
    /// Verifies of the audit chain take turns.
    pub(super) verifying: tokio::sync::Mutex<()>,
}

/// What the database held.
struct Stored {
    folded: Folded,
    /// What was set aside: the newest of it.
    left: Vec<SetAside>,
    reports: stored::Stored,
    synced_at: Option<Time>,
    fork: Option<String>,
    pending: Vec<Hash>,
}

impl Parts {
    /// Opens identity, pins and database, and rebuilds the verified state.
    pub(super) fn open(paths: &Paths) -> Result<Self> {
        let own = Arc::new(identity(paths)?);
        let opened = state::open(&paths.database(), |conn| load(conn, &own.pins))?;
        let (store, trouble, Stored { folded, left, reports, synced_at, fork, pending }) = opened;
        let (store, ticks) = (Arc::new(store), Ticks::default());
        let alarms = Arc::new(Alarms::new(ticks.clone()));
        // Who was at the head once has seen the entry that added this machine.
        alarms.substituted(own.check(&folded.state, synced_at.is_some()).err());
        aside::raise(&alarms, &left);
        let cache = Arc::<Cache>::default();
        let folder = paths.state.clone();
        let pending = Arc::new(Pending::new(store.clone(), trouble.clone(), folder, pending));
        let address = own.pins.addresses.first().cloned();
        let link =
            Link::new(alarms.clone(), store.clone(), ticks.clone(), synced_at, fork, address);
        let link = Arc::new(link);
        let ledger = Arc::new(Ledger::new(
            own.clone(),
            store.clone(),
            cache.clone(),
            pending.clone(),
            ticks.clone(),
            folded,
        ));
        let accesses = Arc::new(Accesses::new(own.run, store.clone(), link.clone()));
        let reports = Arc::new(Reports::new(
            own.clone(),
            store.clone(),
            alarms.clone(),
            accesses.clone(),
            ledger.clone(),
            ticks.clone(),
            reports,
        ));
        let (tasks, fetch_due) = (Tasks::default(), Notify::new());
        let harmless = Harmless::new(ticks.subscribe()).into();
        Ok(Self {
            own,
            store,
            trouble,
            alarms,
            cache,
            pending,
            ways: Ways::default(),
            link,
            ledger,
            reports,
            accesses,
            given: Mutex::default(),
            tasks,
            ticks,
            fetch_due,
            harmless,
            verifying: tokio::sync::Mutex::default(),
        })
    }
}

impl Parts {
    /// Returns the time by which it is judged what is too old.
    pub(super) fn time_for_ages(&self) -> Time {
        let last = self.link.look(|link| link.synced_at.filter(|_| link.heard.is_none()));
        timing::for_ages(clock::now(), self.alarms.stands(Code::Clock), last)
    }
}

/// Reads who this machine is.
fn identity(paths: &Paths) -> Result<Own> {
    if !paths.state.exists() {
        bail!(hinted(
            format!("no machine is set up in `{}`", paths.state.display()),
            "`vault setup` makes a vault here; `vault machine add` on its host adds this one to another"
        ));
    }
    check_private(&paths.state)?;
    let keys = MachineKeys::load(paths)?;
    let Some(pins) = Pins::load(paths)? else {
        bail!(hinted(
            "this machine has not joined a vault",
            "run `vault machine add` for it on an admin's machine, then here the `vault-agent \
             join` line that it prints"
        ));
    };
    Ok(Own::new(pins, keys))
}

/// Says that an older program than the last one runs here.
fn newer() -> Failure {
    Failure::local("the agent's database follows a log that only a newer program can judge").hint(
        "install the vault-agent that ran here, or a newer one: nothing is changed, and the files \
         stay as they are",
    )
}

fn load(conn: &Connection, pins: &Pins) -> Result<Stored> {
    let damaged = Failure::local("the agent's database does not verify")
        .hint("stop the agent, move `agent.db` away and start it again: it syncs anew");
    let (state, born, snapshot) = verified_state(conn, pins).map_err(|why| {
        let is_newer =
            why.downcast_ref::<Refused>().is_some_and(|it| it.error.code == Code::Upgrade);
        why.context(if is_newer { newer() } else { damaged })
    })?;
    let held = state::blobs::list(conn)?;
    let readers = state::blobs::readers(conn)?;
    let reports = stored::load(conn, &state)?;
    let synced_at: Option<Time> = facts::get(conn, facts::SYNCED_AT)?;
    let signed = state::log::newest_signed(conn)?.map(|(seq, head, sig)| SignedHead {
        epoch: state.epoch_at(seq),
        seq,
        head,
        sig,
    });
    let pinned = if synced_at.is_none() { pins.server.clone() } else { Vec::new() };
    let (commit, aside, overs) = (Commit::ended(true), set_aside::bases(conn)?, 0);
    let trusted = facts::get(conn, facts::TRUST)?;
    let folded = Folded {
        state,
        born,
        held,
        readers,
        snapshot,
        signed,
        pinned,
        trusted,
        aside,
        overs,
        commit,
        begins: checkpoint::dropped(conn)?,
    };
    Ok(Stored {
        folded,
        left: set_aside::list(conn, aside::ALARMED)?,
        reports,
        synced_at,
        fork: facts::get(conn, facts::FORK)?,
        pending: state::pending::list(conn)?,
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
        None => state::log::beginning(conn)?,
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
