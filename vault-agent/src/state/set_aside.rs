//! Entries that the vault has gone on without, and the ciphertext of the versions they wrote: kept
//! until somebody on this host has looked at them.

use std::collections::HashMap;

use rusqlite::{Connection, Result};
use shared::hash::Hash;
use shared::path::SecretPath;
use shared::signed::Envelope;
use shared::time::Time;

use super::log::{all, damaged, envelope, hash, number, one, run, unsigned};

/// Entries kept; the oldest of more go.
const MOST: u64 = 10_000;

/// An entry that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it stood, or was to stand.
    pub seq: u64,
    pub hash: Hash,
    pub envelope: Envelope,
    /// Whether this machine itself had signed it.
    pub own: bool,
    /// When it was set aside.
    pub at: Time,
}

/// A version that such an entry wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub path: SecretPath,
    pub ver: u64,
    /// The last version of the path that the vault knew when it went on.
    pub base: u64,
    pub hash: Hash,
    pub size: u64,
    /// The promise that its content keeps.
    pub promise: Hash,
    /// How many readers it was made for, and this machine's place among them; 0 readers where that
    /// is not known.
    pub readers: (usize, usize),
    /// The ciphertext, where this machine had it.
    pub bytes: Option<Vec<u8>>,
}

/// Keeps an entry; the oldest go where there are too many.
pub fn keep(conn: &Connection, entry: &SetAside) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO set_aside (hash, seq, by, body, sig, own, at) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let SetAside { seq, hash, envelope: Envelope { by, body, sig }, own, at } = entry;
    let (seq, at) = (number(*seq)?, number(at.as_micros())?);
    run(conn, insert, (hash.as_bytes(), seq, by.to_string(), body, sig.as_bytes(), own, at))?;
    let oldest = "DELETE FROM set_aside WHERE rowid IN \
                  (SELECT rowid FROM set_aside ORDER BY rowid DESC LIMIT -1 OFFSET ?1)";
    run(conn, oldest, [number(MOST)?])
}

/// Keeps a version; one that is kept already keeps its ciphertext.
pub fn keep_version(conn: &Connection, version: &Version) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO set_aside_version \
                  (hash, path, ver, base, size, promise, count, position, bytes) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let Version { path, ver, base, hash, size, promise, readers, bytes } = version;
    let (count, position) = (number(readers.0)?, number(readers.1)?);
    let row = (
        hash.as_bytes(),
        path.as_str(),
        number(*ver)?,
        number(*base)?,
        number(*size)?,
        promise.as_bytes(),
        count,
        position,
        bytes,
    );
    run(conn, insert, row)?;
    let oldest = "DELETE FROM set_aside_version WHERE rowid IN \
                  (SELECT rowid FROM set_aside_version ORDER BY rowid DESC LIMIT -1 OFFSET ?1)";
    run(conn, oldest, [number(MOST)?])
}

/// Lists the entries in the order in which they stood; `most` at most, the newest.
pub fn list(conn: &Connection, most: usize) -> Result<Vec<SetAside>> {
    let select = "SELECT seq, hash, own, at, by, body, sig FROM set_aside ORDER BY rowid DESC";
    let mut query = conn.prepare(select)?;
    let rows = query.query_map([], |row| {
        Ok(SetAside {
            seq: unsigned(row, 0)?,
            hash: hash(row, 1)?,
            own: row.get(2)?,
            at: Time::from_micros(unsigned(row, 3)?),
            envelope: envelope(row, 4)?,
        })
    })?;
    let mut list = rows.take(most).collect::<Result<Vec<_>>>()?;
    list.reverse();
    Ok(list)
}

/// Counts the entries.
pub fn count(conn: &Connection) -> Result<u64> {
    conn.query_row("SELECT count(*) FROM set_aside", [], |row| unsigned(row, 0))
}

