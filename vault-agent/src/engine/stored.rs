//! What is written down of reports: how long this machine was connected, when it last heard whom,
//! the number of its last record and its targets, and how far it knows the audit chain.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rusqlite::Connection;
use shared::log::{Number, State};
use shared::time::Time;

use super::chain::Chain;
use super::fleet::Fleet;
use super::posting::Posting;
use crate::state::facts;
use crate::state::peers;

/// What an earlier process has left.
pub(super) struct Stored {
    pub(super) fleet: Fleet,
    pub(super) posting: Posting,
    pub(super) chain: Option<Chain>,
    pub(super) connected: Duration,
}

/// Reads what an earlier process has left, and verifies it.
pub(super) fn load(conn: &Connection, state: &State) -> Result<Stored> {
    let heard: Option<(u64, Vec<(Number, u64)>)> = facts::get(conn, facts::HEARD)?;
    let (connected, heard) = heard.unwrap_or_default();
    let heard = heard.into_iter().map(|(number, at)| (number, Duration::from_secs(at))).collect();
    let seen: Option<BTreeMap<Number, Time>> = facts::get(conn, facts::SEEN)?;
    let targets = facts::get::<String>(conn, facts::TARGETS)?;
    let reserved = facts::get(conn, facts::REPORT_N)?.unwrap_or(0);
    Ok(Stored {
        fleet: Fleet::load(peers::list(conn)?, heard, seen.unwrap_or_default(), state),
        posting: Posting::new(reserved, targets.as_deref())?,
        chain: facts::get(conn, facts::AUDIT)?,
        connected: Duration::from_secs(connected),
    })
}

/// Writes it down; the targets are when they are first sent.
pub(super) fn save(
    conn: &Connection,
    used: u64,
    chain: Option<Chain>,
    connected: Duration,
    heard: &BTreeMap<Number, Duration>,
    seen: &BTreeMap<Number, Time>,
) -> rusqlite::Result<()> {
    facts::set(conn, facts::REPORT_N, &used)?;
    if let Some(chain) = chain {
        facts::set(conn, facts::AUDIT, &chain)?;
    }
    facts::set(conn, facts::SEEN, seen)?;
    let heard: Vec<(Number, u64)> =
        heard.iter().map(|(number, at)| (*number, at.as_secs())).collect();
    facts::set(conn, facts::HEARD, &(connected.as_secs(), heard))
}
