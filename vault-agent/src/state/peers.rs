//! The newest verified report of every machine, and every audit head that reports have anchored.

use rusqlite::{Connection, OptionalExtension as _, Result};
use shared::audit::AuditHead;
use shared::name::Name;
use shared::report::Report;
use shared::signed::Envelope;
use shared::time::Time;

use super::log::{damaged, envelope, hash, number, unsigned};

/// The largest number that a column holds. What others claim is never an error of the database: it
/// would keep every other report from being looked at.
const LARGEST: u64 = i64::MAX.cast_unsigned();

/// Anchors kept; the oldest half of what is more is thinned out.
const ANCHORS: u64 = 10_000;

/// A stored report.
pub struct Stored {
    /// Signed by its machine.
    pub envelope: Envelope,
    /// When the server got it.
    pub at: Time,
}

/// Stores a machine's newest report and what it anchors.
///
/// # Errors
/// If the database fails.
pub fn keep(conn: &Connection, report: &Report, envelope: &Envelope, at: Time) -> Result<()> {
    let mut query = conn.prepare_cached(
        "INSERT OR REPLACE INTO peer (machine, n, by, body, sig, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    query.execute((
        report.machine.as_str(),
        number(report.n.min(LARGEST))?,
        envelope.by.to_string(),
        &envelope.body,
        envelope.sig.as_bytes(),
        number(at.as_micros().min(LARGEST))?,
    ))?;
    let audit = AuditHead { n: report.audit_n, hash: report.audit_head };
    if (1..=LARGEST).contains(&audit.n) { anchor(conn, audit, &report.machine) } else { Ok(()) }
}

/// Reads all reports.
///
/// # Errors
/// If the database fails.
pub fn list(conn: &Connection) -> Result<Vec<Stored>> {
    let mut query = conn.prepare("SELECT by, body, sig, at FROM peer ORDER BY machine")?;
    let rows = query.query_map([], |row| {
        Ok(Stored { envelope: envelope(row, 0)?, at: Time::from_micros(unsigned(row, 3)?) })
    })?;
    rows.collect()
}

/// Drops a machine's report.
///
/// # Errors
/// If the database fails.
pub fn forget(conn: &Connection, machine: &Name) -> Result<()> {
    conn.prepare_cached("DELETE FROM peer WHERE machine = ?1")?.execute([machine.as_str()])?;
    Ok(())
}

fn anchor(conn: &Connection, audit: AuditHead, machine: &Name) -> Result<()> {
    let mut query =
        conn.prepare_cached("INSERT OR IGNORE INTO anchor (n, hash, machine) VALUES (?1, ?2, ?3)")?;
    query.execute((number(audit.n)?, audit.hash.as_bytes(), machine.as_str()))?;
    let kept: u64 = conn
        .prepare_cached("SELECT count(*) FROM anchor")?
        .query_row([], |row| unsigned(row, 0))?;
    if kept > ANCHORS {
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
///
/// # Errors
/// If the database fails.
pub fn anchored(conn: &Connection, n: u64) -> Result<Option<AuditHead>> {
    if n > LARGEST {
        return Ok(None);
    }
    let mut query = conn.prepare_cached("SELECT n, hash FROM anchor WHERE n = ?1")?;
    query
        .query_row([number(n)?], |row| Ok(AuditHead { n: unsigned(row, 0)?, hash: hash(row, 1)? }))
        .optional()
}

/// Reads every anchored head with the machine that reported it, in order.
///
/// # Errors
/// If the database fails.
pub fn anchors(conn: &Connection) -> Result<Vec<(AuditHead, Name)>> {
    let mut query = conn.prepare("SELECT n, hash, machine FROM anchor ORDER BY n")?;
    let rows = query.query_map([], |row| {
        let head = AuditHead { n: unsigned(row, 0)?, hash: hash(row, 1)? };
        Ok((head, row.get_ref(2)?.as_str()?.parse().map_err(damaged)?))
    })?;
    rows.collect()
}
