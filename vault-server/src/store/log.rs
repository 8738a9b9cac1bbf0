//! Table `log`: genesis and entries, their very bytes.

use std::ops::ControlFlow;

use shared::hash::Hash;
use shared::keys::Signature;
use shared::signed::Envelope;

use super::{Connection, Fault, Result, Row, damaged, hash, int, nat, params};

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

fn read(row: &Row<'_>) -> Result<Stored> {
    Ok(Stored {
        seq: nat(row.get(0)?),
        hash: hash(row, 1)?,
        envelope: Envelope {
            by: row.get::<&str>(2)?.parse().map_err(damaged(2))?,
            body: row.get(3)?,
            sig: Signature::from_bytes(row.get(4)?),
        },
    })
}

/// Stores a record.
pub fn insert(conn: &Connection, seq: u64, id: &Hash, envelope: &Envelope) -> Result<()> {
    let by = envelope.by.to_string();
    conn.execute(
        "INSERT INTO log (seq, hash, by, body, sig) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![int(seq), id.as_bytes(), &by, &envelope.body, envelope.sig.as_bytes()],
    )
    .map(drop)
}

/// Returns one record.
pub fn at(conn: &Connection, seq: u64) -> Result<Option<Stored>> {
    conn.first("SELECT seq, hash, by, body, sig FROM log WHERE seq = ?1", [int(seq)], read)
}

/// Returns the hash of one record.
pub fn hash_at(conn: &Connection, seq: u64) -> Result<Option<Hash>> {
    conn.first("SELECT hash FROM log WHERE seq = ?1", [int(seq)], |row| hash(row, 0))
}

/// Returns the position and the hash of the last record.
pub fn last(conn: &Connection) -> Result<Option<(u64, Hash)>> {
    conn.first("SELECT seq, hash FROM log ORDER BY seq DESC LIMIT 1", super::NONE, |row| {
        Ok((nat(row.get(0)?), hash(row, 1)?))
    })
}

/// Hands the records `from` to `upto` to `visit`, in order, until that breaks.
///
/// # Errors
/// If they cannot be read, or `visit` fails.
pub fn range<E: From<Fault>>(
    conn: &Connection,
    from: u64,
    upto: u64,
    mut visit: impl FnMut(Stored) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    conn.each(
        "SELECT seq, hash, by, body, sig FROM log WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
        [int(from), int(upto)],
        |row| visit(read(row)?),
    )
}

/// Returns how many records there are.
pub fn count(conn: &Connection) -> Result<u64> {
    conn.query_row("SELECT count(*) FROM log", super::NONE, |row| row.get(0).map(nat))
}
