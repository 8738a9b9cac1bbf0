//! Table `restored`: what a database that was set back lacks, and the hash of the one-time code
//! that lets the vault go on without it; table `given_up`: epochs that it went on without. What it
//! may do until then is decided in `vault`.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::hash::Hash;
use shared::head::SignedHead;
use subtle::ConstantTimeEq as _;

use super::{damaged, hash, unwritable};

/// How it was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// By the file beside the database: it held the newest head that was ever given out.
    File,
    /// By a caller, who may not be the one that holds the newest.
    Caller,
}

/// A database that was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How it was found out.
    pub cause: Cause,
    /// A head that this server once gave out and the log does not hold.
    pub lacks: SignedHead,
    /// SHA-256 of the one-time code.
    pub code: Hash,
}

impl Restored {
    /// Tells whether `code` is the one-time code, in constant time.
    pub fn opens(&self, code: &Hash) -> bool {
        let given = Hash::of(&[code.as_bytes()]);
        self.code.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// Returns what the database lacks, if it was set back.
pub fn load(conn: &Connection) -> rusqlite::Result<Option<Restored>> {
    conn.query_row("SELECT caller, lacks, code FROM restored", [], |row| {
        let cause = if row.get(0)? { Cause::Caller } else { Cause::File };
        let lacks: String = row.get(1)?;
        let lacks = serde_json::from_str(&lacks).map_err(damaged(1))?;
        Ok(Restored { cause, lacks, code: hash(row, 2)? })
    })
    .optional()
}

/// Stores what the database lacks, or that it lacks nothing any more.
pub fn save(conn: &Connection, restored: Option<&Restored>) -> rusqlite::Result<()> {
    let Some(Restored { cause, lacks, code }) = restored else {
        return conn.execute("DELETE FROM restored", []).map(drop);
    };
    let lacks = serde_json::to_string(lacks).map_err(unwritable)?;
    conn.execute(
        "INSERT OR REPLACE INTO restored (id, caller, lacks, code) VALUES (1, ?1, ?2, ?3)",
        params![*cause == Cause::Caller, lacks, code.as_bytes()],
    )?;
    Ok(())
}

/// Notes that the vault went on without an epoch which its log does not hold.
pub fn give_up(conn: &Connection, epoch: Hash) -> rusqlite::Result<()> {
    conn.execute("INSERT OR IGNORE INTO given_up (epoch) VALUES (?1)", [epoch.as_bytes()])?;
    Ok(())
}

/// Tells whether the vault went on without an epoch.
pub fn is_given_up(conn: &Connection, epoch: Hash) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM given_up WHERE epoch = ?1")?.exists([epoch.as_bytes()])
}
