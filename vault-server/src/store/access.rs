//! Table `access`: which local reads each machine has shipped. The reads are audit records.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::hash::Hash;
use shared::name::Name;

use super::{int, nat};

/// Returns the number of the next local read due from a run of `machine`'s agent, 0 unless the last
/// batch was of this run.
pub fn next(conn: &Connection, machine: &Name, run: Hash) -> rusqlite::Result<u64> {
    let found = conn
        .prepare_cached("SELECT next FROM access WHERE machine = ?1 AND run = ?2")?
        .query_row(params![machine.as_str(), run.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(found.map_or(0, nat))
}

/// Notes the number of the next local read due.
pub fn set_next(conn: &Connection, machine: &Name, run: Hash, next: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO access (machine, run, next) VALUES (?1, ?2, ?3)")?
        .execute(params![machine.as_str(), run.as_bytes(), int(next)])?;
    Ok(())
}

/// Drops the counter of a removed machine.
pub fn forget(conn: &Connection, machine: &Name) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM access WHERE machine = ?1")?.execute([machine.as_str()])?;
    Ok(())
}
