//! Table `report`: the latest signed report of every active machine.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::keys::Signature;
use shared::log::Number;
use shared::signed::Envelope;
use shared::time::Time;

use super::{int, nat};

/// A machine's latest report.
pub struct Kept {
    /// Its machine.
    pub number: Number,
    /// What it signed.
    pub body: Vec<u8>,
    /// The signature.
    pub sig: Signature,
    /// When it came in.
    pub at: Time,
}

/// Returns the number and the body of a machine's latest report.
pub fn latest(conn: &Connection, machine: Number) -> rusqlite::Result<Option<(u64, Vec<u8>)>> {
    conn.prepare_cached("SELECT n, body FROM report WHERE machine = ?1")?
        .query_row([int(machine)], |row| Ok((nat(row.get(0)?), row.get(1)?)))
        .optional()
}

/// Keeps a report instead of the machine's last one.
pub fn keep(
    conn: &Connection,
    machine: Number,
    n: u64,
    now: Time,
    report: &Envelope,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO report (machine, n, at, body, sig) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (machine) DO UPDATE SET n = ?2, at = ?3, body = ?4, sig = ?5",
    )?
    .execute(params![
        int(machine),
        int(n),
        int(now.as_micros()),
        report.body,
        report.sig.as_bytes()
    ])?;
    Ok(())
}

/// Returns every machine's latest report, by number.
pub fn all(conn: &Connection) -> rusqlite::Result<Vec<Kept>> {
    conn.prepare_cached("SELECT machine, at, body, sig FROM report ORDER BY machine")?
        .query_map([], |row| {
            Ok(Kept {
                number: nat(row.get(0)?),
                at: Time::from_micros(nat(row.get(1)?)),
                body: row.get(2)?,
                sig: Signature::from_bytes(row.get(3)?),
            })
        })?
        .collect()
}

/// Drops the report of a machine that is removed, or has other keys and another number now.
pub fn forget(conn: &Connection, machine: Number) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM report WHERE machine = ?1")?.execute([int(machine)])?;
    Ok(())
}
