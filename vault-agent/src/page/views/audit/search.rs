//! What is asked of the audit log, and a bounded search for it: the server finds by machine,
//! secret, operation and time; process and user are looked at here, since machines tell them.

use anyhow::Result;
use shared::audit::{Op, Record};
use shared::text::like;
use shared::time::Time;

use crate::engine::Engine;
use crate::page::href::{Fields, Href};
use crate::page::records::read;
use machine::local::{AuditQuery, Holder};
use machine::when::{self, Span};
use machine::who;

/// Records on a screen.
const SHOWN: usize = 100;
/// Records that are looked at in one answer of the server.
const LOOKED: u64 = 2_000;
/// Answers that are looked through for one screen.
const ANSWERS: usize = 4;
/// Longest text of a filter, in characters.
const LONGEST: usize = 512;

/// Operations to choose from; the first stands for all.
pub(in crate::page) const OPS: [&str; 5] = ["", "read", "write", "act", "applied"];

/// What is asked for; empty texts ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::page) struct Filter {
    pub(super) path: String,
    /// A key, of which the secrets and versions that hold it are meant; `*` stands for any text.
    pub(super) key: String,
    pub(super) machine: String,
    pub(super) op: String,
    /// What came of it, by its word; `*` stands for any text.
    pub(super) result: String,
    pub(super) process: String,
    pub(super) user: String,
    pub(super) since: String,
    pub(super) until: String,
    pub(super) denied: bool,
    /// Only records before this one.
    pub(super) before: Option<u64>,
}

/// What is wrong with a filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Time(String),
    Op(String),
}

/// Records that were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The oldest first.
    pub(super) records: Vec<Record>,
    /// Before which one to go on, if older ones may be there.
    pub(super) older: Option<u64>,
    /// How many were looked at here.
    pub(super) looked: u64,
    /// The newest record of all.
    pub(super) head: u64,
    /// The last record that the server's files alone have.
    pub(super) archived: Option<u64>,
}

