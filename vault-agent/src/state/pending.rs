//! The signed entry that waits for an answer: its hash, and the very bytes of the request.

use rusqlite::{Connection, Result};
use shared::hash::Hash;

use super::log::{hash, one, run};

/// A request that is sent until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub hash: Hash,
    /// Body of `POST /v1/log`.
    pub request: Vec<u8>,
}

/// Saves the request, in place of any other.
pub fn save(conn: &Connection, hash: Hash, request: &[u8]) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO pending (one, hash, request) VALUES (1, ?1, ?2)";
    run(conn, insert, (hash.as_bytes(), request))
}

pub fn load(conn: &Connection) -> Result<Option<Pending>> {
    one(conn, "SELECT hash, request FROM pending", [], |row| {
        Ok(Pending { hash: hash(row, 0)?, request: row.get(1)? })
    })
}

/// Drops the request if it is that entry's.
pub fn settle(conn: &Connection, hash: Hash) -> Result<()> {
    run(conn, "DELETE FROM pending WHERE hash = ?1", [hash.as_bytes()])
}
