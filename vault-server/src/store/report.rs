//! Tables `report` and `targets`: the latest signed report of every active machine, and the text of
//! its targets.

use shared::keys::Signature;
use shared::log::Number;
use shared::signed::Envelope;
use shared::time::Time;

use super::{Connection, NONE, Result, Row, damaged, int, nat, params};

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
pub fn keep(conn: &Connection, machine: Number, at: Time, seen: &Envelope) -> Result<()> {
    let (by, at) = (seen.by.to_string(), int(at.as_micros()));
    conn.execute(
        "INSERT INTO report (machine, at, by, body, sig) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (machine) DO UPDATE SET at = ?2, by = ?3, body = ?4, sig = ?5",
        params![int(machine), at, &by, &seen.body, seen.sig.as_bytes()],
    )
    .map(drop)
}

/// Keeps the targets that a machine has sent instead of its last ones.
pub fn keep_targets(conn: &Connection, machine: Number, text: &str) -> Result<()> {
    conn.execute(
        "INSERT INTO targets (machine, text) VALUES (?1, ?2)
         ON CONFLICT (machine) DO UPDATE SET text = ?2",
        params![int(machine), text],
    )
    .map(drop)
}

/// Returns every machine's latest report, by number.
pub fn all(conn: &Connection) -> Result<Vec<Kept>> {
    let query = "SELECT machine, at, by, body, sig, text
         FROM report LEFT JOIN targets USING (machine) ORDER BY machine";
    conn.all(query, NONE, read)
}

fn read(row: &Row<'_>) -> Result<Kept> {
    Ok(Kept {
        number: nat(row.get(0)?),
        at: Time::from_micros(nat(row.get(1)?)),
        seen: Envelope {
            by: row.get::<&str>(2)?.parse().map_err(damaged(2))?,
            body: row.get(3)?,
            sig: Signature::from_bytes(row.get(4)?),
        },
        targets: row.get(5)?,
    })
}

/// Returns the seen-records that came in since a time, with the targets.
pub fn since(conn: &Connection, time: Time) -> Result<Vec<Kept>> {
    let query = "SELECT machine, at, by, body, sig, text
         FROM report LEFT JOIN targets USING (machine) WHERE at >= ?1 ORDER BY machine";
    conn.all(query, [int(time.as_micros())], read)
}

/// Drops the report of a machine that is removed, or has other keys and another number now.
pub fn forget(conn: &Connection, machine: Number) -> Result<()> {
    for statement in
        ["DELETE FROM report WHERE machine = ?1", "DELETE FROM targets WHERE machine = ?1"]
    {
        conn.execute(statement, [int(machine)])?;
    }
    Ok(())
}
