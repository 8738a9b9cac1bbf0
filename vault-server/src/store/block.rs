//! Tables `audit_block` and `audit_block_kind`: the first and the last time in each full block of
//! audit records, and its kinds. Who looks for some passes over the blocks without.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use rusqlite::{Connection, params};
use shared::time::Time;

use super::{int, kind, nat};

/// Records in a block.
const SIZE: u64 = 1_000;
/// Kinds whose blocks are looked up; of more of them every block holds some.
const MANY: usize = 20_000;

/// A run of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The one before the first.
    pub after: u64,
    /// The last.
    pub upto: u64,
}

/// Notes the times and the kinds of the block that ends with record `n`, if one does.
pub fn end(conn: &Connection, n: u64) -> rusqlite::Result<()> {
    if !n.is_multiple_of(SIZE) {
        return Ok(());
    }
    let block = [int(n / SIZE), int(n - SIZE), int(n)];
    conn.prepare_cached(
        "INSERT OR REPLACE INTO audit_block (block, oldest, newest)
         SELECT ?1, min(time), max(time) FROM audit WHERE n > ?2 AND n <= ?3",
    )?
    .execute(block)?;
    conn.prepare_cached(
        "INSERT OR IGNORE INTO audit_block_kind (kind, block)
         SELECT DISTINCT kind, ?1 FROM audit WHERE n > ?2 AND n <= ?3",
    )?
    .execute(block)
    .map(drop)
}

/// Returns the parts of `whole` that may hold records of these times and kinds, in order: all that
/// is not in a full block without any.
pub fn spans(
    conn: &Connection,
    whole: Span,
    times: Range<Option<Time>>,
    kinds: Option<&BTreeSet<i64>>,
) -> rusqlite::Result<Vec<Span>> {
    let kinds = kinds.filter(|kinds| kinds.len() <= MANY);
    if times.start.is_none() && times.end.is_none() && kinds.is_none() {
        return Ok(vec![whole]);
    }
    let blocks = kinds.map(|kinds| with_any(conn, kinds)).transpose()?;
    let micros = |time: Option<Time>| time.map(|time| int(time.as_micros()));
    let mut query = conn.prepare_cached(
        "SELECT block, (?4 IS NULL OR newest >= ?4) AND (?5 IS NULL OR oldest < ?5)
         FROM audit_block WHERE (block - 1) * ?1 < ?3 AND block * ?1 > ?2 ORDER BY block",
    )?;
    let (start, end) = (micros(times.start), micros(times.end));
    let mut rows =
        query.query(params![int(SIZE), int(whole.after), int(whole.upto), start, end])?;
    let (mut spans, mut after) = (Vec::new(), whole.after);
    while let Some(row) = rows.next()? {
        let (block, is_then): (i64, bool) = (row.get(0)?, row.get(1)?);
        if is_then && blocks.as_ref().is_none_or(|blocks| blocks.contains(&block)) {
            continue;
        }
        let last = nat(block) * SIZE;
        if last - SIZE > after {
            spans.push(Span { after, upto: last - SIZE });
        }
        after = last.max(after);
    }
    if whole.upto > after {
        spans.push(Span { after, upto: whole.upto });
    }
    Ok(spans)
}

/// Returns the full blocks that hold records of any of these kinds.
fn with_any(conn: &Connection, kinds: &BTreeSet<i64>) -> rusqlite::Result<HashSet<i64>> {
    let mut of_kind = conn.prepare_cached("SELECT block FROM audit_block_kind WHERE kind = ?1")?;
    let mut blocks = HashSet::new();
    for kind in kinds {
        let mut rows = of_kind.query([kind])?;
        while let Some(row) = rows.next()? {
            blocks.insert(row.get(0)?);
        }
    }
    Ok(blocks)
}

/// Returns the kinds of the records up to `upto`, and of all in full blocks that end with them.
pub fn kinds_of_oldest(conn: &Connection, upto: u64) -> rusqlite::Result<Vec<i64>> {
    conn.prepare_cached(
        "SELECT kind FROM audit WHERE n <= ?1
         UNION SELECT kind FROM audit_block_kind WHERE block <= ?2",
    )?
    .query_map([int(upto), int(upto / SIZE)], |row| row.get(0))?
    .collect()
}

/// Forgets the blocks of records up to `upto`, which are gone, and those of `kinds`, the kinds they
/// had, that no other record has.
pub fn forget(conn: &Connection, upto: u64, kinds: &[i64]) -> rusqlite::Result<()> {
    let whole = int(upto / SIZE);
    conn.prepare_cached("DELETE FROM audit_block WHERE block <= ?1")?.execute([whole])?;
    let mut gone =
        conn.prepare_cached("DELETE FROM audit_block_kind WHERE kind = ?1 AND block <= ?2")?;
    let mut is_left = conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM audit_block_kind WHERE kind = ?1)
         OR EXISTS (SELECT 1 FROM audit WHERE kind = ?1
                    AND n > (SELECT coalesce(max(block), 0) * ?2 FROM audit_block))",
    )?;
    for kind in kinds {
        let _dropped = gone.execute([*kind, whole])?;
        if !is_left.query_row([*kind, int(SIZE)], |row| row.get::<_, bool>(0))? {
            kind::forget(conn, *kind)?;
        }
    }
    Ok(())
}
