//! Table `restored`: what a database that was set back lacks, and the hash of the one-time code
//! that lets the vault go on without it. What it may do until then is decided in `vault`. Table
//! `lost_epoch`: epochs that it was shown heads of meanwhile, and those that were given up so.

use shared::hash::Hash;
use shared::head::SignedHead;
use shared::log::State;
use subtle::ConstantTimeEq as _;

use super::{Connection, NONE, Result, checkpoint, damaged, hash, int, log, params, unwritable};

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
pub fn load(conn: &Connection) -> Result<Option<Restored>> {
    conn.first("SELECT caller, lacks, code FROM restored", NONE, |row| {
        let cause = if row.get(0)? { Cause::Caller } else { Cause::File };
        let lacks = serde_json::from_str(row.get(1)?).map_err(damaged(1))?;
        Ok(Restored { cause, lacks, code: hash(row, 2)? })
    })
}

/// Stores what the database lacks, or that it lacks nothing any more.
pub fn save(conn: &Connection, restored: Option<&Restored>) -> Result<()> {
    let Some(Restored { cause, lacks, code }) = restored else {
        return conn.execute("DELETE FROM restored", NONE).map(drop);
    };
    let lacks = serde_json::to_string(lacks).map_err(unwritable)?;
    conn.execute(
        "INSERT INTO restored (id, caller, lacks, code) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET caller = ?1, lacks = ?2, code = ?3",
        params![*cause == Cause::Caller, &lacks, code.as_bytes()],
    )
    .map(drop)
}

/// Tells whether the log lacks a head of its present epoch, or does not know the head's epoch.
/// Heads of past epochs were given up with a `resume`, and so were epochs that were lost then. Of
/// entries that a checkpoint has taken the place of nobody can tell: none is lacking.
pub fn lacks(conn: &Connection, state: &State, head: &SignedHead) -> Result<bool> {
    if head.epoch == state.epoch() {
        let is_before = head.seq <= checkpoint::dropped(conn)?;
        return Ok(!is_before && log::hash_at(conn, head.seq)? != Some(head.head));
    }
    Ok(!knows(state, &head.epoch) && !given_up(conn)?.contains(&head.epoch))
}

/// Tells whether an epoch of the log has this name.
pub fn knows(state: &State, epoch: &Hash) -> bool {
    *epoch == state.vault() || state.resumed().iter().any(|resumed| resumed.epoch == *epoch)
}

/// Epochs that are remembered; the oldest of more go.
const EPOCHS: u64 = 64;

/// Notes an epoch that the log does not know and a head was shown of.
pub fn note_epoch(conn: &Connection, epoch: &Hash) -> Result<()> {
    conn.execute(
        "INSERT INTO lost_epoch (epoch, given_up) VALUES (?1, FALSE) ON CONFLICT DO NOTHING",
        [epoch.as_bytes()],
    )?;
    conn.execute(
        "DELETE FROM lost_epoch WHERE rowid <=
             (SELECT rowid FROM lost_epoch ORDER BY rowid DESC LIMIT 1 OFFSET ?1)",
        [int(EPOCHS)],
    )
    .map(drop)
}

/// Ends what was noted: given up with a resumption, or else forgotten.
pub fn settle_epochs(conn: &Connection, give_up: bool) -> Result<()> {
    let settle = if give_up {
        "UPDATE lost_epoch SET given_up = TRUE"
    } else {
        "DELETE FROM lost_epoch WHERE NOT given_up"
    };
    conn.execute(settle, NONE).map(drop)
}

/// Returns the epochs that owners have resumed without.
pub fn given_up(conn: &Connection) -> Result<Vec<Hash>> {
    conn.all("SELECT epoch FROM lost_epoch WHERE given_up", NONE, |row| hash(row, 0))
}
