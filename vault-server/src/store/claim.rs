//! Table `claim`: the hash of the one-time claim code, until it is used.

use rusqlite::{Connection, OptionalExtension as _};
use shared::hash::Hash;
use subtle::ConstantTimeEq as _;

/// Stores the claim code of a new server, in place of one that nobody has used.
pub fn set(conn: &Connection, claim: &Hash) -> rusqlite::Result<()> {
    let kept = Hash::of(&[claim.as_bytes()]);
    conn.execute("INSERT OR REPLACE INTO claim (id, hash) VALUES (1, ?1)", [kept.as_bytes()])?;
    Ok(())
}

/// Tells whether `claim` is the unused code, in constant time.
pub fn matches(conn: &Connection, claim: &Hash) -> rusqlite::Result<bool> {
    let kept: Option<[u8; 32]> =
        conn.query_row("SELECT hash FROM claim", [], |row| row.get(0)).optional()?;
    let given = Hash::of(&[claim.as_bytes()]);
    Ok(kept.is_some_and(|kept| kept.ct_eq(given.as_bytes()).into()))
}

/// Tells whether there is an unused code.
pub fn is_open(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row("SELECT EXISTS (SELECT 1 FROM claim)", [], |row| row.get(0))
}

/// Uses the code up.
pub fn use_up(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM claim", [])?;
    Ok(())
}
