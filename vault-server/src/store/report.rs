//! Table `report`: the latest signed report of every active machine.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::keys::Signature;
use shared::name::{Actor, Name};
use shared::signed::Envelope;
use shared::time::Time;

use super::{damaged, int, nat};

/// Returns the number and the body of a machine's latest report.
pub fn latest(conn: &Connection, machine: &Name) -> rusqlite::Result<Option<(u64, Vec<u8>)>> {
    conn.prepare_cached("SELECT n, body FROM report WHERE machine = ?1")?
        .query_row([machine.as_str()], |row| Ok((nat(row.get(0)?), row.get(1)?)))
        .optional()
}

/// Keeps a report instead of the machine's last one.
pub fn keep(
    conn: &Connection,
    machine: &Name,
    n: u64,
    now: Time,
    report: &Envelope,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO report (machine, n, at, body, sig) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (machine) DO UPDATE SET n = ?2, at = ?3, body = ?4, sig = ?5",
    )?
    .execute(params![
        machine.as_str(),
        int(n),
        int(now.as_micros()),
        report.body,
        report.sig.as_bytes()
    ])?;
    Ok(())
}

/// Returns every machine's latest report and when it came in, by name.
pub fn all(conn: &Connection) -> rusqlite::Result<Vec<(Name, Envelope, Time)>> {
    conn.prepare_cached("SELECT machine, at, body, sig FROM report ORDER BY machine")?
        .query_map([], |row| {
            let name: String = row.get(0)?;
            let name: Name = name.parse().map_err(damaged(0))?;
            let envelope = Envelope {
                by: Actor::Machine(name.clone()),
                body: row.get(2)?,
                sig: Signature::from_bytes(row.get(3)?),
            };
            Ok((name, envelope, Time::from_micros(nat(row.get(1)?))))
        })?
        .collect()
}

/// Drops the report of a removed machine.
pub fn forget(conn: &Connection, machine: &Name) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM report WHERE machine = ?1")?.execute([machine.as_str()])?;
    Ok(())
}