/// Notes that a branch with this entry is known of; the oldest of more than some go.
pub fn know(conn: &Connection, entry: Hash) -> Result<()> {
    run(conn, "INSERT OR IGNORE INTO known_branch (hash) VALUES (?1)", [entry.as_bytes()])?;
    know_no_more(conn)
}

fn know_no_more(conn: &Connection) -> Result<()> {
    let oldest = "DELETE FROM known_branch WHERE rowid IN \
                  (SELECT rowid FROM known_branch ORDER BY rowid DESC LIMIT -1 OFFSET ?1)";
    run(conn, oldest, [number(MOST)?])
}

/// Tells whether the entry was set aside here, or is known otherwise: that it exists is no news.
pub fn holds(conn: &Connection, entry: Hash) -> Result<bool> {
    let select = "SELECT 1 FROM set_aside WHERE hash = ?1 \
                  UNION SELECT 1 FROM known_branch WHERE hash = ?1";
    Ok(one(conn, select, [entry.as_bytes()], |_| Ok(()))?.is_some())
}

/// Lists the paths of which versions were set aside, each with the last version that the vault knew
/// when it last went on.
pub fn bases(conn: &Connection) -> Result<HashMap<SecretPath, u64>> {
    // In the order in which they were kept: the last time counts.
    all(conn, "SELECT path, base FROM set_aside_version ORDER BY rowid", |row| {
        Ok((row.get_ref(0)?.as_str()?.parse().map_err(damaged)?, unsigned(row, 1)?))
    })
}

/// Reads the newest version of a path that was set aside and whose ciphertext is here.
pub fn newest(conn: &Connection, path: &SecretPath) -> Result<Option<Version>> {
    let select = "SELECT ver, base, hash, size, promise, count, position, bytes \
                  FROM set_aside_version WHERE path = ?1 AND bytes IS NOT NULL \
                  ORDER BY rowid DESC LIMIT 1";
    one(conn, select, [path.as_str()], |row| {
        Ok(Version {
            path: path.clone(),
            ver: unsigned(row, 0)?,
            base: unsigned(row, 1)?,
            hash: hash(row, 2)?,
            size: unsigned(row, 3)?,
            promise: hash(row, 4)?,
            readers: (unsigned(row, 5)?, unsigned(row, 6)?),
            bytes: row.get(7)?,
        })
    })
}

/// Drops everything: somebody has looked. That the entries exist stays known: a machine that still
/// stands on their branch shows a head of it, which is no news, and no fork, either.
pub fn clear(conn: &Connection) -> Result<()> {
    let known = "INSERT OR IGNORE INTO known_branch (hash) SELECT hash FROM set_aside \
                 ORDER BY rowid";
    run(conn, known, [])?;
    know_no_more(conn)?;
    run(conn, "DELETE FROM set_aside", [])?;
    run(conn, "DELETE FROM set_aside_version", [])
}

#[cfg(test)]
mod tests {
    use shared::keys::SignKey;
    use shared::name::Actor;
    use shared::signed::Purpose;

    use super::*;

    #[test]
    fn what_was_cleared_is_no_news_for_ever() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("migrations/0001.sql")).unwrap();
        conn.execute_batch(include_str!("migrations/0002.sql")).unwrap();
        let hash = |seq: u64| Hash::of(&[&seq.to_le_bytes()]);
        let purpose = Purpose::Entry(Hash::ZERO);
        let envelope = Envelope::sign(&SignKey::generate(), Actor::Root, purpose, &1).unwrap();
        for seq in 1..=100 {
            let envelope = envelope.clone();
            let (hash, at) = (hash(seq), Time::default());
            keep(&conn, &SetAside { seq, hash, envelope, own: false, at }).unwrap();
        }
        clear(&conn).unwrap();
        assert_eq!(count(&conn).unwrap(), 0);
        assert!((1..=100).all(|seq| holds(&conn, hash(seq)).unwrap()));
        assert!(!holds(&conn, hash(101)).unwrap());
    }
}
