//! Pages of records: all that are wanted, oldest first, or the newest of them. No more than a page
//! is held, or as many as are shown.

use std::collections::VecDeque;

use serde_json::Value;
use shared::audit::Record;

use super::filter::Asked;
use crate::client::{Client, Error};
use crate::context::Global;
use host::hint::Failure;
use host::progress::Progress;
use machine::local::{self, Archived, AuditPage, AuditQuery};

/// Records asked for at once; a server ends a page at a number of bytes, too.
const PAGE: u64 = 10_000;
/// The newest records that are held at once.
const HELD: u64 = 10_000;

/// A record, and the very text that the chain hashes.
#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    pub record: Record,
}

impl Line {
    fn read(text: String) -> Result<Self, Failure> {
        let record = Record::parse(text.as_bytes());
        let malformed = |_| Failure::remote("the server sent an audit record of another shape");
        Ok(Self { record: record.map_err(malformed)?, text })
    }

    /// Returns the record as a document.
    pub fn value(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.text)
            .map_err(|_| Failure::remote("the server sent an audit record that is not JSON"))
    }
}

/// Asks for one page.
pub fn page(client: &Client, query: &AuditQuery) -> Result<AuditPage, Error> {
    client.get(local::AUDIT, &query.parameters())
}

/// Reads the records of a page.
pub fn lines(page: &mut AuditPage) -> Result<Vec<Line>, Failure> {
    std::mem::take(&mut page.records).into_iter().map(Line::read).collect()
}

/// Hands page after page of wanted records to `take`, the oldest first; says on a terminal how far
/// it is where nothing else is printed meanwhile. Returns what the server has archived.
pub fn walk(
    global: &Global,
    client: &Client,
    asked: &Asked,
    mut take: impl FnMut(Vec<Line>) -> anyhow::Result<()>,
) -> anyhow::Result<Option<Archived>> {
    let mut query = AuditQuery { limit: Some(PAGE), ..asked.query.clone() };
    let mut progress = None;
    let mut first = None;
    let archived = loop {
        let mut page = page(client, &query)?;
        let mut lines = lines(&mut page)?;
        let last = lines.last().map(|line| line.record.n);
        first = first.or_else(|| lines.first().map(|line| line.record.n));
        lines.retain(|line| asked.keeps(&line.record));
        if let (true, Some(last), false) = (page.more, last, global.term.out_is_tty) {
            let bar = progress.get_or_insert_with(|| Progress::start(&global.term, 0));
            let start = first.unwrap_or(last);
            let part = |n: u64| usize::try_from(n.saturating_sub(start)).unwrap_or(usize::MAX);
            bar.at(part(last), part(page.head.n), "records");
        }
        take(lines)?;
        match last {
            Some(last) if page.more && last > query.after => query.after = last,
            Some(_) | None => break page.archived,
        }
    };
    if let Some(progress) = progress {
        progress.end();
    }
    Ok(archived)
}

/// Hands the newest `count` wanted records to `take`, oldest first; returns what the server has
/// archived, if the search got so far, and the chain's head at the beginning.
pub fn newest(
    global: &Global,
    client: &Client,
    asked: &Asked,
    count: u64,
    mut take: impl FnMut(Vec<Line>) -> anyhow::Result<()>,
) -> anyhow::Result<(Option<Archived>, u64)> {
    let mut query = AuditQuery { newest: true, ..asked.query.clone() };
    let (mut found, mut kept, mut head) = (0, VecDeque::new(), None);
    let (mut archived, mut more) = (None, 1);
    while found < count {
        // Of all records those that are left out may be most.
        let wanted = (count - found).saturating_mul(more).min(PAGE);
        query.limit = Some(if asked.is_exact() { wanted } else { PAGE });
        more = more.saturating_mul(4);
        let mut page = page(client, &query)?;
        head.get_or_insert(page.head.n);
        let lines = lines(&mut page)?;
        let oldest = lines.first().map(|line| line.record.n);
        for line in lines.into_iter().rev() {
            if found < count && asked.keeps(&line.record) {
                found += 1;
                kept.push_front(line);
            }
        }
        kept.truncate(usize::try_from(HELD).unwrap_or(usize::MAX));
        match oldest {
            Some(oldest) if page.more && oldest > 1 => query.before = Some(oldest),
            Some(_) | None => {
                archived = page.archived;
                break;
            }
        }
    }
    let head = head.unwrap_or(0);
    if found <= HELD {
        take(kept.into())?;
        return Ok((archived, head));
    }
    // More than are held: found once more, from the first of them on.
    let first = kept.front().map_or(0, |line: &Line| line.record.n);
    let after = first.saturating_sub(1);
    let asked = asked.with(AuditQuery { after, ..asked.query.clone() });
    walk(global, client, &asked, take)?;
    Ok((archived, head))
}

/// Says which records are not shown although they were asked for, because the server has archived
/// them, and where they are.
pub fn tell_archived(global: &Global, asked: &Asked, archived: Option<&Archived>) {
    let Some(Archived { last, until, gone, folder }) = archived else { return };
    if asked.query.since.is_some_and(|since| since > *until) {
        return;
    }
    if gone < last {
        let first = gone + 1;
        global.term.say(format!(
            "records {first} to {last}, until {until}, are archived: on the server's host, in \
             `{folder}`"
        ));
    }
    if *gone > 0 {
        global.term.say(format!("records 1 to {gone} are kept no longer"));
    }
}
