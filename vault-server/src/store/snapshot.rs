//! Table `snapshot`: the folded state after some entry, and starting from it. A snapshot is this
//! program's own and never sent; one that does not match the log is passed over.

use std::ops::ControlFlow;

use anyhow::{Context as _, Result, anyhow};
use rusqlite::{Connection, OptionalExtension as _, params};
use shared::hash::Hash;
use shared::log::{State, apply, start};

use super::{hash, int, log, nat};

/// Changes whenever the layout of [`State`] does: no other snapshot is read.
const FORMAT: &str = concat!(env!("CARGO_PKG_VERSION"), "/1");

/// Writes the snapshot of `state`, in a transaction of its own.
///
/// # Errors
/// As SQLite says.
pub fn save(conn: &Connection, state: &State) -> rusqlite::Result<()> {
    let bytes = postcard::to_stdvec(state)
        .map_err(|why| rusqlite::Error::ToSqlConversionFailure(Box::new(why)))?;
    let digest = Hash::of(&[&bytes]);
    conn.execute(
        "INSERT OR REPLACE INTO snapshot (id, format, seq, head, digest, state)
         VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        params![FORMAT, int(state.seq()), state.head().as_bytes(), digest.as_bytes(), bytes],
    )?;
    Ok(())
}

/// Reads the snapshot, if there is one that this program wrote and the log bears out.
fn load(conn: &Connection) -> rusqlite::Result<Option<State>> {
    let found = conn
        .query_row("SELECT format, seq, head, digest, state FROM snapshot", [], |row| {
            let format: String = row.get(0)?;
            let seq = nat(row.get(1)?);
            Ok((format, seq, hash(row, 2)?, hash(row, 3)?, row.get::<_, Vec<u8>>(4)?))
        })
        .optional()?;
    let Some((format, seq, head, digest, bytes)) = found else { return Ok(None) };
    let logged = log::at(conn, seq)?.map(|stored| stored.hash);
    if format != FORMAT || logged != Some(head) || Hash::of(&[&bytes]) != digest {
        tracing::warn!(seq, "snapshot passed over: the log is folded from its start");
        return Ok(None);
    }
    let state: Option<State> = postcard::from_bytes(&bytes).ok();
    Ok(state.filter(|state| state.seq() == seq && state.head() == head))
}

/// Folds the log, from the snapshot where there is one. Returns the state and how many entries
/// were folded; no state for a server without a vault.
///
/// # Errors
/// If an entry does not follow from those before.
pub fn fold(conn: &Connection) -> Result<(Option<State>, usize)> {
    let mut state = load(conn).context("cannot read the snapshot")?;
    let from = state.as_ref().map_or(0, |state| state.seq() + 1);
    let mut folded = 0;
    log::walk(conn, from, u64::MAX, |stored| {
        let broken = || format!("entry {} of the log is damaged", stored.seq);
        match &mut state {
            None => state = Some(start(&stored.envelope).with_context(broken)?),
            Some(state) => {
                apply(state, &stored.envelope).with_context(broken)?;
            }
        }
        if state.as_ref().map(State::head) != Some(stored.hash) {
            return Err(anyhow!("its hash differs").context(broken()));
        }
        folded += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((state, folded))
}
