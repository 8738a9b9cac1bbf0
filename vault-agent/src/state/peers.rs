//! What other machines have signed: the newest verified seen-record of each, the targets last
//! fetched behind one of them, and the audit heads that such records have anchored.

use std::collections::BTreeSet;

use rusqlite::{Connection, Result, Row};
use shared::audit::AuditHead;
use shared::hash::Hash;
use shared::log::Number;
use shared::signed::Envelope;
use shared::time::Time;

use super::log::{all, envelope, hash, number, one, run, unsigned};

/// The largest number that a column holds. What others claim is never an error of the database: it
/// would keep every other record from being looked at.
const LARGEST: u64 = i64::MAX.cast_unsigned();

/// Anchors kept of one machine, so that none pushes out another's; the older half of what is more
/// is thinned out.
const ANCHORS: u64 = 64;

/// An audit head in a machine's seen-record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Epoch of the record's signed head.
    pub epoch: Hash,
    pub machine: Number,
    pub audit: AuditHead,
}

/// Targets as they were last fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTargets {
    pub machine: Number,
    /// When the record that names them came in, as the server says.
    pub at: Time,
    /// Program and version.
    pub agent: String,
    /// The JSON text whose hash the record names.
    pub text: String,
}

/// Stores a machine's newest record.
pub fn keep(conn: &Connection, machine: Number, envelope: &Envelope, at: Time) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO peer (machine, by, body, sig, at) \
                  VALUES (?1, ?2, ?3, ?4, ?5)";
    let Envelope { by, body, sig } = envelope;
    run(conn, insert, (number(machine)?, by.to_string(), body, sig.as_bytes(), clamped(at)?))
}

/// Reads all records, and when they came.
pub fn list(conn: &Connection) -> Result<Vec<(Envelope, Time)>> {
    all(conn, "SELECT by, body, sig, at FROM peer ORDER BY machine", |row| {
        Ok((envelope(row, 0)?, Time::from_micros(unsigned(row, 3)?)))
    })
}

/// Stores the targets behind a machine's record `n`, unless those of a later one are there.
pub fn keep_targets(conn: &Connection, n: u64, targets: &StoredTargets) -> Result<()> {
    let insert = "INSERT INTO targets (machine, n, at, agent, text) VALUES (?1, ?2, ?3, ?4, ?5) \
                  ON CONFLICT (machine) DO UPDATE \
                  SET n = excluded.n, at = excluded.at, agent = excluded.agent, \
                  text = excluded.text WHERE excluded.n > n";
    let StoredTargets { machine, at, agent, text } = targets;
    run(conn, insert, (number(*machine)?, number(n.min(LARGEST))?, clamped(*at)?, agent, text))
}

/// Reads everybody's targets, by number.
pub fn targets(conn: &Connection) -> Result<Vec<StoredTargets>> {
    all(conn, "SELECT machine, at, agent, text FROM targets ORDER BY machine", |row| {
        let at = Time::from_micros(unsigned(row, 1)?);
        Ok(StoredTargets { machine: unsigned(row, 0)?, at, agent: row.get(2)?, text: row.get(3)? })
    })
}

/// Reads which program each machine runs.
pub fn agents(conn: &Connection) -> Result<Vec<(Number, String)>> {
    all(conn, "SELECT machine, agent FROM targets", |row| Ok((unsigned(row, 0)?, row.get(1)?)))
}

/// Forgets everything about machines of which `is_active` says no.
pub fn retain(conn: &Connection, is_active: impl Fn(Number) -> bool) -> Result<()> {
    let select = "SELECT machine FROM peer UNION SELECT machine FROM targets \
                  UNION SELECT DISTINCT machine FROM anchor";
    let known: BTreeSet<Number> = all(conn, select, |row| unsigned(row, 0))?;
    for gone in known.into_iter().filter(|machine| !is_active(*machine)) {
        for table in ["peer", "targets", "anchor"] {
            let delete = format!("DELETE FROM {table} WHERE machine = ?1");
            conn.execute(&delete, [number(gone)?])?;
        }
    }
    Ok(())
}

/// Stores an anchor; one that no chain of a database can reach is passed over.
pub fn anchor(conn: &Connection, Anchor { epoch, machine, audit }: &Anchor) -> Result<()> {
    if !(1..=LARGEST).contains(&audit.n) {
        return Ok(());
    }
    let insert = "INSERT OR IGNORE INTO anchor (machine, epoch, n, hash) VALUES (?1, ?2, ?3, ?4)";
    let machine = number(*machine)?;
    run(conn, insert, (machine, epoch.as_bytes(), number(audit.n)?, audit.hash.as_bytes()))?;
    let count = "SELECT count(*) FROM anchor WHERE machine = ?1";
    if one(conn, count, [machine], |row| unsigned::<u64>(row, 0))? > Some(ANCHORS) {
        // Every second one of the older half: what is left still spans the whole chain.
        conn.execute(
            "DELETE FROM anchor WHERE machine = ?1 AND n IN (SELECT n FROM (SELECT n, \
             row_number() OVER (ORDER BY n) AS place FROM anchor WHERE machine = ?1) \
             WHERE place % 2 = 0 AND place <= ?2)",
            [machine, number(ANCHORS / 2)?],
        )?;
    }
    Ok(())
}

/// Forgets every anchor.
pub fn forget_anchors(conn: &Connection) -> Result<()> {
    run(conn, "DELETE FROM anchor", [])
}

/// Reads the anchors after record `after` up to record `until`, in order.
pub fn anchors(conn: &Connection, after: u64, until: u64) -> Result<Vec<Anchor>> {
    let select = "SELECT epoch, machine, n, hash FROM anchor WHERE n > ?1 AND n <= ?2 ORDER BY n";
    let range = (number(after.min(LARGEST))?, number(until.min(LARGEST))?);
    conn.prepare_cached(select)?.query_map(range, read_anchor)?.collect()
}

fn read_anchor(row: &Row<'_>) -> Result<Anchor> {
    let audit = AuditHead { n: unsigned(row, 2)?, hash: hash(row, 3)? };
    Ok(Anchor { epoch: hash(row, 0)?, machine: unsigned(row, 1)?, audit })
}

fn clamped(time: Time) -> Result<i64> {
    number(time.as_micros().min(LARGEST))
}
