//! Who may sign for the vault, and who might: by the verified log.

use anyhow::{Context as _, Result};
use shared::keys::VerifyKey;
use shared::log::{Entry, Genesis, Op};
use shared::name::{Actor, Name};
use shared::signed::parse_strict;
use shared::time::Time;

use super::parts::Parts;
use crate::state::log;
use machine::local::{AdminRow, Admins};

pub(super) async fn list(parts: &Parts) -> Result<Admins> {
    let walked = parts.store.read(|conn| {
        Ok((|| {
            let genesis = log::entry(conn, 0)?.context("the log has no beginning")?;
            let genesis: Genesis = parse_strict(&genesis.body)?;
            let mut rows = Vec::new();
            for (name, key) in &genesis.admins {
                add(&mut rows, name, key, genesis.time);
            }
            let upto = log::head(conn)?.map_or(0, |(seq, _)| seq);
            // Root's own entries stay, whatever a checkpoint stands for.
            log::by_owners(conn, 0, upto, |_, envelope| {
                step(&mut rows, &parse_strict(&envelope.body)?);
                Ok(())
            })?;
            anyhow::Ok(rows)
        })())
    });
    let mut admins = walked.await??;
    let folded = parts.ledger.read();
    let state = &folded.state;
    // What was just applied may not be on disk yet.
    for row in admins.iter_mut().filter(|row| row.until.is_none()) {
        if state.admins().get(&row.name) != Some(&row.key) {
            row.until = Some(state.time());
        }
    }
    for (name, key) in state.admins() {
        if !admins.iter().any(|row| row.until.is_none() && row.name == *name) {
            add(&mut admins, name, key, state.time());
        }
    }
    admins.sort_by(|a, b| a.name.cmp(&b.name));
    let root = state.key(&Actor::Root).context("the vault has no root")?.clone();
    Ok(Admins { vault: parts.own.pins.vault, root, admins })
}

fn step(rows: &mut Vec<AdminRow>, entry: &Entry) {
    for op in &entry.ops {
        match op {
            Op::AdminAdd { name, key } => add(rows, name, key, entry.time),
            Op::AdminRemove { name } => {
                let gone = |row: &&mut AdminRow| row.until.is_none() && row.name == *name;
                if let Some(row) = rows.iter_mut().find(gone) {
                    row.until = Some(entry.time);
                }
            }
            _ => {}
        }
    }
}

fn add(rows: &mut Vec<AdminRow>, name: &Name, key: &VerifyKey, since: Time) {
    rows.push(AdminRow { name: name.clone(), key: key.clone(), since, until: None });
}
