//! Table `access`: which local reads each machine has shipped. The reads are audit records.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::hash::Hash;
use shared::log::Number;

use super::{int, nat};

/// Returns the number of the next local read due from a run of `machine`'s agent, 0 unless the last
/// batch was of this run.
pub fn next(conn: &Connection, machine: Number, run: Hash) -> rusqlite::Result<u64> {
    let found = conn
        .prepare_cached("SELECT next FROM access WHERE machine = ?1 AND run = ?2")?
        .query_row(params![int(machine), run.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(found.map_or(0, nat))
}

/// Notes the number of the next local read due.
pub fn set_next(conn: &Connection, machine: Number, run: Hash, next: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO access (machine, run, next) VALUES (?1, ?2, ?3)")?
        .execute(params![int(machine), run.as_bytes(), int(next)])?;
    Ok(())
}

/// Drops the counter of a machine that is removed, or has other keys and another number now.
pub fn forget(conn: &Connection, machine: Number) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM access WHERE machine = ?1")?.execute([int(machine)])?;
    Ok(())
}
