//! What the audit log says of what reached a machine, and of which time it says nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use shared::audit::{Op, Outcome, Record};
use shared::path::SecretPath;
use shared::time::Time;

use crate::client::{Client, Error, Refusal};
use host::hint::Failure;
use machine::local::{AUDIT, AuditPage, AuditQuery, Borne};

/// How far the clocks of who signs and of the server may be apart, in microseconds.
pub(super) const SLACK: u64 = 5 * 60 * 1_000_000;
/// Records asked for at once.
const PAGE: u64 = 10_000;

/// What the audit log says of what reached the machine.
#[derive(Default)]
pub(super) struct Reads {
    /// When a version was read last; no version where a record names none.
    last: BTreeMap<SecretPath, BTreeMap<Option<u64>, Time>>,
    /// Why nothing is known.
    pub(super) unknown: Option<String>,
    /// Records before this time are in the server's archive.
    archived: Option<Time>,
    /// The audit log begins at this time, and the machine came before.
    begins: Option<Time>,
}

impl Reads {
    /// Asks for all that a machine has read under its names.
    pub(super) fn of(names: &[Borne], client: &Client) -> Result<Self> {
        let mut reads = Self::default();
        match reads.take_all(names, client) {
            Ok(()) => {}
            Err(Error::Refused(refusal)) => reads.unknown = Some(why(&refusal)),
            Err(fault) => return Err(fault.into()),
        }
        Ok(reads)
    }

    fn take_all(&mut self, names: &[Borne], client: &Client) -> Result<(), Error> {
        names.iter().try_for_each(|borne| self.take(borne, client))?;
        let came = names.first().map(|first| first.since.plus(SLACK));
        if let (None, Some(came)) = (self.archived, came) {
            self.begins = client.audit_begins()?.filter(|begins| *begins > came);
        }
        Ok(())
    }

    /// Returns from when on all is known, if not from the beginning.
    pub(super) fn known_since(&self) -> Option<Time> {
        self.archived.or(self.begins)
    }

    /// Takes up the records of the time in which it bore a name.
    fn take(&mut self, borne: &Borne, client: &Client) -> Result<(), Error> {
        let since = Time::from_micros(borne.since.as_micros().saturating_sub(SLACK));
        let mut query = AuditQuery {
            machine: Some(borne.name.to_string()),
            op: Some(Op::Read),
            since: Some(since),
            until: borne.until.map(|until| until.plus(SLACK)),
            limit: Some(PAGE),
            ..AuditQuery::default()
        };
        loop {
            let page: AuditPage = client.get(AUDIT, &query.parameters())?;
            let mut last = query.after;
            for text in &page.records {
                let malformed = |_| Failure::remote("the server sent a malformed audit record");
                let record = Record::parse(text.as_bytes()).map_err(malformed);
                let record = record.map_err(Error::Answer)?;
                last = record.n;
                self.note(&record);
            }
            if let Some(archived) = page.archived.filter(|archived| archived.until > since) {
                self.archived = Some(archived.until);
            }
            if !page.more || last == query.after {
                return Ok(());
            }
            query.after = last;
        }
    }

    fn note(&mut self, Record { time, fact, .. }: &Record) {
        let Some(path) = fact.path.clone().filter(|_| fact.result == Outcome::Ok) else { return };
        let newest = self.last.entry(path).or_default().entry(fact.ver).or_insert(*time);
        *newest = (*newest).max(*time);
    }

    /// Returns when the machine read one of the versions last, and which.
    pub(super) fn last(&self, path: &SecretPath, versions: &[u64]) -> Option<(Option<u64>, Time)> {
        let of = |(ver, _): &(&Option<u64>, &Time)| ver.is_none_or(|ver| versions.contains(&ver));
        let read = self.last.get(path)?.iter().filter(of);
        read.max_by_key(|(_, time)| **time).map(|(ver, time)| (*ver, *time))
    }

    pub(super) fn shown(&self, path: &SecretPath, versions: &[u64]) -> String {
        match self.last(path, versions) {
            Some((ver, time)) => {
                let time = second(time);
                ver.map_or_else(|| time.to_string(), |ver| format!("v{ver} {time}"))
            }
            None if self.unknown.is_some() => "not known".to_owned(),
            None => self.known_since().map_or_else(
                || "no".to_owned(),
                |since| format!("not known before {}", second(since)),
            ),
        }
    }

    /// Says what the column of reads does not know.
    pub(super) fn notes(&self) -> Vec<String> {
        let unknown =
            self.unknown.iter().map(|why| format!("what it did read is not known: {why}"));
        let archived = self.archived.iter();
        let archived =
            archived.map(|at| format!("what it did read until {at} is in the server's archive"));
        let begins = self.begins.iter();
        let begins = begins.map(|at| {
            format!("what it did read before {at} is not known: the server's audit log begins then")
        });
        unknown.chain(archived).chain(begins).collect()
    }
}

/// Returns the whole second that a time is in.
pub(super) const fn second(time: Time) -> Time {
    Time::from_micros(time.as_secs().saturating_mul(1_000_000))
}

/// Says in one line why the agent gives no records.
fn why(refusal: &Refusal) -> String {
    let said = refusal.errors.as_ref().ok().and_then(|errors| errors.first()?.lines().next());
    said.map_or_else(|| format!("the agent answers {}", refusal.status), str::to_owned)
}
