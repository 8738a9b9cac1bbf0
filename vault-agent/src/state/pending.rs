//! The signed entries that wait for an answer: their hashes, and the very bytes of the requests.

use rusqlite::{Connection, Result};
use shared::hash::Hash;

use super::log::{all, hash, one, run};

/// Saves the body of `POST /v1/log`, beside those that wait.
pub fn save(conn: &Connection, hash: Hash, request: &[u8]) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO pending (hash, request) VALUES (?1, ?2)";
    run(conn, insert, (hash.as_bytes(), request))
}

/// Returns which entries wait, oldest first.
pub fn list(conn: &Connection) -> Result<Vec<Hash>> {
    all(conn, "SELECT hash FROM pending ORDER BY n", |row| hash(row, 0))
}

pub fn load(conn: &Connection, entry: Hash) -> Result<Option<Vec<u8>>> {
    let query = "SELECT request FROM pending WHERE hash = ?1";
    one(conn, query, [entry.as_bytes()], |row| row.get(0))
}

/// Drops the request of an entry, if it waits.
pub fn settle(conn: &Connection, entry: Hash) -> Result<()> {
    run(conn, "DELETE FROM pending WHERE hash = ?1", [entry.as_bytes()])
}
