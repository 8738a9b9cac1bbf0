//! Tables `audit_block` and `audit_block_kind`: the first and the last time in each full block of
//! audit records, and its kinds. Who looks for some passes over the blocks without.

use std::collections::{BTreeSet, HashSet};
use std::ops::{ControlFlow, Range};

use shared::time::Time;

use super::{Connection, Fault, Result, int, kind, nat};

/// Records in a block.
const SIZE: u64 = 1_000;
/// Kinds whose blocks are looked up; of more of them every block holds some.
const MANY: usize = 20_000;
/// Kinds whose blocks are asked for at once.
const ASKED: usize = 64;

/// A run of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The number before the first.
    pub after: u64,
    /// The last.
    pub upto: u64,
}

/// Notes the times and the kinds of the block that ends with record `n`, if one does.
pub fn end(conn: &Connection, n: u64) -> Result<()> {
    if !n.is_multiple_of(SIZE) {
        return Ok(());
    }
    let block = [int(n / SIZE), int(n - SIZE), int(n)];
    conn.execute(
        "INSERT INTO audit_block (block, oldest, newest)
         SELECT ?1, min(time), max(time) FROM audit WHERE n > ?2 AND n <= ?3
         ON CONFLICT (block) DO UPDATE SET oldest = excluded.oldest, newest = excluded.newest",
        block,
    )?;
    conn.execute(
        "INSERT INTO audit_block_kind (kind, block)
         SELECT DISTINCT kind, ?1 FROM audit WHERE n > ?2 AND n <= ?3 ON CONFLICT DO NOTHING",
        block,
    )
    .map(drop)
}

/// Returns the parts of `whole` that may hold records of these times and kinds, in order: all that
/// is not in a full block without any.
pub fn spans(
    conn: &Connection,
    whole: Span,
    times: Range<Option<Time>>,
    kinds: Option<&BTreeSet<i64>>,
) -> Result<Vec<Span>> {
    let kinds = kinds.filter(|kinds| kinds.len() <= MANY);
    if times.start.is_none() && times.end.is_none() && kinds.is_none() {
        return Ok(vec![whole]);
    }
    let blocks = kinds.map(|kinds| with_any(conn, kinds)).transpose()?;
    let micros = |time: Time| int(time.as_micros());
    let (start, end) = (times.start.map_or(0, micros), times.end.map_or(i64::MAX, micros));
    let query = "SELECT block, newest >= ?4 AND oldest < ?5 FROM audit_block
         WHERE (block - 1) * ?1 < ?3 AND block * ?1 > ?2 ORDER BY block";
    let bounds = [int(SIZE), int(whole.after), int(whole.upto), start, end];
    let (mut spans, mut after) = (Vec::new(), whole.after);
    conn.each(query, bounds, |row| {
        let (block, is_then): (i64, bool) = (row.get(0)?, row.get(1)?);
        if is_then && blocks.as_ref().is_none_or(|blocks| blocks.contains(&block)) {
            return Ok(ControlFlow::Continue(()));
        }
        let last = nat(block) * SIZE;
        if last - SIZE > after {
            spans.push(Span { after, upto: last - SIZE });
        }
        after = last.max(after);
        Ok::<_, Fault>(ControlFlow::Continue(()))
    })?;
    if whole.upto > after {
        spans.push(Span { after, upto: whole.upto });
    }
    Ok(spans)
}

/// Returns the full blocks that hold records of any of these kinds.
fn with_any(conn: &Connection, kinds: &BTreeSet<i64>) -> Result<HashSet<i64>> {
    let places: Vec<String> = (1..=ASKED).map(|n| format!("?{n}")).collect();
    let places = places.join(", ");
    let query = format!("SELECT DISTINCT block FROM audit_block_kind WHERE kind IN ({places})");
    let (mut left, mut blocks) = (kinds.iter(), HashSet::new());
    while let Some(first) = left.next() {
        // The last ones are asked for with one of them again and again: the text stays the same.
        let mut asked = [*first; ASKED];
        asked.iter_mut().skip(1).zip(left.by_ref()).for_each(|(place, kind)| *place = *kind);
        blocks.extend(conn.all(&query, asked, |row| row.get::<i64>(0))?);
    }
    Ok(blocks)
}

/// Returns the kinds of the records up to `upto`, and of all in full blocks that end with them.
pub fn kinds_of_oldest(conn: &Connection, upto: u64) -> Result<Vec<i64>> {
    conn.all(
        "SELECT kind FROM audit WHERE n <= ?1
         UNION SELECT kind FROM audit_block_kind WHERE block <= ?2",
        [int(upto), int(upto / SIZE)],
        |row| row.get(0),
    )
}

/// Forgets the blocks of records up to `upto`, which are gone, and those of `kinds`, the kinds they
/// had, that no other record has.
pub fn forget(conn: &Connection, upto: u64, kinds: &[i64]) -> Result<()> {
    let whole = int(upto / SIZE);
    conn.execute("DELETE FROM audit_block WHERE block <= ?1", [whole])?;
    let gone = "DELETE FROM audit_block_kind WHERE kind = ?1 AND block <= ?2";
    let is_left = "SELECT EXISTS (SELECT 1 FROM audit_block_kind WHERE kind = ?1)
         OR EXISTS (SELECT 1 FROM audit WHERE kind = ?1
                    AND n > (SELECT coalesce(max(block), 0) * ?2 FROM audit_block))";
    for kind in kinds {
        let _dropped = conn.execute(gone, [*kind, whole])?;
        if !conn.query_row(is_left, [*kind, int(SIZE)], |row| row.get::<bool>(0))? {
            kind::forget(conn, *kind)?;
        }
    }
    Ok(())
}
