//! Table `audit`: the newest records of the audit chain, their very bytes; what came before them is
//! in `segment`, what they are found by in `kind` and `block`. Who may read them is decided in
//! `vault`; nothing here is ever changed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use shared::audit::{AuditHead, Fact, Record, leaf};
use shared::hash::Hash;
use shared::keys::random;
use shared::text::Text;
use shared::time::Time;
use shared::wire::v1::audit::{Archived, AuditQuery, LeavesPage};

use super::block::{self, Span};
use super::{
    Connection, Fault, NONE, Result, Row, damaged, hash, int, kind, nat, params, segment,
    unwritable,
};

/// Bytes of records that fill a page.
const PAGE: usize = 1 << 20;

/// Returns the chain's head.
pub fn head(conn: &Connection) -> Result<AuditHead> {
    let last = conn.first("SELECT n, chain FROM audit ORDER BY n DESC LIMIT 1", NONE, |row| {
        Ok(AuditHead { n: nat(row.get(0)?), hash: hash(row, 1)? })
    })?;
    last.map_or_else(|| segment::end(conn), Ok)
}

/// Returns the chain's value after record `n`, as far as the database knows it: not inside a
/// segment.
pub fn head_at(conn: &Connection, n: u64) -> Result<Option<AuditHead>> {
    if let Some(before) = segment::holding(conn, n.saturating_add(1))?.map(|segment| segment.before)
        && before.n == n
    {
        return Ok(Some(before));
    }
    let end = segment::end(conn)?;
    if n <= end.n {
        return Ok((n == end.n).then_some(end));
    }
    conn.first("SELECT chain FROM audit WHERE n = ?1", [int(n)], |row| {
        Ok(AuditHead { n, hash: hash(row, 0)? })
    })
}

/// Returns the bytes of the records in the database, and when the oldest was written.
pub fn extent(conn: &Connection) -> Result<Option<(u64, Time)>> {
    let end = segment::end(conn)?.n;
    let query = "SELECT oldest.total - length(oldest.record), oldest.time,
                (SELECT total FROM audit ORDER BY n DESC LIMIT 1)
         FROM audit AS oldest WHERE n > ?1 ORDER BY n LIMIT 1";
    conn.first(query, [int(end)], |row| {
        let (before, time, total) = (nat(row.get(0)?), nat(row.get(1)?), nat(row.get(2)?));
        Ok((total.saturating_sub(before), Time::from_micros(time)))
    })
}

/// Appends a record and returns the head after it.
pub fn insert(conn: &Connection, head: AuditHead, now: Time, fact: Fact) -> Result<AuditHead> {
    let nonce = Hash::from_bytes(*random::<32>());
    let record = Record { n: head.n + 1, nonce, time: now, fact };
    let bytes = serde_json::to_vec(&record).map_err(unwritable)?;
    let after = head.then(leaf(&bytes));
    let kind = kind::of(conn, &record.fact)?;
    conn.execute(
        "INSERT INTO audit (n, chain, time, kind, record, total)
         VALUES (?1, ?2, ?3, ?4, ?5,
                 length(?5) + coalesce((SELECT total FROM audit WHERE n = ?1 - 1), 0))",
        params![int(after.n), after.hash.as_bytes(), int(now.as_micros()), kind, &bytes],
    )?;
    block::end(conn, after.n)?;
    Ok(after)
}

/// Returns the chain's value after record `n`, inside a segment too, if it has that record and its
/// file; and how many bytes of a file were read for it.
pub fn chain(conn: &Connection, folder: &Path, n: u64) -> Result<(Option<AuditHead>, u64)> {
    // One view for all: segments come and go meanwhile.
    let view = conn.view()?;
    let known = head_at(&view, n)?;
    if known.is_some() {
        return Ok((known, 0));
    }
    let Some(sealed) = segment::holding(&view, n)? else { return Ok((None, 0)) };
    Ok(sealed.chain(&view, folder, n).map_or((None, 0), |(head, bytes)| (Some(head), bytes)))
}

/// Returns leaves from `after + 1` on, at most `limit` and none after `head`; where those are kept
/// no longer, the first ones that are. Also how many bytes of a file were read in vain.
pub fn leaves(
    conn: &Connection,
    folder: &Path,
    after: u64,
    head: AuditHead,
    limit: u64,
) -> Result<(LeavesPage, u64)> {
    // One view for all: segments come and go meanwhile.
    let view = conn.view()?;
    if let Some(sealed) = segment::holding(&view, after.saturating_add(1))? {
        return Ok(sealed_leaves(&view, &sealed, folder, after, head));
    }
    let from = head_at(&view, after)?.filter(|from| from.n <= head.n);
    let Some(from) = from else {
        return Ok((LeavesPage { from: head, until: None, leaves: Vec::new(), head }, 0));
    };
    let leaves = view.all(
        "SELECT record FROM audit WHERE n > ?1 AND n <= ?2 ORDER BY n LIMIT ?3",
        [int(after), int(head.n), int(limit)],
        |row| row.get(0).map(leaf),
    )?;
    Ok((LeavesPage { from, until: None, leaves, head }, 0))
}

