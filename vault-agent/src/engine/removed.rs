//! How machines went that are in the vault no more: when, by whom and why, as the verified log
//! says.

use anyhow::{Context as _, Result};
use rusqlite::Connection;
use shared::log::{Entry, Op, Rekey};
use shared::signed::parse_strict;

use super::parts::Parts;
use crate::state::log;
use machine::local::Removed;

pub(super) async fn all(parts: &Parts) -> Result<Vec<Removed>> {
    parts.store.read(|conn| Ok(found(conn))).await?
}

fn found(conn: &Connection) -> Result<Vec<Removed>> {
    let last = log::head(conn)?.map_or(0, |(seq, _)| seq);
    let mut all = Vec::new();
    // Machines sign no entry that takes one out.
    log::by_owners(conn, 0, last, |_, envelope| {
        let entry: Entry = parse_strict(&envelope.body).context("an entry of the own log")?;
        all.extend(entry.ops.iter().filter_map(|op| of(op, &entry)));
        Ok(())
    })?;
    Ok(all)
}

/// Tells how an operation takes a machine out, if it does.
pub(super) fn of(op: &Op, entry: &Entry) -> Option<Removed> {
    let (number, reason, goes_on) = match op {
        Op::MachineRemove { number, reason } => (*number, reason.to_string(), None),
        Op::MachineRekey(Rekey { number, new_number, .. }) => {
            (*number, String::new(), Some(*new_number))
        }
        _ => return None,
    };
    let (time, by) = (entry.time, entry.by.clone());
    Some(Removed { number, entry: entry.seq, time, by, reason, goes_on })
}
