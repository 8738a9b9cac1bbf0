//! Table `segment` and the sealed files that it lists: audit records that have left the database.
//! A file is whole and on disk before its row is, the row before the records go; where the table
//! ends, the records of the database begin. When what is sealed or deleted is decided in `vault`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use host::files::{self, Access};
use serde::Serialize;
use shared::audit::{AuditHead, leaf};
use shared::hash::Hash;
use shared::time::Time;

use super::{Connection, Fault, NONE, Result, Row, block, hash, int, nat, params, schema};

/// Name of the folder of segment files inside the data directory.
pub const FOLDER: &str = "audit";
/// Records deleted from the database in one piece of work: others wait for no more than that.
const AT_ONCE: u64 = 2_000;
/// Bytes read of a file at once.
const BUFFER: usize = 64 << 10;

/// A run of records that has left the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The chain before its first record.
    pub before: AuditHead,
    /// The chain after its last one.
    pub after: AuditHead,
    /// When the last one was written.
    pub until: Time,
    /// Bytes of its file; 0 once that is deleted.
    pub bytes: u64,
}

/// The first line of a file.
#[derive(Serialize)]
struct Header {
    before: AuditHead,
    after: AuditHead,
}

/// A segment that is still to be written.
pub struct Draft {
    /// What it will be.
    pub segment: Segment,
    /// What its file holds: a header, and the very bytes of the records, one a line.
    pub content: Vec<u8>,
}

impl Segment {
    /// Returns the name of its file. With the chain in it no other segment ever has it: not even
    /// where an old database was put back, and other records bear the same numbers.
    pub fn file_name(&self) -> String {
        let (first, last) = (self.before.n + 1, self.after.n);
        file_name(first, last, self.after.hash)
    }

    /// Returns the records of its file in order, whatever is in there; `None` if the file is not
    /// there.
    fn records(
        &self,
        conn: &Connection,
        folder: &Path,
    ) -> Option<impl Iterator<Item = io::Result<Vec<u8>>>> {
        if self.bytes == 0 {
            return None;
        }
        let file: Box<dyn io::Read> = if conn.holds_archive() {
            Box::new(io::Cursor::new(packed(conn, self).ok()??))
        } else {
            Box::new(File::open(folder.join(self.file_name())).ok()?)
        };
        let mut lines = BufReader::with_capacity(BUFFER, file.take(self.bytes)).split(b'\n');
        let _header = lines.next()?.ok()?;
        Some(lines.filter(|line| !line.as_ref().is_ok_and(Vec::is_empty)))
    }

    /// Returns where its leaves go on after record `after`, those leaves, and the bytes of the
    /// records that were passed over on the way; `None` if the file is not there.
    pub fn leaves(
        &self,
        conn: &Connection,
        folder: &Path,
        after: u64,
    ) -> Option<(AuditHead, Vec<Hash>, u64)> {
        let (mut from, mut leaves, mut passed) = (self.before, Vec::new(), 0);
        for record in self.records(conn, folder)? {
            let record = record.ok()?;
            if from.n < after {
                from = from.then(leaf(&record));
                passed += record.len() as u64;
            } else {
                leaves.push(leaf(&record));
            }
        }
        Some((from, leaves, passed))
    }

    /// Returns the chain's value after record `n` of its file, and the bytes of the records up to
    /// there; `None` if the file is not there.
    pub fn chain(&self, conn: &Connection, folder: &Path, n: u64) -> Option<(AuditHead, u64)> {
        let (mut head, mut passed) = (self.before, 0);
        let due = usize::try_from(n.saturating_sub(head.n)).unwrap_or(usize::MAX);
        for record in self.records(conn, folder)?.take(due) {
            let record = record.ok()?;
            head = head.then(leaf(&record));
            passed += record.len() as u64;
        }
        Some((head, passed))
    }

    fn from_row(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            before: AuditHead { n: nat(row.get(0)?) - 1, hash: hash(row, 1)? },
            after: AuditHead { n: nat(row.get(2)?), hash: hash(row, 3)? },
            until: Time::from_micros(nat(row.get(4)?)),
            bytes: nat(row.get(5)?),
        })
    }
}

