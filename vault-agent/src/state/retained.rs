//! Ciphertext of versions that targets may go back to, until they need them no more.

use std::collections::BTreeSet;

use rusqlite::{Connection, Result, Row};
use shared::hash::Hash;
use shared::path::SecretPath;

use super::log::{all, damaged, hash, number, one, run, unsigned};

/// One version's ciphertext, and what the log said of it.
#[derive(Clone, Debug)]
pub struct Retained {
    pub hash: Hash,
    /// The promise that its content keeps.
    pub promise: Hash,
    /// How many readers it was made for, and this machine's place among them.
    pub readers: (usize, usize),
    pub bytes: Vec<u8>,
}

impl Retained {
    /// Reads `hash, promise, count, position, bytes` from a column on.
    pub(super) fn read(row: &Row<'_>, column: usize) -> Result<Self> {
        Ok(Self {
            hash: hash(row, column)?,
            promise: hash(row, column + 1)?,
            readers: (unsigned(row, column + 2)?, unsigned(row, column + 3)?),
            bytes: row.get(column + 4)?,
        })
    }
}

pub fn keep(conn: &Connection, path: &SecretPath, ver: u64, kept: &Retained) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO retained \
                  (path, ver, hash, promise, count, position, bytes) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (count, position) = (number(kept.readers.0)?, number(kept.readers.1)?);
    let (hash, promise) = (kept.hash.as_bytes(), kept.promise.as_bytes());
    let row = (path.as_str(), number(ver)?, hash, promise, count, position, &kept.bytes);
    run(conn, insert, row)
}

pub fn read(conn: &Connection, path: &SecretPath, ver: u64) -> Result<Option<Retained>> {
    let select =
        "SELECT hash, promise, count, position, bytes FROM retained WHERE path = ?1 AND ver = ?2";
    one(conn, select, (path.as_str(), number(ver)?), |row| Retained::read(row, 0))
}

/// Lists the versions of one path.
pub fn of(conn: &Connection, path: &SecretPath) -> Result<Vec<u64>> {
    let mut query = conn.prepare_cached("SELECT ver FROM retained WHERE path = ?1")?;
    query.query_map([path.as_str()], |row| unsigned(row, 0))?.collect()
}

pub fn list(conn: &Connection) -> Result<BTreeSet<(SecretPath, u64)>> {
    all(conn, "SELECT path, ver FROM retained", |row| {
        let path = row.get_ref(0)?.as_str()?.parse().map_err(damaged)?;
        Ok((path, unsigned(row, 1)?))
    })
}

pub fn drop(conn: &Connection, path: &SecretPath, ver: u64) -> Result<()> {
    let delete = "DELETE FROM retained WHERE path = ?1 AND ver = ?2";
    run(conn, delete, (path.as_str(), number(ver)?))
}
