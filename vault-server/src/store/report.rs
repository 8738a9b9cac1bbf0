//! Tables `report` and `targets`: the latest signed report of every active machine, and the text of
//! its targets.

use rusqlite::{Connection, params};
use shared::keys::Signature;
use shared::log::Number;
use shared::signed::Envelope;
use shared::time::Time;

use super::{damaged, int, nat};

/// A machine's latest report.
pub struct Kept {
    /// Its machine.
    pub number: Number,
    /// When it came in.
    pub at: Time,
    /// The seen-record.
    pub seen: Envelope,
    /// The last targets that were sent.
    pub targets: Option<String>,
}

/// Keeps a seen-record instead of the machine's last one.
pub fn keep(conn: &Connection, machine: Number, at: Time, seen: &Envelope) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO report (machine, at, by, body, sig) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        int(machine),
        int(at.as_micros()),
        seen.by.to_string(),
        seen.body,
        seen.sig.as_bytes()
    ])?;
    Ok(())
}

/// Keeps the targets that a machine has sent instead of its last ones.
pub fn keep_targets(conn: &Connection, machine: Number, text: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO targets (machine, text) VALUES (?1, ?2)")?
        .execute(params![int(machine), text])?;
    Ok(())
}

/// Returns every machine's latest report, by number.
pub fn all(conn: &Connection) -> rusqlite::Result<Vec<Kept>> {
    conn.prepare_cached(
        "SELECT machine, at, by, body, sig, text FROM report LEFT JOIN targets USING (machine)
         ORDER BY machine",
    )?
    .query_map([], |row| {
        let by: String = row.get(2)?;
        Ok(Kept {
            number: nat(row.get(0)?),
            at: Time::from_micros(nat(row.get(1)?)),
            seen: Envelope {
                by: by.parse().map_err(damaged(2))?,
                body: row.get(3)?,
                sig: Signature::from_bytes(row.get(4)?),
            },
            targets: row.get(5)?,
        })
    })?
    .collect()
}

/// Drops the report of a machine that is removed, or has other keys and another number now.
pub fn forget(conn: &Connection, machine: Number) -> rusqlite::Result<()> {
    for statement in
        ["DELETE FROM report WHERE machine = ?1", "DELETE FROM targets WHERE machine = ?1"]
    {
        conn.prepare_cached(statement)?.execute([int(machine)])?;
    }
    Ok(())
}
