//! Table `log`: genesis and entries, their very bytes.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};
use shared::hash::Hash;
use shared::keys::Signature;
use shared::signed::Envelope;

use super::{damaged, hash, int, nat};

/// A record of the log.
#[derive(Debug)]
pub struct Stored {
    /// Position; 0 is the genesis.
    pub seq: u64,
    /// Its hash; the genesis's is the vault id.
    pub hash: Hash,
    /// The record.
    pub envelope: Envelope,
}

/// Reads a row of [`at`] or [`range`].
pub fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
    let by: String = row.get(2)?;
    Ok(Stored {
        seq: nat(row.get(0)?),
        hash: hash(row, 1)?,
        envelope: Envelope {
            by: by.parse().map_err(damaged(2))?,
            body: row.get(3)?,
            sig: Signature::from_bytes(row.get(4)?),
        },
    })
}

/// Stores a record.
pub fn insert(conn: &Connection, seq: u64, id: &Hash, envelope: &Envelope) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO log (seq, hash, by, body, sig) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            int(seq),
            id.as_bytes(),
            envelope.by.to_string(),
            envelope.body,
            envelope.sig.as_bytes()
        ])?;
    Ok(())
}

/// Returns one record.
pub fn at(conn: &Connection, seq: u64) -> rusqlite::Result<Option<Stored>> {
    conn.prepare_cached("SELECT seq, hash, by, body, sig FROM log WHERE seq = ?1")?
        .query_row([int(seq)], read)
        .optional()
}

/// Returns the hash of one record.
pub fn hash_at(conn: &Connection, seq: u64) -> rusqlite::Result<Option<Hash>> {
    conn.prepare_cached("SELECT hash FROM log WHERE seq = ?1")?
        .query_row([int(seq)], |row| hash(row, 0))
        .optional()
}

/// Prepares the records `?1` to `?2`, in order, for [`read`].
pub fn range(conn: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    conn.prepare_cached(
        "SELECT seq, hash, by, body, sig FROM log WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
    )
}
