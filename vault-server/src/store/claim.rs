//! Table `claim`: the hash of the one-time claim code, until it is used.

use shared::hash::Hash;
use subtle::ConstantTimeEq as _;

use super::{Connection, NONE, Result};

/// Stores the claim code of a new server, in place of one that nobody has used.
pub fn set(conn: &Connection, claim: &Hash) -> Result<()> {
    let kept = Hash::of(&[claim.as_bytes()]);
    conn.execute(
        "INSERT INTO claim (id, hash) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET hash = ?1",
        [kept.as_bytes()],
    )
    .map(drop)
}

/// Tells whether `claim` is the unused code, in constant time.
pub fn matches(conn: &Connection, claim: &Hash) -> Result<bool> {
    let kept: Option<[u8; 32]> = conn.first("SELECT hash FROM claim", NONE, |row| row.get(0))?;
    let given = Hash::of(&[claim.as_bytes()]);
    Ok(kept.is_some_and(|kept| kept.ct_eq(given.as_bytes()).into()))
}

/// Tells whether there is an unused code.
pub fn is_open(conn: &Connection) -> Result<bool> {
    conn.query_row("SELECT EXISTS (SELECT 1 FROM claim)", NONE, |row| row.get(0))
}

/// Uses the code up.
pub fn use_up(conn: &Connection) -> Result<()> {
    conn.execute("DELETE FROM claim", NONE).map(drop)
}
