//! Table `access`: which local reads each machine has shipped. The reads are audit records.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::log::Number;

use super::{int, nat};

/// Returns the number of the next local read due from `machine`, 0 before its first.
pub fn next(conn: &Connection, machine: Number) -> rusqlite::Result<u64> {
    let found = conn
        .prepare_cached("SELECT next FROM access WHERE machine = ?1")?
        .query_row([int(machine)], |row| row.get(0))
        .optional()?;
    Ok(found.map_or(0, nat))
}

/// Notes the number of the next local read due.
pub fn set_next(conn: &Connection, machine: Number, next: u64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO access (machine, next) VALUES (?1, ?2)
         ON CONFLICT (machine) DO UPDATE SET next = ?2",
    )?
    .execute(params![int(machine), int(next)])?;
    Ok(())
}

/// Drops the counter of a machine that is removed, or has other keys and another number now.
pub fn forget(conn: &Connection, machine: Number) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM access WHERE machine = ?1")?.execute([int(machine)])?;
    Ok(())
}
