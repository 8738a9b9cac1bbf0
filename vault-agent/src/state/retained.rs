//! Ciphertext of versions that targets may go back to, until they need them no more.

use rusqlite::{Connection, OptionalExtension as _, Result};
use shared::hash::Hash;
use shared::path::SecretPath;

use super::log::{damaged, hash, number, unsigned};

/// One version's ciphertext, and what the log said of it.
#[derive(Clone, Debug)]
pub struct Retained {
    /// The blob.
    pub hash: Hash,
    /// The promise that its content keeps.
    pub promise: Hash,
    /// How many readers it was made for, and this machine's place among them.
    pub readers: (u64, u64),
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Keeps a version's ciphertext.
///
/// # Errors
/// If the database fails.
pub fn keep(conn: &Connection, path: &SecretPath, ver: u64, kept: &Retained) -> Result<()> {
    let mut query = conn.prepare_cached(
        "INSERT OR REPLACE INTO retained (path, ver, hash, promise, count, position, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (count, position) = (number(kept.readers.0)?, number(kept.readers.1)?);
    let (hash, promise) = (kept.hash.as_bytes(), kept.promise.as_bytes());
    let row = (path.as_str(), number(ver)?, hash, promise, count, position, &kept.bytes);
    query.execute(row)?;
    Ok(())
}

/// Reads a version's ciphertext.
///
/// # Errors
/// If the database fails.
pub fn read(conn: &Connection, path: &SecretPath, ver: u64) -> Result<Option<Retained>> {
    let mut query = conn.prepare_cached(
        "SELECT hash, promise, count, position, bytes FROM retained WHERE path = ?1 AND ver = ?2",
    )?;
    let row = query.query_row((path.as_str(), number(ver)?), |row| {
        Ok(Retained {
            hash: hash(row, 0)?,
            promise: hash(row, 1)?,
            readers: (unsigned(row, 2)?, unsigned(row, 3)?),
            bytes: row.get(4)?,
        })
    });
    row.optional()
}

/// Lists the versions of one path.
///
/// # Errors
/// If the database fails.
pub fn of(conn: &Connection, path: &SecretPath) -> Result<Vec<u64>> {
    let mut query = conn.prepare_cached("SELECT ver FROM retained WHERE path = ?1")?;
    query.query_map([path.as_str()], |row| unsigned(row, 0))?.collect()
}

/// Lists all of them.
///
/// # Errors
/// If the database fails.
pub fn list(conn: &Connection) -> Result<Vec<(SecretPath, u64)>> {
    let mut query = conn.prepare("SELECT path, ver FROM retained")?;
    let rows = query.query_map([], |row| {
        let path = row.get_ref(0)?.as_str()?.parse().map_err(damaged)?;
        Ok((path, unsigned(row, 1)?))
    })?;
    rows.collect()
}

/// Drops a version's ciphertext.
///
/// # Errors
/// If the database fails.
pub fn drop(conn: &Connection, path: &SecretPath, ver: u64) -> Result<()> {
    let mut query = conn.prepare_cached("DELETE FROM retained WHERE path = ?1 AND ver = ?2")?;
    let ver = number(ver)?;
    query.execute((path.as_str(), ver))?;
    Ok(())
}
