//! Table `access`: which local reads each machine has shipped. The reads are audit records.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::name::Name;

use super::{int, nat};

/// Returns the number of the next local read due from `machine`, 0 before its first.
pub fn next(conn: &Connection, machine: &Name) -> rusqlite::Result<u64> {
    let found = conn
        .prepare_cached("SELECT next FROM access WHERE machine = ?1")?
        .query_row([machine.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.map_or(0, nat))
}

/// Notes the number of the next local read due.
pub fn set_next(conn: &Connection, machine: &Name, next: u64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO access (machine, next) VALUES (?1, ?2)
         ON CONFLICT (machine) DO UPDATE SET next = ?2",
    )?
    .execute(params![machine.as_str(), int(next)])?;
    Ok(())
}

/// Drops the counter of a removed machine.
pub fn forget(conn: &Connection, machine: &Name) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM access WHERE machine = ?1")?.execute([machine.as_str()])?;
    Ok(())
}