impl Filter {
    /// Takes it from an address.
    pub(in crate::page) fn read(fields: &Fields) -> Self {
        let text = |name| {
            let value = fields.get(name).unwrap_or_default().trim();
            value.chars().take(LONGEST).collect()
        };
        Self {
            path: text("path"),
            key: text("key"),
            machine: text("machine"),
            op: text("op"),
            result: text("result"),
            process: text("process"),
            user: text("user"),
            since: text("since"),
            until: text("until"),
            denied: fields.get("denied").is_some_and(|it| !matches!(it, "" | "0" | "false")),
            before: fields.get("before").and_then(|n| n.parse().ok()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self { before: self.before, ..Self::default() }
    }

    /// Tells whether records to come belong to what is shown.
    pub(super) const fn is_open_ended(&self) -> bool {
        // Which secrets hold a key is not looked up again and again.
        self.before.is_none() && self.until.is_empty() && self.key.is_empty()
    }

    /// Returns the address of the same filter, with its records before `n`, or after it for news.
    pub(super) fn href(&self, path: &'static str, n: u64) -> Href {
        let name = if path == "/audit" { "before" } else { "after" };
        self.newest(path).with(name, &n.to_string())
    }

    /// Returns the address of the same filter with its newest records.
    pub(super) fn newest(&self, path: &'static str) -> Href {
        let Self { path: of, key, machine, op, result, process, user, since, until, .. } = self;
        let denied = if self.denied { "1" } else { "" };
        let all = [
            ("path", of.as_str()),
            ("key", key),
            ("machine", machine),
            ("op", op),
            ("result", result),
            ("process", process),
            ("user", user),
            ("since", since),
            ("until", until),
            ("denied", denied),
        ];
        let given = all.into_iter().filter(|(_, value)| !value.is_empty());
        given.fold(Href::own(path), |href, (name, value)| href.with(name, value))
    }

    /// Returns what the server is asked for.
    ///
    /// # Errors
    /// What cannot be meant.
    pub(super) fn query(&self, now: Time) -> Result<AuditQuery, Wrong> {
        let op = Op::from(self.op.as_str());
        let is_known = matches!(self.op.as_str(), "" | "write" | "act" | "applied");
        if !is_known && matches!(op, Op::Newer(_)) {
            return Err(Wrong::Op(self.op.clone()));
        }
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Ok(AuditQuery {
            before: self.before,
            newest: true,
            since: span(&self.since, now)?.map(|span| span.from),
            until: span(&self.until, now)?.map(|span| span.to),
            machine: given(&self.machine),
            path: given(&self.path),
            op: given(&self.op).map(|_| op),
            denied: self.denied,
            ..AuditQuery::default()
        })
    }

    /// Tells whether the server finds what is wanted and nothing else.
    const fn is_exact(&self) -> bool {
        self.process.is_empty()
            && self.user.is_empty()
            && self.key.is_empty()
            && self.result.is_empty()
    }

    /// Tells whether a record is wanted that the server has found.
    pub(in crate::page) fn keeps(&self, record: &Record) -> bool {
        let is_process = self.process.is_empty() || who::is_process(record, &self.process);
        let is_user = self.user.is_empty() || who::is_user(record, &self.user);
        is_process && is_user && (self.result.is_empty() || is_result(record, &self.result))
    }

    /// Returns what news are asked for: the next records after one.
    pub(in crate::page) fn news(&self, after: u64, now: Time) -> Option<AuditQuery> {
        let query = self.query(now).ok()?;
        let limit = Some(SHOWN as u64);
        Some(AuditQuery { after, limit, newest: false, wait: true, ..query })
    }
}

/// Tells whether that came of it, as `vault audit log --result` means it.
fn is_result(record: &Record, wanted: &str) -> bool {
    match wanted.to_lowercase().as_str() {
        "refused" => record.fact.is_refusal(),
        word => like(word, &record.fact.result.as_str().to_lowercase()),
    }
}

/// Reads a time as people name it; what a browser's own field gives is UTC.
fn span(text: &str, now: Time) -> Result<Option<Span>, Wrong> {
    if text.is_empty() {
        return Ok(None);
    }
    when::span(text, now).map(Some).ok_or_else(|| Wrong::Time(text.to_owned()))
}

/// Searches from the newest back, in a number of answers that has a bound.
///
/// # Errors
/// If there is no connection, or this machine may not read the audit log.
pub(super) async fn search(
    engine: &Engine,
    filter: &Filter,
    holders: Option<&[Holder]>,
    query: AuditQuery,
) -> Result<Found> {
    let only = match holders {
        Some([]) => return Ok(Found::default()),
        Some([only]) => Some(only.path.to_string()),
        Some(_) | None => None,
    };
    let query = AuditQuery { path: query.path.or(only), ..query };
    let is_held = |record: &Record| {
        holders.is_none_or(|all| all.iter().any(|holder| holder.concerns(&record.fact)))
    };
    let limit = if filter.is_exact() { SHOWN as u64 } else { LOOKED };
    let mut query = AuditQuery { limit: Some(limit), ..query };
    let mut found = Found::default();
    for _ in 0..ANSWERS {
        let page = engine.audit(query.clone()).await?;
        let (more, head) = (page.more, page.head.n);
        found.head = found.head.max(head);
        found.archived = page.archived.as_ref().map(|it| it.last).or(found.archived);
        let mut records = read(page)?;
        found.looked += records.len() as u64;
        let oldest = records.first().map(|record| record.n);
        records.retain(|record| filter.keeps(record) && is_held(record));
        let too_many = (records.len() + found.records.len()).saturating_sub(SHOWN);
        records.drain(..too_many);
        let first = records.first().map(|record| record.n);
        found.records.splice(..0, records);
        // Where the screen is full, the next one goes on behind its last record.
        let next = if too_many > 0 { first.or(oldest) } else { oldest.filter(|_| more) };
        found.older = next.filter(|n| *n > 1);
        if found.older.is_none() || found.records.len() >= SHOWN {
            break;
        }
        query.before = found.older;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use shared::audit::Fact;

    use super::*;

    #[test]
    fn filters_stand_in_a_stable_address() {
        let text = "path=secret%2Fa*&key=A*&op=read&since=24h&denied=1&before=7&machine=&other=x";
        let filter = Filter::read(&Fields::read(text));
        assert_eq!((filter.path.as_str(), filter.before), ("secret/a*", Some(7)));
        let href = filter.href("/audit", 5).to_string();
        assert_eq!(href, "/audit?path=secret/a%2A&key=A%2A&op=read&since=24h&denied=1&before=5");
        let again = Filter::read(&Fields::read(href.split_once('?').unwrap().1));
        assert_eq!(again, Filter { before: Some(5), ..filter });
        assert!(!again.is_open_ended() && !again.is_empty());
        assert!(Filter::read(&Fields::read("before=7")).is_empty());
    }

    #[test]
    fn results_are_found_by_their_words() {
        let record = |result: &str| {
            let fact = Fact { result: result.into(), ..Fact::new(Op::LocalRead) };
            Record { n: 1, nonce: shared::hash::Hash::ZERO, time: Time::default(), fact }
        };
        let keeps = |wanted: &str, result: &str| {
            let filter = Filter { result: wanted.to_owned(), ..Filter::default() };
            filter.keeps(&record(result))
        };
        assert!(
            keeps("", "denied") && keeps("no_reason", "no_reason") && keeps("NO_*", "no_reason")
        );
        assert!(keeps("refused", "denied") && !keeps("refused", "ok") && !keeps("ok", "missing"));
        let text = Filter::read(&Fields::read("result=no_reason")).newest("/audit").to_string();
        assert_eq!(text, "/audit?result=no_reason");
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let now = Time::from_micros(1_000_000_000_000);
        let filter = |text: &str| Filter::read(&Fields::read(text)).query(now);
        assert_eq!(filter("since=mondy"), Err(Wrong::Time("mondy".to_owned())));
        assert_eq!(filter("op=reed"), Err(Wrong::Op("reed".to_owned())));
        assert!(filter("op=write&since=2026-11-01&until=2026-11-30T03:12").is_ok());
        let hour = filter("since=1h").unwrap().since.unwrap();
        assert_eq!(now.apart(hour), 3_600_000_000);
        let yesterday = filter("since=yesterday&until=yesterday").unwrap();
        let times = [yesterday.since, yesterday.until].map(|at| at.unwrap().to_string());
        assert_eq!(times, ["1970-01-11T00:00:00Z", "1970-01-12T00:00:00Z"]);
    }
}
