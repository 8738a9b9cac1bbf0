//! Audit records for one who is told: page after page from where they were told last, each once and
//! in order. What the asking itself puts on record is left out.

use std::time::Duration;

use shared::audit::{Op, Record};
use shared::path::SecretPath;
use shared::wire::v1::audit::AuditQuery;
use tokio::time::timeout;

use super::event::{Event, Message};
use super::fault::Fault;
use super::filter;
use crate::engine::Engine;
use host::clock;
use machine::config::Only;

/// Records asked for at once.
const PAGE: u64 = 200;
/// How long an answer may take; the server holds it back until there is a record.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a machine must be able to read.
const GRANT: &str = "sys/audit";

/// Some records, and where to go on.
#[derive(Debug)]
pub struct Page {
    /// What is to be told.
    pub messages: Vec<Message>,
    /// The last record that was looked at.
    pub cursor: u64,
    /// Whether more are there already.
    pub more: bool,
    /// Whether nobody but readers of the audit log was seen: two that follow it must not keep each
    /// other awake.
    pub idle: bool,
}

/// Asks for the records after `cursor`; without one for none, but for where the log ends now.
///
/// # Errors
/// If this machine may not read them, or the server cannot be asked.
pub async fn page(engine: &Engine, only: &Only, cursor: Option<u64>) -> Result<Page, Fault> {
    let granted = GRANT.parse::<SecretPath>().is_ok_and(|path| engine.may_read(&path));
    if !granted {
        let name = engine.name();
        let way = format!("an admin gives it with `vault access set {name} --read …,{GRANT}`");
        return Err(Fault::new(format!("this machine has no read grant on `{GRANT}`: {way}")));
    }
    let query = match cursor {
        Some(after) => AuditQuery { after, limit: Some(PAGE), wait: true, ..filter::query(only) },
        None => AuditQuery { limit: Some(1), newest: true, ..AuditQuery::default() },
    };
    let asked = timeout(PATIENCE, engine.audit(query)).await;
    let asked =
        asked.map_err(|_| Fault::new("the server does not say in time what is on record"))?;
    let page = asked.map_err(|why| Fault::new(format!("{why:#}")))?;
    let Some(after) = cursor else {
        return Ok(Page { messages: Vec::new(), cursor: page.head.n, more: false, idle: true });
    };
    if page.head.n < after {
        tracing::warn!(after, now = page.head.n, "the audit log was set back: it is followed anew");
        return Ok(Page { messages: Vec::new(), cursor: page.head.n, more: false, idle: true });
    }
    let mut messages = Vec::new();
    if let Some(archived) = page.archived.filter(|archived| archived.last > after) {
        messages.push(Message::new(clock::now(), Event::Gap(after + 1, archived.last)));
    }
    let (mut last, mut idle) = (after, true);
    for text in page.records {
        let record = Record::parse(text.as_bytes());
        let record =
            record.map_err(|why| Fault::new(format!("the server sent no record: {why}")))?;
        if record.n <= last {
            return Err(Fault::new("the server sent audit records that are not in order"));
        }
        last = record.n;
        idle &= record.fact.op == Op::AuditRead;
        if filter::keeps(only, &record) {
            messages.push(Message::of_record(&record, text));
        }
    }
    let cursor = if page.more { last } else { page.head.n.max(last) };
    Ok(Page { messages, cursor, more: page.more && last > after, idle })
}