impl Draft {
    /// Makes a segment of the oldest records in the database, `most` bytes of them and no more,
    /// that `are_due` of their times; never of the newest record. `None` if there are none.
    pub fn of_oldest(
        conn: &Connection,
        most: u64,
        are_due: impl Fn(Time) -> bool,
    ) -> Result<Option<Self>> {
        let before = end(conn)?;
        let query = "SELECT n, chain, time, record FROM audit
             WHERE n > ?1 AND n < (SELECT max(n) FROM audit) ORDER BY n";
        let (mut after, mut until, mut lines) = (before, Time::default(), Vec::new());
        conn.each(query, [int(before.n)], |row| {
            let time = Time::from_micros(nat(row.get(2)?));
            let record: &[u8] = row.get(3)?;
            let fits = lines.is_empty() || (lines.len() + record.len()) as u64 <= most;
            if !fits || !are_due(time) {
                return Ok::<_, Fault>(ControlFlow::Break(()));
            }
            after = AuditHead { n: nat(row.get(0)?), hash: hash(row, 1)? };
            until = until.max(time);
            lines.extend_from_slice(record);
            lines.push(b'\n');
            Ok(ControlFlow::Continue(()))
        })?;
        if after == before {
            return Ok(None);
        }
        let header = Header { before, after };
        let mut content = serde_json::to_vec(&header).map_err(super::unwritable)?;
        content.push(b'\n');
        content.append(&mut lines);
        let bytes = content.len() as u64;
        Ok(Some(Self { segment: Segment { before, after, until, bytes }, content }))
    }

    /// Writes the file whole and to the disk; once more if a stopped server had got that far.
    ///
    /// # Errors
    /// If the folder or the file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        files::create_dir_private(folder)?;
        let file = folder.join(self.segment.file_name());
        files::replace_trusted(&file, &self.content, Access::PRIVATE)
            .with_context(|| format!("cannot write `{}`", file.display()))
    }
}

/// Removes the files that begin where the table ends and hold what is still in the database: of a
/// server that was stopped before it could list them. Files that an older copy of the database does
/// not know of hold other records, and stay.
///
/// # Errors
/// If the folder cannot be read, or a file cannot be removed.
pub fn sweep(conn: &Connection, folder: &Path) -> anyhow::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot read `{}`", folder.display()))?,
    };
    let first = end(conn)?.n + 1;
    let due = format!("{first:012}-");
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(&due)) else { continue };
        let Some(last) = name[due.len()..].get(..12).and_then(|last| last.parse().ok()) else {
            continue;
        };
        let after: Option<Hash> =
            conn.first("SELECT chain FROM audit WHERE n = ?1", [int(last)], |row| hash(row, 0))?;
        if after.is_some_and(|after| name == file_name(first, last, after)) {
            std::fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove `{}`", entry.path().display()))?;
        }
    }
    Ok(())
}

fn file_name(first: u64, last: u64, after: Hash) -> String {
    format!("{first:012}-{last:012}-{}.jsonl", &after.to_string()[..16])
}

const COLUMNS: &str = "first, before, last, after, until, bytes";

/// Returns where the segments end and the records of the database begin.
pub fn end(conn: &Connection) -> Result<AuditHead> {
    Ok(newest(conn)?.map_or(AuditHead::EMPTY, |newest| newest.after))
}

/// Returns the segment that was sealed last.
pub fn newest(conn: &Connection) -> Result<Option<Segment>> {
    let query = format!("SELECT {COLUMNS} FROM segment ORDER BY first DESC LIMIT 1");
    conn.first(&query, NONE, Segment::from_row)
}

/// Returns the segment that holds record `n`, or did.
pub fn holding(conn: &Connection, n: u64) -> Result<Option<Segment>> {
    let query = format!("SELECT {COLUMNS} FROM segment WHERE ?1 BETWEEN first AND last");
    conn.first(&query, [int(n)], Segment::from_row)
}

/// Returns all segments, oldest first.
pub fn all(conn: &Connection) -> Result<Vec<Segment>> {
    conn.all(&format!("SELECT {COLUMNS} FROM segment ORDER BY first"), NONE, Segment::from_row)
}

/// Returns those that have a file, oldest first.
pub fn with_file(conn: &Connection) -> Result<Vec<Segment>> {
    Ok(all(conn)?.into_iter().filter(|segment| segment.bytes > 0).collect())
}

