//! `vault audit summary`: who touched what how often, and what nobody had touched before.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::audit::{Fact, Kind, Record};
use shared::time::Time;

use super::filter::Filter;
use super::narrow;
use super::nothing;
use super::pages::{self, Line};
use super::when::{self, seconds};
use super::words::{Words, did};
use crate::context::Global;
use crate::print::{Format, table};
use host::hint::Exit;
use host::shown::Shown;
use machine::local::AuditQuery;
use machine::who;

/// Rows that are told apart; what comes beyond is counted together by machine.
const ROWS: usize = 50_000;

/// Count accesses by machine, process and secret, and mark those that are new
#[derive(Debug, clap::Args)]
#[command(after_help = "\
READS by `agent` are copies that came to the machine; those by a process are reads of such a copy.
A version that is re-encrypted comes again. Both are reads; the last line counts them apart.

Examples:
  vault audit summary
  vault audit summary --key OPENAI_API_KEY --since 'last week'
  vault audit summary --since monday --machine vps")]
pub struct SummaryArgs {
    /// Count from here on, and mark what was never seen before it: 24h, monday, yesterday, "last
    /// week", 2026-11-01 or an RFC 3339 time
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: String,
    /// Not after; a day, week or month that is named belongs to it
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    filter: Filter,
}

/// What is counted together: machine, process, secret.
type Key = [String; 3];

#[derive(Default)]
struct Counts {
    reads: u64,
    writes: u64,
    acts: u64,
    other: u64,
    denied: u64,
    first: Option<Time>,
    last: Time,
}

/// What all rows come to.
#[derive(Default)]
struct Total {
    copies: u64,
    reads: u64,
    writes: u64,
    changed: u64,
}

pub(super) fn run(global: &Global, args: &SummaryArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let now = global.now();
    let period = when::Period { since: Some(args.since.clone()), until: args.until.clone() };
    let (since, until) = period.read(now)?;
    let since = since.unwrap_or_default();
    let mut all: BTreeMap<Key, Counts> = BTreeMap::new();
    let mut total = Total::default();
    let client = global.client()?;
    let words = Words::new(&client);
    // Whether an access is new is known only to those who have seen everything before it.
    let asked = args.filter.ask(global, &client, (None, until))?;
    let archived = pages::walk(global, &client, &asked, |lines| {
        for Line { record, .. } in &lines {
            let refused = words.is_refusal(record)?;
            if args.filter.denied && !refused {
                continue;
            }
            let mut key = key(words.machine(record)?, record, refused);
            if all.len() >= ROWS && !all.contains_key(&key) {
                (key[1], key[2]) = ("(others)".to_owned(), "-".to_owned());
            }
            all.entry(key).or_default().add(record, refused, since);
            if record.time >= since && !refused {
                total.add(record);
            }
        }
        Ok(())
    })?;
    pages::tell_archived(global, &asked, archived.as_ref());
    all.retain(|_, counts| counts.last >= since);
    if format != Format::Table {
        let values = all.iter().map(|(key, counts)| value(key, counts, since));
        return global.show(format, Default::default, &values.collect::<Vec<_>>());
    }
    let rows = all.iter().filter(|(_, counts)| counts.counts()).map(|(k, c)| cells(k, c, since));
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        let query = AuditQuery { since: Some(since), ..asked.query.clone() };
        nothing::say(global, &client, &asked.with(query))?;
        return Ok(Exit::OK);
    }
    let columns = global.term.out_size().map(|size| size.columns);
    global.term.line(laid_out(rows, columns, now))?;
    global.term.say(total.told());
    Ok(Exit::OK)
}

impl Counts {
    fn add(&mut self, record: &Record, refused: bool, since: Time) {
        self.first.get_or_insert(record.time);
        self.last = self.last.max(record.time);
        if record.time < since {
            return;
        }
        let kind = match record.fact.op.kind() {
            _ if refused => &mut self.denied,
            Kind::Read => &mut self.reads,
            Kind::Write => &mut self.writes,
            Kind::Act => &mut self.acts,
            Kind::Other => &mut self.other,
        };
        *kind = kind.saturating_add(record.fact.count.unwrap_or(1));
    }

    /// Tells whether there is more to see than requests that every machine makes all the time.
    const fn counts(&self) -> bool {
        self.reads + self.writes + self.acts + self.denied > 0
    }

    fn is_new(&self, since: Time) -> bool {
        self.first.is_some_and(|first| first >= since)
    }
}

impl Total {
    fn add(&mut self, record: &Record) {
        let (op, by) = (&record.fact.op, record.fact.count.unwrap_or(1));
        let kind = match (op.kind(), op.is_local()) {
            (Kind::Read, false) => &mut self.copies,
            (Kind::Read, true) => &mut self.reads,
            (Kind::Write, false) => &mut self.changed,
            (Kind::Write, true) => &mut self.writes,
            (Kind::Act | Kind::Other, _) => return,
        };
        *kind = kind.saturating_add(by);
    }

