//! Starting up without a server: keys, pins, and the state rebuilt from one's own snapshot and
//! the entries after it.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use rusqlite::Connection;
use shared::audit::AuditHead;
use shared::hash::Hash;
use shared::log::{self, State};
use shared::time::Time;

use super::fleet::Fleet;
use super::folded::{Folded, stand_in};
use super::own::Own;
use crate::state::{self, Store, facts};
use host::files::check_private;
use host::hint::{Failure, hinted};
use machine::identity::{MachineKeys, Pins};
use machine::paths::Paths;

/// What the database held.
pub(super) struct Stored {
    pub(super) folded: Folded,
    pub(super) fleet: Fleet,
    pub(super) synced_at: Option<Time>,
    pub(super) fork: Option<String>,
    pub(super) pending: Option<Hash>,
}

/// Opens identity, pins and database.
pub(super) fn open(paths: &Paths) -> Result<(Own, Store, Stored)> {
    if !paths.state.exists() {
        bail!(hinted(
            format!("no machine is set up in `{}`", paths.state.display()),
            "run `vault-agent init`, or `vault init` on the first machine"
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
    let (store, stored) = Store::open(&paths.database(), |conn| load(conn, &pins))?;
    Ok((Own { name: pins.name.clone(), pins, keys }, store, stored))
}

fn load(conn: &Connection, pins: &Pins) -> Result<Stored> {
    let damaged = Failure::local("the agent's database does not verify")
        .hint("stop the agent, move `agent.db` away and start it again: it syncs anew");
    let (state, born, snapshot) = verified_state(conn, pins).context(damaged)?;
    let held = state::blobs::list(conn)?.into_iter().collect::<HashMap<_, _>>();
    let mut readers = HashMap::new();
    for (hash, count, position) in state::blobs::readers(conn)? {
        readers.insert(hash, (usize::try_from(count)?, usize::try_from(position)?));
    }
    let audit = facts::get::<AuditHead>(conn, facts::AUDIT)?.unwrap_or(AuditHead::EMPTY);
    let last = facts::get(conn, facts::REPORT_N)?.unwrap_or(0);
    let fleet = Fleet::load(state::peers::list(conn)?, &state, audit, last);
    Ok(Stored {
        folded: Folded { state, born, held, readers, snapshot },
        fleet,
        synced_at: facts::get(conn, facts::SYNCED_AT)?,
        fork: facts::get(conn, facts::FORK)?,
        pending: state::pending::load(conn)?.map(|pending| pending.hash),
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
