//! The newest verified report of every machine, and every audit head that reports have anchored.

use rusqlite::{Connection, Result, Row};
use shared::audit::AuditHead;
use shared::name::Name;
use shared::report::Report;
use shared::signed::Envelope;
use shared::time::Time;
use shared::wire::v1::report::Received;

use super::log::{all, damaged, envelope, hash, number, one, run, unsigned};

/// The largest number that a column holds. What others claim is never an error of the database: it
/// would keep every other report from being looked at.
const LARGEST: u64 = i64::MAX.cast_unsigned();

/// Anchors kept; the oldest half of what is more is thinned out.
const ANCHORS: u64 = 10_000;

/// Stores a machine's newest report and what it anchors.
pub fn keep(conn: &Connection, report: &Report, received: &Received) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO peer (machine, n, by, body, sig, at) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Received { report: Envelope { by, body, sig }, at, .. } = received;
    let (n, at) = (number(report.n.min(LARGEST))?, number(at.as_micros().min(LARGEST))?);
    let row = (report.machine.as_str(), n, by.to_string(), body, sig.as_bytes(), at);
    run(conn, insert, row)?;
    let audit = AuditHead { n: report.audit_n, hash: report.audit_head };
    if (1..=LARGEST).contains(&audit.n) { anchor(conn, audit, &report.machine) } else { Ok(()) }
}

/// Reads all reports; whether their machines are online is not known.
pub fn list(conn: &Connection) -> Result<Vec<Received>> {
    all(conn, "SELECT by, body, sig, at FROM peer ORDER BY machine", |row| {
        let at = Time::from_micros(unsigned(row, 3)?);
        Ok(Received { report: envelope(row, 0)?, at, online: false })
    })
}

pub fn forget(conn: &Connection, machine: &Name) -> Result<()> {
    run(conn, "DELETE FROM peer WHERE machine = ?1", [machine.as_str()])
}

fn anchor(conn: &Connection, audit: AuditHead, machine: &Name) -> Result<()> {
    let insert = "INSERT OR IGNORE INTO anchor (n, hash, machine) VALUES (?1, ?2, ?3)";
    run(conn, insert, (number(audit.n)?, audit.hash.as_bytes(), machine.as_str()))?;
    let kept = one(conn, "SELECT count(*) FROM anchor", [], |row| unsigned::<u64>(row, 0))?;
    if kept > Some(ANCHORS) {
        // Every second one of the older half: what is left still spans the whole chain.
        conn.execute(
            "DELETE FROM anchor WHERE n IN (SELECT n FROM (SELECT n, row_number() OVER \
             (ORDER BY n) AS place FROM anchor) WHERE place % 2 = 0 AND place <= ?1)",
            [number(ANCHORS / 2)?],
        )?;
    }
    Ok(())
}

/// Reads the anchored head at position `n`.
pub fn anchored(conn: &Connection, n: u64) -> Result<Option<AuditHead>> {
    if n > LARGEST {
        return Ok(None);
    }
    one(conn, "SELECT n, hash FROM anchor WHERE n = ?1", [number(n)?], head)
}

/// Reads every anchored head with the machine that reported it, in order.
pub fn anchors(conn: &Connection) -> Result<Vec<(AuditHead, Name)>> {
    all(conn, "SELECT n, hash, machine FROM anchor ORDER BY n", |row| {
        Ok((head(row)?, row.get_ref(2)?.as_str()?.parse().map_err(damaged)?))
    })
}

fn head(row: &Row<'_>) -> Result<AuditHead> {
    Ok(AuditHead { n: unsigned(row, 0)?, hash: hash(row, 1)? })
}
