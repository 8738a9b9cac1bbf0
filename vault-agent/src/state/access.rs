//! Local accesses on their way to the audit log, numbered for ever upwards.

use rusqlite::{Connection, Result};
use shared::audit::{Agent, Fact, Op, Outcome, Reason, Who};
use shared::hash::Hash;
use shared::path::SecretPath;
use shared::time::Time;
use shared::wire::v1::audit::AccessRequest;

use super::log::{damaged, number, run, unsigned};
use super::schema::unwiped;

/// Rows past which alike ones are merged, and past which the oldest are given up.
const MERGE: u64 = 50_000;
const GIVE_UP: u64 = 200_000;
/// What a row takes at most as JSON beside its texts.
const ROW: usize = 256;

/// Keeps accesses of this run of the agent.
pub fn insert(conn: &Connection, this_run: Hash, accesses: &[Fact]) -> Result<()> {
    let mut query = conn.prepare_cached(
        "INSERT INTO access (run, time, who, op, path, ver, count, result, agent, reason, applied) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for Fact { at, who, agent, reason, op, path, ver, count, result, applied, .. } in accesses {
        let applied = applied.as_ref().map(serde_json::to_string).transpose().map_err(damaged)?;
        query.execute((
            this_run.as_bytes(),
            number(at.unwrap_or_default().as_micros())?,
            who.as_ref().map_or("", Who::as_str),
            op.as_str(),
            path.as_ref().map_or("", SecretPath::as_str),
            number(ver.unwrap_or(0))?,
            number(count.unwrap_or(1))?,
            result.as_str(),
            agent.as_ref().map_or("", Agent::as_str),
            reason.as_ref().map_or("", Reason::as_str),
            applied,
        ))?;
    }
    Ok(())
}

/// Reads the oldest accesses, `most` at most and no more than fill `bytes`, all of one run.
pub fn oldest(conn: &Connection, most: u64, bytes: usize) -> Result<AccessRequest> {
    let mut query = conn.prepare_cached(
        "SELECT n, time, who, op, path, ver, count, result, run, agent, reason, applied FROM access \
         ORDER BY n LIMIT ?1",
    )?;
    let mut rows = query.query([number(most)?])?;
    let mut batch = AccessRequest { run: Hash::ZERO, first: 0, reads: Vec::new() };
    let mut used = 0;
    while let Some(row) = rows.next()? {
        let (n, run) = (unsigned(row, 0)?, Hash::from_bytes(row.get(8)?));
        let applied = row.get_ref(11)?.as_str_or_null()?;
        let (who, path) = (row.get_ref(2)?.as_str()?, row.get_ref(4)?.as_str()?);
        let (agent, reason) = (row.get_ref(9)?.as_str()?, row.get_ref(10)?.as_str()?);
        used += ROW + who.len() + path.len() + agent.len() + reason.len();
        used += applied.map_or(0, str::len);
        if used > bytes && !batch.reads.is_empty() {
            break;
        }
        if batch.reads.is_empty() {
            (batch.first, batch.run) = (n, run);
        }
        // A batch is numbered by its first: it ends where a number is missing.
        if n != batch.first + batch.reads.len() as u64 || run != batch.run {
            break;
        }
        batch.reads.push(Fact {
            at: Some(Time::from_micros(unsigned(row, 1)?)),
            who: Some(Who::lossy(who)).filter(|who| !who.as_str().is_empty()),
            agent: Some(Agent::lossy(agent)).filter(|text| !text.is_empty()),
            reason: Some(Reason::lossy(reason)).filter(|it| !it.is_empty()),
            path: Some(path.parse().map_err(damaged)?),
            ver: Some(unsigned(row, 5)?).filter(|ver| *ver > 0),
            count: Some(unsigned(row, 6)?).filter(|count| *count > 1),
            applied: applied.map(serde_json::from_str).transpose().map_err(damaged)?,
            result: Outcome::from(row.get_ref(7)?.as_str()?),
            ..Fact::new(Op::from(row.get_ref(3)?.as_str()?))
        });
    }
    Ok(batch)
}

/// Drops the accesses numbered below `next`: the server has them.
pub fn shipped(conn: &Connection, next: u64) -> Result<()> {
    let next = number(next)?;
    unwiped(conn, || run(conn, "DELETE FROM access WHERE n < ?1", [next]))
}

pub fn count(conn: &Connection) -> Result<u64> {
    conn.prepare_cached("SELECT count(*) FROM access")?.query_row([], |row| unsigned(row, 0))
}

/// Bounds what waits while the server is away: merges alike accesses, then gives up the oldest.
/// Returns how many accesses were given up.
pub fn bound(conn: &Connection, this_run: Hash) -> Result<u64> {
    if count(conn)? <= MERGE {
        return Ok(0);
    }
    conn.execute_batch(
        "CREATE TEMP TABLE merged AS SELECT min(time) AS time, who, op, path, ver, \
             sum(count) AS count, result, agent, reason, applied FROM access \
             GROUP BY who, op, path, ver, result, agent, reason, applied; \
         DELETE FROM access;",
    )?;
    conn.execute(
        "INSERT INTO access (run, time, who, op, path, ver, count, result, agent, reason, applied) \
             SELECT ?1, time, who, op, path, ver, count, result, agent, reason, applied \
             FROM merged ORDER BY time",
        [this_run.as_bytes()],
    )?;
    conn.execute_batch("DROP TABLE merged;")?;
    let left = count(conn)?;
    let Some(over) = left.checked_sub(GIVE_UP).filter(|over| *over > 0) else { return Ok(0) };
    let lost: i64 = conn.query_row(
        "SELECT coalesce(sum(count), 0) FROM (SELECT count FROM access ORDER BY n LIMIT ?1)",
        [number(over)?],
        |row| row.get(0),
    )?;
    conn.execute(
        "DELETE FROM access WHERE n IN (SELECT n FROM access ORDER BY n LIMIT ?1)",
        [number(over)?],
    )?;
    u64::try_from(lost).map_err(damaged)
}
