//! Ciphertext: the newest version of every readable path that opens, and what an owner's act has
//! staged.

use std::collections::HashMap;

use rusqlite::{Connection, Result};
use shared::hash::Hash;
use shared::path::SecretPath;

use super::log::{all, damaged, hash, number, one, run, unsigned};
use super::retained::Retained;

/// Keeps the ciphertext of a path's version in place of the one before.
pub fn keep(conn: &Connection, path: &SecretPath, ver: u64, kept: &Retained) -> Result<()> {
    // In place: the index by path is not touched.
    let keep = "INSERT INTO blob (path, ver, hash, promise, count, position, bytes) \
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                ON CONFLICT (path) DO UPDATE SET ver = excluded.ver, hash = excluded.hash, \
                promise = excluded.promise, count = excluded.count, \
                position = excluded.position, bytes = excluded.bytes";
    let (count, position) = (number(kept.readers.0)?, number(kept.readers.1)?);
    let (hash, promise) = (kept.hash.as_bytes(), kept.promise.as_bytes());
    run(conn, keep, (path.as_str(), number(ver)?, hash, promise, count, position, &kept.bytes))
}

/// Returns the number of the version whose ciphertext is kept.
pub fn version(conn: &Connection, path: &SecretPath) -> Result<Option<u64>> {
    one(conn, "SELECT ver FROM blob WHERE path = ?1", [path.as_str()], |row| unsigned(row, 0))
}

/// Reads the ciphertext kept of a path, whichever version it is of, and that version's number.
pub fn last_good(conn: &Connection, path: &SecretPath) -> Result<Option<(u64, Retained)>> {
    let select = "SELECT ver, hash, promise, count, position, bytes FROM blob WHERE path = ?1";
    one(conn, select, [path.as_str()], |row| Ok((unsigned(row, 0)?, Retained::read(row, 1)?)))
}

pub fn drop(conn: &Connection, path: &SecretPath) -> Result<()> {
    run(conn, "DELETE FROM blob WHERE path = ?1", [path.as_str()])
}

/// Reads a path's ciphertext, if it is the blob asked for.
pub fn read(conn: &Connection, path: &SecretPath, blob: Hash) -> Result<Option<Vec<u8>>> {
    let newest = "SELECT bytes FROM blob WHERE path = ?1 AND hash = ?2";
    one(conn, newest, (path.as_str(), blob.as_bytes()), |row| row.get(0))
}

/// Reads the ciphertext of a blob, if it is kept for some path: as its newest, or to go back to.
pub fn by_hash(conn: &Connection, blob: Hash) -> Result<Option<Vec<u8>>> {
    let select = "SELECT bytes FROM blob WHERE hash = ?1 \
                  UNION ALL SELECT bytes FROM retained WHERE hash = ?1";
    one(conn, select, [blob.as_bytes()], |row| row.get(0))
}

pub fn list(conn: &Connection) -> Result<HashMap<SecretPath, Hash>> {
    all(conn, "SELECT path, hash FROM blob", |row| {
        let path = row.get_ref(0)?.as_str()?.parse().map_err(damaged)?;
        Ok((path, hash(row, 1)?))
    })
}

/// Notes how many readers the hash stands for and this machine's place among them, from 0.
pub fn set_readers(conn: &Connection, readers: Hash, count: usize, position: usize) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO readers (hash, count, position) VALUES (?1, ?2, ?3)";
    run(conn, insert, (readers.as_bytes(), number(count)?, number(position)?))
}

/// Lists what [`set_readers`] noted: count and position by hash.
pub fn readers(conn: &Connection) -> Result<HashMap<Hash, (usize, usize)>> {
    all(conn, "SELECT hash, count, position FROM readers", |row| {
        Ok((hash(row, 0)?, (unsigned(row, 1)?, unsigned(row, 2)?)))
    })
}

/// Stages a blob for an entry that is still to be signed; gone when the program ends.
pub fn stage(conn: &Connection, blob: Hash, bytes: &[u8]) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO temp.staged (hash, bytes) VALUES (?1, ?2)";
    run(conn, insert, (blob.as_bytes(), bytes))
}

pub fn staged(conn: &Connection, blob: Hash) -> Result<Option<Vec<u8>>> {
    let select = "SELECT bytes FROM temp.staged WHERE hash = ?1";
    one(conn, select, [blob.as_bytes()], |row| row.get(0))
}

pub fn unstage_all(conn: &Connection) -> Result<()> {
    run(conn, "DELETE FROM temp.staged", [])
}
