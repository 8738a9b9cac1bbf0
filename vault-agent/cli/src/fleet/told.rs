//! What the audit log says of one secret: which files got which version, who read it, and which
//! process wrote it. Machines tell most of that of themselves; nothing is believed more than that.

use std::collections::BTreeMap;

use shared::audit::{Fact, HookRun, Kind, Op, Outcome, Record};
use shared::time::Time;

use super::audit::pages;
use crate::client::{Client, Error, Refusal};
use machine::local::AuditQuery;
use machine::who;

/// How far the clocks of who signs, of hosts and of the server may be apart, in microseconds.
pub const SLACK: u64 = 5 * 60 * 1_000_000;
/// Records asked for at once.
const PAGE: u64 = 10_000;
/// Pages that are looked through, the newest first: each counts as the machine's share.
const PAGES: usize = 20;
/// What is told apart; what comes beyond is counted together by machine.
const MOST: usize = 20_000;
/// Where it is counted then.
const OTHERS: &str = "(others)";

/// What is known of one secret.
#[derive(Default)]
pub struct Told {
    /// The newest news of each file: by machine and file.
    pub files: BTreeMap<(String, String), BTreeMap<Option<u64>, Applied>>,
    /// Reads by processes.
    pub reads: BTreeMap<Reader, Reads>,
    /// Copies that came to machines.
    pub copies: BTreeMap<(String, Option<u64>), Reads>,
    /// Which process wrote a version, and on which machine.
    pub writers: BTreeMap<u64, (String, String)>,
    /// Why nothing is known, if nothing is.
    pub unknown: Option<String>,
    /// Records before this time are in the server's archive, or gone.
    archived: Option<Time>,
    /// Records before this time were not looked through: there are too many.
    begins: Option<Time>,
    /// The audit log begins at this time, later than what is asked about.
    lost: Option<Time>,
}

/// A file that got a version, or lost all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// When, by the machine's clock, unless that cannot be: then when it told.
    pub at: Time,
    /// Whether it was there already when the machine looked.
    pub found: bool,
    pub hook: Option<HookRun>,
    /// Position of the record.
    pub n: u64,
}

/// A process that has read a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reader {
    pub machine: String,
    /// Program, user, and unit or container, without what differs from one time to the next.
    pub who: String,
    pub ver: Option<u64>,
    /// The unit or container that it ran in.
    pub place: Option<who::Place>,
}

/// How often, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub count: u64,
    pub first: Time,
    pub last: Time,
}

impl Told {
    /// Asks for the records of a secret from some time on.
    pub fn of(client: &Client, path: &str, since: Time) -> Result<Self, Error> {
        let mut told = Self::default();
        match told.take(client, path, since) {
            Ok(()) => {}
            Err(Error::Refused(refusal)) => told.unknown = Some(why(&refusal)),
            Err(fault) => return Err(fault),
        }
        Ok(told)
    }

    fn take(&mut self, client: &Client, path: &str, written: Time) -> Result<(), Error> {
        let since = Time::from_micros(written.as_micros().saturating_sub(SLACK));
        let mut query = AuditQuery {
            // Taken for a pattern: what a `*` in it finds beside the secret is passed over.
            path: Some(path.to_owned()),
            since: Some(since),
            limit: Some(PAGE),
            newest: true,
            ..AuditQuery::default()
        };
        for _ in 0..PAGES {
            let mut page = pages::page(client, &query)?;
            let lines = pages::lines(&mut page).map_err(Error::Answer)?;
            let is_it = |fact: &Fact| fact.path.as_ref().is_some_and(|it| it.as_str() == path);
            for line in lines.iter().filter(|line| is_it(&line.record.fact)) {
                self.note(&line.record, since);
            }
            if let Some(archived) = page.archived.filter(|archived| archived.until > since) {
                self.archived = Some(archived.until);
            }
            match lines.first().map(|line| &line.record) {
                Some(oldest) if page.more && query.before.is_none_or(|n| oldest.n < n) => {
                    (query.before, self.begins) = (Some(oldest.n), Some(oldest.time));
                }
                Some(_) | None => {
                    self.begins = None;
                    break;
                }
            }
        }
        if self.archived.is_none() && self.begins.is_none() {
            self.lost = client.audit_begins()?.filter(|first| *first > written.plus(SLACK));
        }
        Ok(())
    }

