//! Ciphertext: the newest version of every readable path, and what an owner's act has staged.

use rusqlite::{Connection, OptionalExtension as _, Result};
use shared::hash::Hash;
use shared::path::SecretPath;

use super::log::{damaged, hash, number, unsigned};

/// Keeps the ciphertext of a path's newest version in place of the one before.
///
/// # Errors
/// If the database fails.
pub fn keep(conn: &Connection, path: &SecretPath, blob: Hash, bytes: &[u8]) -> Result<()> {
    // In place: the index by path is not touched.
    let mut query = conn.prepare_cached(
        "INSERT INTO blob (path, hash, bytes) VALUES (?1, ?2, ?3) \
         ON CONFLICT (path) DO UPDATE SET hash = excluded.hash, bytes = excluded.bytes",
    )?;
    query.execute((path.as_str(), blob.as_bytes(), bytes))?;
    Ok(())
}

/// Drops a path's ciphertext.
///
/// # Errors
/// If the database fails.
pub fn drop(conn: &Connection, path: &SecretPath) -> Result<()> {
    let mut query = conn.prepare_cached("DELETE FROM blob WHERE path = ?1")?;
    query.execute([path.as_str()])?;
    Ok(())
}

/// Reads a path's ciphertext, if it is the blob asked for.
///
/// # Errors
/// If the database fails.
pub fn read(conn: &Connection, path: &SecretPath, blob: Hash) -> Result<Option<Vec<u8>>> {
    let mut query = conn.prepare_cached("SELECT bytes FROM blob WHERE path = ?1 AND hash = ?2")?;
    query.query_row((path.as_str(), blob.as_bytes()), |row| row.get(0)).optional()
}

/// Reads the ciphertext of a blob, if it is kept for some path.
///
/// # Errors
/// If the database fails.
pub fn by_hash(conn: &Connection, blob: Hash) -> Result<Option<Vec<u8>>> {
    let mut query = conn.prepare_cached("SELECT bytes FROM blob WHERE hash = ?1")?;
    query.query_row([blob.as_bytes()], |row| row.get(0)).optional()
}

/// Lists what is kept.
///
/// # Errors
/// If the database fails.
pub fn list(conn: &Connection) -> Result<Vec<(SecretPath, Hash)>> {
    let mut query = conn.prepare("SELECT path, hash FROM blob")?;
    let rows = query.query_map([], |row| {
        let path = row.get_ref(0)?.as_str()?.parse().map_err(damaged)?;
        Ok((path, hash(row, 1)?))
    })?;
    rows.collect()
}

/// Notes how many readers the hash stands for and this machine's place among them, from 0.
///
/// # Errors
/// If the database fails.
pub fn set_readers(conn: &Connection, readers: Hash, count: u64, position: u64) -> Result<()> {
    let mut query = conn.prepare_cached(
        "INSERT OR REPLACE INTO readers (hash, count, position) VALUES (?1, ?2, ?3)",
    )?;
    query.execute((readers.as_bytes(), number(count)?, number(position)?))?;
    Ok(())
}

/// Lists what [`set_readers`] noted: hash, count, position.
///
/// # Errors
/// If the database fails.
pub fn readers(conn: &Connection) -> Result<Vec<(Hash, u64, u64)>> {
    let mut query = conn.prepare("SELECT hash, count, position FROM readers")?;
    let rows =
        query.query_map([], |row| Ok((hash(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?)))?;
    rows.collect()
}

/// Stages a blob for an entry that is still to be signed; gone when the program ends.
///
/// # Errors
/// If the database fails.
pub fn stage(conn: &Connection, blob: Hash, bytes: &[u8]) -> Result<()> {
    let mut query =
        conn.prepare_cached("INSERT OR REPLACE INTO temp.staged (hash, bytes) VALUES (?1, ?2)")?;
    query.execute((blob.as_bytes(), bytes))?;
    Ok(())
}

/// Reads a staged blob.
///
/// # Errors
/// If the database fails.
pub fn staged(conn: &Connection, blob: Hash) -> Result<Option<Vec<u8>>> {
    let mut query = conn.prepare_cached("SELECT bytes FROM temp.staged WHERE hash = ?1")?;
    query.query_row([blob.as_bytes()], |row| row.get(0)).optional()
}

/// Drops everything staged.
///
/// # Errors
/// If the database fails.
pub fn unstage_all(conn: &Connection) -> Result<()> {
    conn.execute("DELETE FROM temp.staged", [])?;
    Ok(())
}