/// Returns the chain after the records in what a segment's file holds, which begin after `before`.
pub fn folded(before: AuditHead, content: &[u8]) -> AuditHead {
    let records = content.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty());
    records.fold(before, |head, record| head.then(leaf(record)))
}

/// Returns where the records end whose segments were deleted.
pub fn gone(conn: &Connection) -> Result<AuditHead> {
    let gone = holding(conn, 1)?.filter(|segment| segment.bytes == 0);
    Ok(gone.map_or(AuditHead::EMPTY, |gone| gone.after))
}

/// Returns the oldest segment with a file if the files are more than `most` bytes or `count`.
pub fn surplus(conn: &Connection, most: u64, count: u64) -> Result<Option<Segment>> {
    let all =
        "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT), count(*) FROM segment WHERE bytes > 0";
    let (bytes, files) =
        conn.query_row(all, NONE, |row| Ok((nat(row.get(0)?), nat(row.get(1)?))))?;
    if bytes <= most && files <= count {
        return Ok(None);
    }
    let oldest = format!("SELECT {COLUMNS} FROM segment WHERE bytes > 0 ORDER BY first LIMIT 1");
    conn.first(&oldest, NONE, Segment::from_row)
}

/// Lists a segment whose file is on disk, unless another one was listed meanwhile.
pub fn insert(conn: &Connection, segment: &Segment) -> Result<()> {
    if end(conn)? != segment.before {
        return Ok(());
    }
    let values = params![
        int(segment.before.n + 1),
        segment.before.hash.as_bytes(),
        int(segment.after.n),
        segment.after.hash.as_bytes(),
        int(segment.until.as_micros()),
        int(segment.bytes)
    ];
    conn.execute(
        "INSERT INTO segment (first, before, last, after, until, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        values,
    )
    .map(drop)
}

/// Lists a segment, and keeps what its file would hold, where the database is the archive.
pub fn pack(conn: &Connection, Draft { segment, content }: &Draft) -> Result<()> {
    if end(conn)? != segment.before {
        return Ok(());
    }
    let name = segment.file_name();
    conn.execute("INSERT INTO packed (name, bytes) VALUES (?1, ?2)", params![&name, content])?;
    insert(conn, segment)
}

/// Tells whether a database holds what the files of its segments would, as a copy of one does.
pub fn is_packed(conn: &Connection) -> Result<bool> {
    Ok(conn.holds_archive() || schema::has_table(conn, "packed")?)
}

/// Returns what the file of a segment holds that is in the database itself.
pub fn packed(conn: &Connection, segment: &Segment) -> Result<Option<Vec<u8>>> {
    let name = segment.file_name();
    conn.first("SELECT bytes FROM packed WHERE name = ?1", [name.as_str()], |row| row.get(0))
}

/// Notes that the file of the oldest segment is deleted: one row stands for all of those.
pub fn forget(conn: &Connection, segment: &Segment) -> Result<()> {
    if conn.holds_archive() {
        conn.execute("DELETE FROM packed WHERE name = ?1", [segment.file_name().as_str()])?;
    }
    conn.execute("DELETE FROM segment WHERE bytes = 0", NONE)?;
    conn.execute(
        "UPDATE segment SET first = 1, before = ?2, bytes = 0 WHERE first = ?1",
        params![int(segment.before.n + 1), Hash::ZERO.as_bytes()],
    )
    .map(drop)
}

/// Deletes records from the database that are in segments, some of them; tells whether there may
/// be more.
pub fn trim(conn: &Connection) -> Result<bool> {
    let oldest: Option<i64> = conn.query_row("SELECT min(n) FROM audit", NONE, |row| row.get(0))?;
    let (Some(oldest), end) = (oldest.map(nat), end(conn)?.n) else { return Ok(false) };
    if oldest > end {
        return Ok(false);
    }
    let upto = end.min(oldest + AT_ONCE - 1);
    let kinds = block::kinds_of_oldest(conn, upto)?;
    conn.execute("DELETE FROM audit WHERE n <= ?1", [int(upto)])?;
    block::forget(conn, upto, &kinds)?;
    Ok(upto < end)
}

#[cfg(test)]
mod tests;