    fn told(&self) -> String {
        let Self { copies, reads, writes, changed } = self;
        let all = copies + reads;
        let mut told = format!(
            "{all} reads: {copies} copies that came to machines, {reads} by processes there"
        );
        if changed + writes > 0 {
            told.push_str(&format!(
                "; {changed} changes, {writes} told by a process that made one"
            ));
        }
        told
    }
}

/// A refusal about no secret tells in place of its path what was asked.
fn key(machine: String, record: &Record, refused: bool) -> Key {
    let fact = &record.fact;
    let path = match &fact.path {
        Some(path) => path.to_string(),
        None if refused => format!("({})", did(&Fact { seq: None, ..fact.clone() })),
        None => "-".to_owned(),
    };
    [machine, who::kind(record), path]
}

const HEADER: [&str; 9] =
    ["MACHINE", "WHO", "READS", "WRITES", "ACTS", "DENIED", "LAST", "NEW", "PATH"];

fn cells([machine, who, path]: &Key, counts: &Counts, since: Time) -> Vec<String> {
    let Counts { reads, writes, acts, denied, last, .. } = counts;
    let number = |n: &u64| if *n == 0 { "-".to_owned() } else { n.to_string() };
    let new = if counts.is_new(since) { "new" } else { "-" };
    let numbers = [reads, writes, acts, denied].map(number);
    let mut cells = vec![machine.clone(), who.clone()];
    cells.extend(numbers);
    cells.extend([seconds(*last), new.to_owned(), path.clone()]);
    cells
}

/// What a path keeps of its end, and who asked of its beginning, however narrow the terminal is.
const LEAST: usize = 12;

/// Lays rows out in so many columns, if they are told: with shorter times, and ends of paths alone.
fn laid_out(mut rows: Vec<Vec<String>>, columns: Option<usize>, now: Time) -> Shown {
    let [who, last, path] = [1, 6, 8];
    let whole = without_empty(&rows);
    let Some(columns) = columns.filter(|columns| table::width(&whole) > *columns) else {
        return whole;
    };
    for cell in rows.iter_mut().flatten() {
        *cell = Shown::from(&*cell).to_string();
    }
    rows.iter_mut().for_each(|row| row[last] = narrow::moment(&row[last], now));
    for (column, cut) in [(path, table::end as fn(&str, usize) -> String), (who, table::start)] {
        let excess = table::width(&without_empty(&rows)).saturating_sub(columns);
        let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let most = widest.saturating_sub(excess).max(LEAST);
        rows.iter_mut().for_each(|row| row[column] = cut(&row[column], most));
    }
    without_empty(&rows)
}

/// Lays rows out without the columns in which nothing stands.
fn without_empty(rows: &[Vec<String>]) -> Shown {
    let is_full = |column: &usize| {
        matches!(HEADER[*column], "MACHINE" | "WHO" | "READS" | "PATH")
            || rows.iter().any(|row| row[*column] != "-")
    };
    let columns: Vec<usize> = (0..HEADER.len()).filter(is_full).collect();
    let header: Vec<&str> = columns.iter().map(|column| HEADER[*column]).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| columns.iter().map(|column| row[*column].clone()).collect())
        .collect();
    table::plain(&header, &rows)
}

fn value([machine, who, path]: &Key, counts: &Counts, since: Time) -> Value {
    json!({
        "machine": machine,
        "who": who,
        "path": path,
        "reads": counts.reads,
        "writes": counts.writes,
        "acts": counts.acts,
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
    fn no_row_wraps_and_a_pipe_has_it_all() {
        let cells = |who: &str, path: &str| {
            ["vps", who, "12", "-", "-", "-", "2026-11-23T20:00:00Z", "new", path]
                .map(str::to_owned)
                .to_vec()
        };
        let rows = vec![
            cells("python3 jonas in ghost.service", "secret/jjeco/api-keys"),
            cells("agent", "secret/mail"),
        ];
        let now = Time::from_micros(1_795_464_000_000_000);
        let whole = laid_out(rows.clone(), None, now);
        assert_eq!(laid_out(rows.clone(), Some(120), now), whole);
        assert!(whole.contains("in ghost.service") && whole.contains("2026-11-23T20:00:00Z"));
        for columns in [64, 70, 80] {
            let shown = laid_out(rows.clone(), Some(columns), now);
            assert!(table::width(&shown) <= columns, "{columns}: {shown}");
            assert!(shown.contains("11-23T20:00Z") && shown.contains("/api-keys"), "{shown}");
        }
    }
}
