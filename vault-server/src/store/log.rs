//! Table `log`: genesis and entries, their very bytes.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::hash::Hash;
use shared::keys::Signature;
use shared::signed::Envelope;

use super::{hash, int, nat};

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

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
    let by: String = row.get(2)?;
    let wrong = |why: shared::error::Error| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(why))
    };
    Ok(Stored {
        seq: nat(row.get(0)?),
        hash: hash(row, 1)?,
        envelope: Envelope {
            by: by.parse().map_err(wrong)?,
            body: row.get(3)?,
            sig: Signature::from_bytes(row.get(4)?),
        },
    })
}

/// Stores a record.
///
/// # Errors
/// As SQLite says.
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
///
/// # Errors
/// As SQLite says.
pub fn at(conn: &Connection, seq: u64) -> rusqlite::Result<Option<Stored>> {
    conn.prepare_cached("SELECT seq, hash, by, body, sig FROM log WHERE seq = ?1")?
        .query_row([int(seq)], read)
        .optional()
}

/// Hands the records `from..=upto` to `each`, in order, until it says to stop.
///
/// # Errors
/// As SQLite or `each` says.
pub fn walk<E: From<rusqlite::Error>>(
    conn: &Connection,
    from: u64,
    upto: u64,
    mut each: impl FnMut(Stored) -> Result<std::ops::ControlFlow<()>, E>,
) -> Result<(), E> {
    let sql = "SELECT seq, hash, by, body, sig FROM log WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([int(from), int(upto)])?;
    while let Some(row) = rows.next()? {
        if each(read(row)?)?.is_break() {
            break;
        }
    }
    Ok(())
}
