//! The signed entry that waits for an answer: its hash, and the very bytes of the request.

use rusqlite::{Connection, OptionalExtension as _, Result};
use shared::hash::Hash;

use super::log::hash;

/// A request that is sent until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Hash of the entry.
    pub hash: Hash,
    /// Body of `POST /v1/log`.
    pub request: Vec<u8>,
}

/// Saves the request, in place of any other.
///
/// # Errors
/// If the database fails.
pub fn save(conn: &Connection, hash: Hash, request: &[u8]) -> Result<()> {
    let mut query = conn
        .prepare_cached("INSERT OR REPLACE INTO pending (one, hash, request) VALUES (1, ?1, ?2)")?;
    query.execute((hash.as_bytes(), request))?;
    Ok(())
}

/// Reads the request.
///
/// # Errors
/// If the database fails.
pub fn load(conn: &Connection) -> Result<Option<Pending>> {
    let mut query = conn.prepare_cached("SELECT hash, request FROM pending")?;
    query.query_row([], |row| Ok(Pending { hash: hash(row, 0)?, request: row.get(1)? })).optional()
}

/// Drops the request if it is that entry's.
///
/// # Errors
/// If the database fails.
pub fn settle(conn: &Connection, hash: Hash) -> Result<()> {
    let mut query = conn.prepare_cached("DELETE FROM pending WHERE hash = ?1")?;
    query.execute([hash.as_bytes()])?;
    Ok(())
}
