//! Table `audit`: the newest records of the audit chain, their very bytes; what came before them is
//! in `segment`, what they are found by in `kind` and `block`. Who may read them is decided in
//! `vault`; nothing here is ever changed.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use shared::audit::{AuditHead, Fact, Record, leaf};
use shared::hash::Hash;
use shared::keys::random;
use shared::text::Text;
use shared::time::Time;
use shared::wire::v1::audit::{Archived, AuditQuery, LeavesPage};

use super::block::{self, Span};
use super::{damaged, hash, int, kind, nat, segment, unwritable};

/// Bytes of records that fill a page.
const PAGE: usize = 1 << 20;

/// Returns the chain's head.
pub fn head(conn: &Connection) -> rusqlite::Result<AuditHead> {
    let last = conn
        .query_row("SELECT n, chain FROM audit ORDER BY n DESC LIMIT 1", [], |row| {
            Ok(AuditHead { n: nat(row.get(0)?), hash: hash(row, 1)? })
        })
        .optional()?;
    last.map_or_else(|| segment::end(conn), Ok)
}

/// Returns the chain's value after record `n`, as far as the database knows it: not inside a
/// segment.
pub fn head_at(conn: &Connection, n: u64) -> rusqlite::Result<Option<AuditHead>> {
    if let Some(before) = segment::holding(conn, n.saturating_add(1))?.map(|segment| segment.before)
        && before.n == n
    {
        return Ok(Some(before));
    }
    let end = segment::end(conn)?;
    if n <= end.n {
        return Ok((n == end.n).then_some(end));
    }
    conn.prepare_cached("SELECT chain FROM audit WHERE n = ?1")?
        .query_row([int(n)], |row| Ok(AuditHead { n, hash: hash(row, 0)? }))
        .optional()
}

/// Returns the bytes of the records in the database, and when the oldest was written.
pub fn extent(conn: &Connection) -> rusqlite::Result<Option<(u64, Time)>> {
    let end = segment::end(conn)?.n;
    conn.prepare_cached(
        "SELECT first.total - length(first.record), first.time,
                (SELECT total FROM audit ORDER BY n DESC LIMIT 1)
         FROM audit AS first WHERE n > ?1 ORDER BY n LIMIT 1",
    )?
    .query_row([int(end)], |row| {
        let (before, time, total) = (nat(row.get(0)?), nat(row.get(1)?), nat(row.get(2)?));
        Ok((total.saturating_sub(before), Time::from_micros(time)))
    })
    .optional()
}

/// Appends a record and returns the head after it.
pub fn insert(
    conn: &Connection,
    head: AuditHead,
    now: Time,
    fact: Fact,
) -> rusqlite::Result<AuditHead> {
    let nonce = Hash::from_bytes(*random::<32>());
    let record = Record { n: head.n + 1, nonce, time: now, fact };
    let bytes = serde_json::to_vec(&record).map_err(unwritable)?;
    let after = head.then(leaf(&bytes));
    conn.prepare_cached(
        "INSERT INTO audit (n, chain, time, kind, record, total)
         VALUES (?1, ?2, ?3, ?4, ?5,
                 length(?5) + coalesce((SELECT total FROM audit WHERE n = ?1 - 1), 0))",
    )?
    .execute(params![
        int(after.n),
        after.hash.as_bytes(),
        int(now.as_micros()),
        kind::of(conn, &record.fact)?,
        bytes
    ])?;
    block::end(conn, after.n)?;
    Ok(after)
}

/// Returns the chain's value after record `n`, inside a segment too, if it has that record and its
/// file; and how many bytes of a file were read for it.
pub fn chain(
    conn: &Connection,
    folder: &Path,
    n: u64,
) -> rusqlite::Result<(Option<AuditHead>, u64)> {
    // One view for all: segments come and go meanwhile.
    let view = conn.unchecked_transaction()?;
    let known = head_at(&view, n)?;
    if known.is_some() {
        return Ok((known, 0));
    }
    let Some(sealed) = segment::holding(&view, n)? else { return Ok((None, 0)) };
    Ok(sealed.chain(folder, n).map_or((None, 0), |(head, bytes)| (Some(head), bytes)))
}

/// Returns leaves from `after + 1` on, at most `limit` and none after `head`; where those are kept
/// no longer, the first ones that are. Also how many bytes of a file were read in vain.
pub fn leaves(
    conn: &Connection,
    folder: &Path,
    after: u64,
    head: AuditHead,
    limit: u64,
) -> rusqlite::Result<(LeavesPage, u64)> {
    // One view for all: segments come and go meanwhile.
    let view = conn.unchecked_transaction()?;
    if let Some(sealed) = segment::holding(&view, after.saturating_add(1))? {
        return Ok(sealed_leaves(&sealed, folder, after, head));
    }
    let from = head_at(&view, after)?.filter(|from| from.n <= head.n);
    let Some(from) = from else {
        return Ok((LeavesPage { from: head, until: None, leaves: Vec::new(), head }, 0));
    };
    let leaves = view
        .prepare_cached("SELECT record FROM audit WHERE n > ?1 AND n <= ?2 ORDER BY n LIMIT ?3")?
        .query_map([int(after), int(head.n), int(limit)], |row| {
            row.get_ref(0)?.as_blob().map(leaf).map_err(Into::into)
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok((LeavesPage { from, until: None, leaves, head }, 0))
}

/// Returns the leaves of one segment's file after `after`; none if the file is not there.
fn sealed_leaves(
    sealed: &segment::Segment,
    folder: &Path,
    after: u64,
    head: AuditHead,
) -> (LeavesPage, u64) {
    match sealed.leaves(folder, after) {
        Some((from, leaves, passed)) => (LeavesPage { from, until: None, leaves, head }, passed),
        None => {
            let (from, until) = (sealed.after, Some(sealed.until));
            (LeavesPage { from, until, leaves: Vec::new(), head }, 0)
        }
    }
}

/// Returns which records have left the database, if any have.
pub fn archived(conn: &Connection, folder: &Path) -> rusqlite::Result<Option<Archived>> {
    let Some(newest) = segment::newest(conn)? else { return Ok(None) };
    let folder = Text::lossy(&folder.display().to_string());
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
) -> rusqlite::Result<(Vec<String>, bool)> {
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
    fn take(&mut self, row: &Row<'_>) -> rusqlite::Result<bool> {
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
) -> rusqlite::Result<()> {
    let order = if page.query.newest { "DESC" } else { "ASC" };
    let mut statement = conn.prepare_cached(&format!(
        "SELECT n, time, record, kind FROM audit WHERE n > ?1 AND n <= ?2 ORDER BY n {order}"
    ))?;
    let mut rows = statement.query([int(span.after), int(span.upto)])?;
    while let Some(row) = rows.next()? {
        let is_wanted = match kinds {
            Some(kinds) => kinds.contains(&row.get(3)?),
            None => true,
        };
        if is_wanted && !page.take(row)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
