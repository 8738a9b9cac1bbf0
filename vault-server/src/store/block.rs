//! Table `audit_block`: the first and the last time in each full block of audit records. Who looks
//! for a time passes over the blocks without it; clocks are set back, so that a search by halves
//! would miss some.

use std::ops::Range;

use rusqlite::{Connection, params};
use shared::time::Time;

use super::{int, nat};

/// Records in a block.
const SIZE: u64 = 1_000;

/// A run of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The one before the first.
    pub after: u64,
    /// The last.
    pub upto: u64,
}

impl Span {
    /// Tells whether a record is in it.
    pub const fn holds(self, n: u64) -> bool {
        n > self.after && n <= self.upto
    }
}

/// Notes the times of the block that ends with record `n`, if one does.
pub fn end(conn: &Connection, n: u64) -> rusqlite::Result<()> {
    if !n.is_multiple_of(SIZE) {
        return Ok(());
    }
    conn.prepare_cached(
        "INSERT OR REPLACE INTO audit_block (block, oldest, newest)
         SELECT ?1, min(time), max(time) FROM audit WHERE n > ?2 AND n <= ?3",
    )?
    .execute([int(n / SIZE), int(n - SIZE), int(n)])?;
    Ok(())
}

/// Returns the parts of `whole` that may hold records of these times, in order: all that is not in
/// a full block without any.
pub fn spans(
    conn: &Connection,
    whole: Span,
    times: Range<Option<Time>>,
) -> rusqlite::Result<Vec<Span>> {
    if times.start.is_none() && times.end.is_none() {
        return Ok(vec![whole]);
    }
    let micros = |time: Option<Time>| time.map(|time| int(time.as_micros()));
    let mut query = conn.prepare_cached(
        "SELECT block FROM audit_block WHERE (block - 1) * ?1 < ?3 AND block * ?1 > ?2
         AND NOT ((?4 IS NULL OR newest >= ?4) AND (?5 IS NULL OR oldest < ?5))
         ORDER BY block",
    )?;
    let (start, end) = (micros(times.start), micros(times.end));
    let mut rows =
        query.query(params![int(SIZE), int(whole.after), int(whole.upto), start, end])?;
    let (mut spans, mut after) = (Vec::new(), whole.after);
    while let Some(row) = rows.next()? {
        let last = nat(row.get(0)?) * SIZE;
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

/// Forgets the blocks of records up to `upto`.
pub fn forget(conn: &Connection, upto: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM audit_block WHERE block <= ?1")?
        .execute([int(upto / SIZE)])
        .map(drop)
}
