//! `vault audit summary`: who touched what how often, and what nobody had touched before.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::audit::{Op, Record};
use shared::time::Time;

use super::query::{self, Askers, Filter};
use crate::context::Global;
use crate::print::{Format, table};
use host::hint::Exit;

/// Count accesses by machine, process and secret, and mark those that are new
#[derive(Debug, clap::Args)]
pub struct SummaryArgs {
    /// Count from here on, and mark what was never seen before it: 24h, 7d, 2026-11-01 or an RFC
    /// 3339 time
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: String,
    #[command(flatten)]
    filter: Filter,
}

/// What is counted together: machine, process, secret.
type Key = [String; 3];

#[derive(Default)]
struct Counts {
    reads: u64,
    writes: u64,
    other: u64,
    denied: u64,
    first: Option<Time>,
    last: Time,
}

pub(super) fn run(global: &Global, args: &SummaryArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let since = query::since(&args.since, global.now())?;
    let mut all: BTreeMap<Key, Counts> = BTreeMap::new();
    // Whether an access is new is known only to those who have seen everything before it.
    let client = global.client()?;
    let askers = Askers::new(&client);
    let archived = query::walk(&client, args.filter.query(None), |records| {
        for text in records {
            let record = query::parse(&text)?;
            all.entry(key(askers.name(&record)?, &record)).or_default().add(&record, since);
        }
        Ok(())
    })?;
    query::tell_archived(global, None, archived.as_ref());
    all.retain(|_, counts| counts.last >= since);
    if format == Format::Table && all.is_empty() {
        global.term.say("no record matches");
        return Ok(Exit::OK);
    }
    let header = ["MACHINE", "WHO", "PATH", "READS", "WRITES", "OTHER", "DENIED", "LAST", "NEW"];
    let cells = |(key, counts)| cells(key, counts, since);
    let table = || table::plain(&header, &all.iter().map(cells).collect::<Vec<_>>());
    let values = all.iter().map(|(key, counts)| value(key, counts, since));
    global.show(format, table, &values.collect::<Vec<_>>())
}

impl Counts {
    fn add(&mut self, record: &Record, since: Time) {
        self.first.get_or_insert(record.time);
        self.last = self.last.max(record.time);
        if record.time < since {
            return;
        }
        let kind = match record.fact.op {
            _ if record.fact.result.is_refusal() => &mut self.denied,
            Op::Read | Op::Deliver | Op::LocalRead => &mut self.reads,
            Op::Put | Op::Delete | Op::Undelete | Op::Destroy | Op::MetaSet | Op::Forget => {
                &mut self.writes
            }
            Op::LocalPut
            | Op::LocalPatch
            | Op::LocalDelete
            | Op::LocalUndelete
            | Op::LocalDestroy
            | Op::LocalForget => &mut self.writes,
            _ => &mut self.other,
        };
        *kind = kind.saturating_add(record.fact.count.unwrap_or(1));
    }

    fn is_new(&self, since: Time) -> bool {
        self.first.is_some_and(|first| first >= since)
    }
}

fn key(asker: String, record: &Record) -> Key {
    let dash = || "-".to_owned();
    let who = record.fact.who.as_ref().map_or_else(dash, |who| without_pid(who.as_str()));
    let path = record.fact.path.as_ref().map_or_else(dash, ToString::to_string);
    [asker, who, path]
}

/// Takes the number out of `python3[812] uid 1000`: the same program counts as the same.
fn without_pid(who: &str) -> String {
    if let Some((name, rest)) = who.rsplit_once('[')
        && let Some((pid, rest)) = rest.split_once(']')
        && pid.bytes().all(|digit| digit.is_ascii_digit())
    {
        return format!("{name}{rest}");
    }
    who.to_owned()
}

fn cells(key: &Key, counts: &Counts, since: Time) -> Vec<String> {
    let Counts { reads, writes, other, denied, last, .. } = counts;
    let mut cells = key.to_vec();
    cells.extend([reads, writes, other, denied].map(ToString::to_string));
    cells.push(Time::from_micros(last.as_secs().saturating_mul(1_000_000)).to_string());
    cells.push(if counts.is_new(since) { "new" } else { "-" }.to_owned());
    cells
}

fn value([machine, who, path]: &Key, counts: &Counts, since: Time) -> Value {
    json!({
        "machine": machine,
        "who": who,
        "path": path,
        "reads": counts.reads,
        "writes": counts.writes,
        "other": counts.other,
        "denied": counts.denied,
        "first": counts.first.map(|time| time.to_string()),
        "last": counts.last.to_string(),
        "new": counts.is_new(since),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_the_same_under_another_number() {
        for (who, expected) in [
            ("python3[812] uid 1000", "python3 uid 1000"),
            ("a[b] uid 0", "a[b] uid 0"),
            ("x[1][22] uid 0", "x[1] uid 0"),
            ("admin:me", "admin:me"),
        ] {
            assert_eq!(without_pid(who), expected);
        }
    }
}
