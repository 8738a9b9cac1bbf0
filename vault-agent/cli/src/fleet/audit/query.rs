//! Which audit records are asked for, and by whom they are: the filters that `log`, `tail`,
//! `summary` and `export` share, and the pages that answer them. How records are shown lives with
//! each command.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use shared::audit::{Op, Record};
use shared::duration;
use shared::time::Time;

use crate::client::{Client, Error};
use crate::context::Global;
use host::hint::Failure;
use machine::local::{self, Archived, AuditPage, AuditQuery, MACHINES, MachineRow, Machines};

/// Records in a page, and the most that a server returns as its newest.
const PAGE: u64 = 1_000;
const NEWEST: u64 = 10_000;

/// Filters of records; all must hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// By this machine
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// About this secret; `*` stands for any text
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// This operation: read, put, …
    #[arg(long, value_name = "OP")]
    op: Option<String>,
    /// Refusals only
    #[arg(long)]
    denied: bool,
}

impl Filter {
    /// Returns the query of all records that match, from `since` on.
    pub fn query(&self, since: Option<Time>) -> AuditQuery {
        AuditQuery {
            since,
            machine: self.machine.clone(),
            path: self.path.clone(),
            op: self.op.as_deref().map(Op::from),
            denied: self.denied,
            ..AuditQuery::default()
        }
    }
}

/// Asks for one page.
pub fn page(client: &Client, query: &AuditQuery) -> Result<AuditPage, Error> {
    client.get(local::AUDIT, &query.parameters())
}

/// Hands page after page to `take`, the oldest records first; returns what the server has archived.
pub fn walk(
    client: &Client,
    mut query: AuditQuery,
    mut take: impl FnMut(Vec<String>) -> anyhow::Result<()>,
) -> anyhow::Result<Option<Archived>> {
    query.limit = Some(PAGE);
    loop {
        let page = page(client, &query)?;
        let last = page.records.last().map(|text| parse(text)).transpose()?;
        take(page.records)?;
        match last {
            Some(last) if page.more && last.n > query.after => query.after = last.n,
            Some(_) | None => return Ok(page.archived),
        }
    }
}

/// Returns the newest `count` records, or all of them, and what the server has archived.
pub fn fetch(
    client: &Client,
    mut query: AuditQuery,
    count: Option<u64>,
) -> anyhow::Result<(Vec<String>, Option<Archived>)> {
    if let Some(count) = count.filter(|count| *count <= NEWEST) {
        query.newest = true;
        query.limit = Some(count);
        let page = page(client, &query)?;
        return Ok((page.records, page.archived));
    }
    let most = count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let mut records = Vec::new();
    let archived = walk(client, query, |page| {
        records.extend(page);
        let old = records.len().saturating_sub(most);
        records.drain(..old);
        Ok(())
    })?;
    Ok((records, archived))
}

/// Says which records are not shown although they were asked for, because the server has archived
/// them, and where they are.
pub fn tell_archived(global: &Global, since: Option<Time>, archived: Option<&Archived>) {
    let Some(Archived { last, until, gone, folder }) = archived else { return };
    if since.is_some_and(|since| since > *until) {
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

/// Names who asked: the machine that a record names, or whose the key is that it names instead.
pub struct Askers<'a> {
    client: &'a Client,
    /// By key; asked for when the first record names one.
    machines: OnceCell<BTreeMap<String, String>>,
}

impl<'a> Askers<'a> {
    pub fn new(client: &'a Client) -> Self {
        Self { client, machines: OnceCell::new() }
    }

    /// Returns who asked, `-` if that is not known: a machine's name, `NAME (removed)`, or the
    /// start of a key that never was a machine's.
    pub fn name(&self, record: &Record) -> Result<String, Error> {
        Ok(match (&record.fact.machine, &record.fact.key) {
            (Some(machine), _) => machine.to_string(),
            (None, Some(key)) => match self.machines()?.get(key.as_str()) {
                Some(name) => name.clone(),
                None => format!("key {}", key.as_str().chars().take(8).collect::<String>()),
            },
            (None, None) => "-".to_owned(),
        })
    }

    fn machines(&self) -> Result<&BTreeMap<String, String>, Error> {
        if let Some(known) = self.machines.get() {
            return Ok(known);
        }
        let all: Machines = self.client.get(MACHINES, &[])?;
        let named = |row: MachineRow| {
            let removed = if row.active { "" } else { " (removed)" };
            (row.sign.to_string(), format!("{}{removed}", row.name))
        };
        Ok(self.machines.get_or_init(|| all.machines.into_iter().map(named).collect()))
    }
}

/// Reads a record.
pub fn parse(text: &str) -> Result<Record, Failure> {
    Record::parse(text.as_bytes())
        .map_err(|_| Failure::remote("the server sent an audit record of another shape"))
}

/// Reads a point in time: how long ago, a day, or RFC 3339.
pub fn since(text: &str, now: Time) -> Result<Time, Failure> {
    if let Some(micros) = duration::parse(text).and_then(|n| u64::try_from(n).ok()) {
        return Ok(Time::from_micros(now.as_micros().saturating_sub(micros)));
    }
    text.parse().map_err(|_| {
        Failure::local(format!("--since `{text}` is neither a duration nor a time"))
            .hint("use 24h, 7d, 2026-11-01 or 2026-11-01T08:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::hint::Exit;

    #[test]
    fn since_takes_durations_and_times() {
        let now = Time::from_micros(1_798_761_600_000_000);
        for (text, expected) in [
            ("24h", "2026-12-31T00:00:00Z"),
            ("7d", "2026-12-25T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T08:00:00+01:00", "2026-11-01T07:00:00Z"),
        ] {
            assert_eq!(since(text, now).unwrap().to_string(), expected);
        }
        for text in ["", "yesterday", "-1h", "24"] {
            assert_eq!(since(text, now).unwrap_err().exit, Exit::LOCAL, "{text}");
        }
    }
}
