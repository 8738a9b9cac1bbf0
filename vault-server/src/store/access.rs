//! Table `access`: which local reads each machine has shipped. The reads are audit records.

use shared::hash::Hash;
use shared::log::Number;

use super::{Connection, Result, int, nat, params};

/// Returns the number of the next local read due from a run of `machine`'s agent, 0 unless the last
/// batch was of this run.
pub fn next(conn: &Connection, machine: Number, run: Hash) -> Result<u64> {
    let found = conn.first(
        "SELECT next FROM access WHERE machine = ?1 AND run = ?2",
        params![int(machine), run.as_bytes()],
        |row| row.get(0),
    )?;
    Ok(found.map_or(0, nat))
}

/// Notes the number of the next local read due.
pub fn set_next(conn: &Connection, machine: Number, run: Hash, next: u64) -> Result<()> {
    conn.execute(
        "INSERT INTO access (machine, run, next) VALUES (?1, ?2, ?3)
         ON CONFLICT (machine) DO UPDATE SET run = ?2, next = ?3",
        params![int(machine), run.as_bytes(), int(next)],
    )
    .map(drop)
}

/// Drops the counter of a machine that is removed, or has other keys and another number now.
pub fn forget(conn: &Connection, machine: Number) -> Result<()> {
    conn.execute("DELETE FROM access WHERE machine = ?1", [int(machine)]).map(drop)
}
