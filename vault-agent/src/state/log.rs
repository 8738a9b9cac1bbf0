//! The signed log by number, where it stands, and a snapshot of the state it folds to.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Result, Row};
use shared::hash::Hash;
use shared::keys::Signature;
use shared::log::State;
use shared::signed::Envelope;

/// Layout of the snapshot; another one is passed over.
const FORMAT: u32 = 1;

/// Wraps a value that is not what this program writes.
pub(super) fn damaged(
    fault: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, fault.into())
}

pub(super) fn number(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(damaged)
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(damaged)
}

pub(super) fn hash(row: &Row<'_>, column: usize) -> Result<Hash> {
    Hash::try_from(row.get_ref(column)?.as_blob()?).map_err(damaged)
}

/// Reads `by, body, sig` from three columns on.
pub(super) fn envelope(row: &Row<'_>, column: usize) -> Result<Envelope> {
    let by = row.get_ref(column)?.as_str()?.parse().map_err(damaged)?;
    let body = row.get(column + 1)?;
    let sig = row.get_ref(column + 2)?.as_blob()?.try_into().map_err(damaged)?;
    Ok(Envelope { by, body, sig: Signature::from_bytes(sig) })
}

/// Stores the entry `seq` (0: the genesis), whose hash is `hash`.
///
/// # Errors
/// If there is one already, or the database fails.
pub fn insert(conn: &Connection, seq: u64, envelope: &Envelope, hash: Hash) -> Result<()> {
    let mut query = conn
        .prepare_cached("INSERT INTO log (seq, by, body, sig, hash) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    query.execute((
        number(seq)?,
        envelope.by.to_string(),
        &envelope.body,
        envelope.sig.as_bytes(),
        hash.as_bytes(),
    ))?;
    Ok(())
}

/// Stores where the log stands.
///
/// # Errors
/// If the database fails.
pub fn set_head(conn: &Connection, seq: u64, hash: Hash) -> Result<()> {
    let mut query =
        conn.prepare_cached("INSERT OR REPLACE INTO head (one, seq, hash) VALUES (1, ?1, ?2)")?;
    query.execute((number(seq)?, hash.as_bytes()))?;
    Ok(())
}

/// Reads where the log stands; `None` before the genesis.
///
/// # Errors
/// If the database fails.
pub fn head(conn: &Connection) -> Result<Option<(u64, Hash)>> {
    let mut query = conn.prepare_cached("SELECT seq, hash FROM head")?;
    query.query_row([], |row| Ok((unsigned(row, 0)?, hash(row, 1)?))).optional()
}

/// Reads the hash of one entry.
///
/// # Errors
/// If the database fails.
pub fn hash_at(conn: &Connection, seq: u64) -> Result<Option<Hash>> {
    // A number that others claim and no row can have.
    let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
    let mut query = conn.prepare_cached("SELECT hash FROM log WHERE seq = ?1")?;
    query.query_row([seq], |row| hash(row, 0)).optional()
}

/// Reads one entry.
///
/// # Errors
/// If the database fails.
pub fn entry(conn: &Connection, seq: u64) -> Result<Option<Envelope>> {
    let mut query = conn.prepare_cached("SELECT by, body, sig FROM log WHERE seq = ?1")?;
    query.query_row([number(seq)?], |row| envelope(row, 0)).optional()
}

/// Shows the entries after `after` to `each`, in order, until it fails.
///
/// # Errors
/// If the database or `each` fails.
pub fn replay(
    conn: &Connection,
    after: u64,
    mut each: impl FnMut(u64, &Envelope) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut query =
        conn.prepare("SELECT by, body, sig, seq FROM log WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = query.query([number(after)?])?;
    while let Some(row) = rows.next()? {
        each(unsigned(row, 3)?, &envelope(row, 0)?)?;
    }
    Ok(())
}

/// Stores a snapshot of the state.
///
/// # Errors
/// If the database fails.
pub fn set_snapshot(conn: &Connection, state: &State) -> Result<()> {
    let bytes = postcard::to_stdvec(state).map_err(damaged)?;
    let mut query = conn.prepare_cached(
        "INSERT OR REPLACE INTO snapshot (one, format, seq, state) VALUES (1, ?1, ?2, ?3)",
    )?;
    query.execute((FORMAT, number(state.seq())?, bytes))?;
    Ok(())
}

/// Reads the snapshot, if one of this layout is there and stands in the log.
///
/// # Errors
/// If the database fails.
pub fn snapshot(conn: &Connection) -> Result<Option<State>> {
    let mut query = conn.prepare("SELECT state FROM snapshot WHERE format = ?1")?;
    let bytes: Option<Vec<u8>> = query.query_row([FORMAT], |row| row.get(0)).optional()?;
    let Some(state) = bytes.and_then(|bytes| postcard::from_bytes::<State>(&bytes).ok()) else {
        return Ok(None);
    };
    let stands = hash_at(conn, state.seq())? == Some(state.head());
    Ok(stands.then_some(state))
}