    fn note(&mut self, record: &Record, since: Time) {
        let fact = &record.fact;
        let Some(machine) = fact.machine.as_ref().map(ToString::to_string) else { return };
        if fact.result != Outcome::Ok {
            return;
        }
        match (&fact.op, fact.ver) {
            (Op::LocalApplied, ver) => self.note_applied(record, machine, ver, since),
            (Op::LocalPut | Op::LocalPatch, Some(ver)) => {
                self.writers.insert(ver, (machine, who::shown(record)));
            }
            (op, ver) if op.kind() == Kind::Read && op.is_local() => {
                let (who, place) = (who::kind(record), who::place(record));
                let mut reader = Reader { machine, who, ver, place };
                if self.reads.len() >= MOST && !self.reads.contains_key(&reader) {
                    (reader.who, reader.place) = (OTHERS.to_owned(), None);
                }
                self.reads.entry(reader).or_default().add(record);
            }
            (op, ver) if op.kind() == Kind::Read => {
                self.copies.entry((machine, ver)).or_default().add(record);
            }
            (_, _) => {}
        }
    }

    fn note_applied(&mut self, record: &Record, machine: String, ver: Option<u64>, since: Time) {
        let Some(applied) = &record.fact.applied else { return };
        let mut file = (machine, applied.file.to_string());
        if self.files.len() >= MOST && !self.files.contains_key(&file) {
            file.1 = OTHERS.to_owned();
        }
        let at = record.fact.at.filter(|at| *at >= since && *at <= record.time.plus(SLACK));
        let news = Applied {
            at: at.unwrap_or(record.time),
            found: applied.found,
            hook: applied.hook.clone(),
            n: record.n,
        };
        let newest = self.files.entry(file).or_default().entry(ver).or_insert_with(|| news.clone());
        if newest.n < news.n {
            *newest = news;
        }
    }

    /// Says what is not known, for people.
    pub fn notes(&self, what: &str) -> Vec<String> {
        let unknown = self.unknown.iter().map(|why| format!("{what} is not known: {why}"));
        let archived = self.archived.iter();
        let archived = archived.map(|at| format!("{what} until {at} is in the server's archive"));
        let begins = self.begins.iter();
        let begins = begins.map(|at| format!("{what} before {at} was not looked through"));
        let lost = self.lost.iter().map(|at| {
            format!("{what} before {at} is not known: the server's audit log begins then")
        });
        unknown.chain(archived).chain(begins).chain(lost).collect()
    }

    /// Returns from when on all is known, if not from the beginning.
    pub fn known_since(&self) -> Option<Time> {
        self.archived.max(self.begins).max(self.lost)
    }
}

impl Reads {
    fn add(&mut self, Record { time, fact, .. }: &Record) {
        self.first = if self.count == 0 { *time } else { self.first.min(*time) };
        self.count = self.count.saturating_add(fact.count.unwrap_or(1));
        self.last = self.last.max(*time);
    }

    /// Returns both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.count, other.count) {
            (0, _) => other,
            (_, 0) => self,
            (one, more) => Self {
                count: one.saturating_add(more),
                first: self.first.min(other.first),
                last: self.last.max(other.last),
            },
        }
    }
}

/// Says in one line why the agent gives no records.
fn why(refusal: &Refusal) -> String {
    let said = refusal.errors.as_ref().ok().and_then(|errors| errors.first()?.lines().next());
    said.map_or_else(|| format!("the agent answers {}", refusal.status), str::to_owned)
}