/// Returns the leaves of one segment's file after `after`; none if the file is not there.
fn sealed_leaves(
    conn: &Connection,
    sealed: &segment::Segment,
    folder: &Path,
    after: u64,
    head: AuditHead,
) -> (LeavesPage, u64) {
    match sealed.leaves(conn, folder, after) {
        Some((from, leaves, passed)) => (LeavesPage { from, until: None, leaves, head }, passed),
        None => {
            let (from, until) = (sealed.after, Some(sealed.until));
            (LeavesPage { from, until, leaves: Vec::new(), head }, 0)
        }
    }
}

/// Hands the records of the database after `after` to `visit`, in order, with the chain's value
/// that is kept for each, until that breaks.
///
/// # Errors
/// If they cannot be read, or `visit` fails.
pub fn each<E: From<Fault>>(
    conn: &Connection,
    after: u64,
    mut visit: impl FnMut(AuditHead, &[u8]) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let query = "SELECT n, chain, record FROM audit WHERE n > ?1 ORDER BY n";
    conn.each(query, [int(after)], |row| {
        visit(AuditHead { n: nat(row.get(0)?), hash: hash(row, 1)? }, row.get(2)?)
    })
}

/// Returns how many records the database holds.
pub fn count(conn: &Connection) -> Result<u64> {
    conn.query_row("SELECT count(*) FROM audit", NONE, |row| row.get(0).map(nat))
}

/// Returns which records have left the database, if any have.
pub fn archived(conn: &Connection, folder: &Path) -> Result<Option<Archived>> {
    let Some(newest) = segment::newest(conn)? else { return Ok(None) };
    let folder = match conn.holds_archive() {
        true => Text::lossy("the database"),
        false => Text::lossy(&folder.display().to_string()),
    };
    let (last, gone) = (newest.after.n, segment::gone(conn)?.n);
    Ok(Some(Archived { last, until: newest.until, gone, folder }))
}

/// Returns the records up to `upto`, but for `without`, that match, oldest first, and whether there
/// are more of them; at most `limit`, and no more than fill a page.
pub fn find(
    conn: &Connection,
    query: &AuditQuery,
    upto: u64,
    without: Option<u64>,
    limit: usize,
) -> Result<(Vec<String>, bool)> {
    let after = query.after.max(segment::end(conn)?.n);
    let upto = query.before.map_or(upto, |before| upto.min(before.saturating_sub(1)));
    let kinds = kind::matching(conn, query)?;
    let times = query.since..query.until;
    let mut spans = block::spans(conn, Span { after, upto }, times, kinds.as_ref())?;
    if query.newest {
        spans.reverse();
    }
    let mut page = Page { query, without, limit, records: Vec::new(), used: 0, more: false };
    for span in spans {
        scan(conn, span, kinds.as_ref(), &mut page)?;
        if page.more {
            break;
        }
    }
    if query.newest {
        page.records.reverse();
    }
    Ok((page.records, page.more))
}

/// The records found so far.
struct Page<'a> {
    query: &'a AuditQuery,
    without: Option<u64>,
    limit: usize,
    records: Vec<String>,
    used: usize,
    more: bool,
}

impl Page<'_> {
    /// Takes what a row of `n`, `time` and `record` holds, if that is wanted; `false` once the page
    /// is full.
    fn take(&mut self, row: &Row<'_>) -> Result<bool> {
        let time = Time::from_micros(nat(row.get(1)?));
        let AuditQuery { since, until, .. } = self.query;
        let is_due = since.is_none_or(|since| time >= since)
            && until.is_none_or(|until| time < until)
            && self.without != Some(nat(row.get(0)?));
        if !is_due {
            return Ok(true);
        }
        let record: Vec<u8> = row.get(2)?;
        self.used += record.len();
        self.more =
            self.records.len() == self.limit || (self.used > PAGE && !self.records.is_empty());
        if !self.more {
            // The records are this program's own JSON.
            self.records.push(String::from_utf8(record).map_err(damaged(0))?);
        }
        Ok(!self.more)
    }
}

/// Looks at one record after the other.
fn scan(
    conn: &Connection,
    span: Span,
    kinds: Option<&BTreeSet<i64>>,
    page: &mut Page<'_>,
) -> Result<()> {
    let order = if page.query.newest { "DESC" } else { "ASC" };
    let query = format!(
        "SELECT n, time, record, kind FROM audit WHERE n > ?1 AND n <= ?2 ORDER BY n {order}"
    );
    conn.each(&query, [int(span.after), int(span.upto)], |row| {
        let is_wanted = match kinds {
            Some(kinds) => kinds.contains(&row.get(3)?),
            None => true,
        };
        let goes_on = !is_wanted || page.take(row)?;
        Ok(if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
}

#[cfg(test)]
mod tests;
