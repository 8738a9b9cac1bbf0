//! Single values by name, as postcard.

use rusqlite::{Connection, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::log::{damaged, one, run};

/// When the head was last known to be the server's: `Time`.
pub const SYNCED_AT: &str = "synced_at";
/// Number up to which this machine may have used the numbers of its seen-records: `u64`.
pub const REPORT_N: &str = "report_n";
/// The targets that this machine reported last: their JSON text, `String`.
pub const TARGETS: &str = "targets";
/// The audit chain as far as this machine has followed it: `engine::chain::Chain`.
pub const AUDIT: &str = "audit";
/// Seconds of connection in sum, and at which of them each machine was last heard:
/// `(u64, Vec<(Number, u64)>)`.
pub const HEARD: &str = "heard";
/// When each machine was last heard, removed ones too: `BTreeMap<Number, Time>`.
pub const SEEN: &str = "seen";
/// Proof that the log was forked, as shown in the alarm: `String`.
pub const FORK: &str = "fork";

/// What this host's last scan has found, as `crate::scan` keeps it: its JSON text, `String`.
pub const SCAN: &str = "scan";

/// A server that somebody on this host vouches for: `machine::local::Trust`.
pub const TRUST: &str = "trust";

/// What is owed to one who is told of alarms, by their name behind it: JSON text, `String`.
pub const FORWARD: &str = "forward:";

/// A verify of the audit chain that is under way, or was stopped: `engine::audit`'s.
pub const VERIFY: &str = "verify";

/// Reads a value.
///
/// # Errors
/// If it is there but not of this type.
pub fn get<T: DeserializeOwned>(conn: &Connection, name: &str) -> Result<Option<T>> {
    let select = "SELECT value FROM fact WHERE name = ?1";
    let value: Option<Vec<u8>> = one(conn, select, [name], |row| row.get(0))?;
    value.map(|bytes| postcard::from_bytes(&bytes).map_err(damaged)).transpose()
}

pub fn set<T: Serialize>(conn: &Connection, name: &str, value: &T) -> Result<()> {
    let bytes = postcard::to_stdvec(value).map_err(damaged)?;
    run(conn, "INSERT OR REPLACE INTO fact (name, value) VALUES (?1, ?2)", (name, bytes))
}

/// Drops all values whose name begins so, but for `kept`.
pub fn unset_others(conn: &Connection, start: &str, kept: &[String]) -> Result<()> {
    let mut query = conn.prepare("SELECT name FROM fact WHERE substr(name, 1, ?1) = ?2")?;
    let length = super::log::number(start.len() as u64)?;
    let names = query.query_map((length, start), |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<Result<_>>()?;
    names.iter().filter(|name| !kept.contains(name)).try_for_each(|name| unset(conn, name))
}

pub fn unset(conn: &Connection, name: &str) -> Result<()> {
    run(conn, "DELETE FROM fact WHERE name = ?1", [name])
}
