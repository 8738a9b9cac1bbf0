//! `vault audit log` and `tail`: records as lines, once or for as long as one looks.

use std::time::Duration;

use serde_json::Value;
use shared::audit::Record;
use shared::time::Time;

use super::query::{self, Askers, Filter};
use crate::client::Error;
use crate::context::Global;
use crate::print::{self, Format, table};
use host::hint::{Exit, Failure};

/// Records shown when neither a number nor a time is asked for.
const LOG: u64 = 50;
/// Pause before a server that is away is asked again.
const AWAY: Duration = Duration::from_secs(2);
const HEADER: [&str; 7] = ["TIME", "MACHINE", "OP", "PATH", "VER", "RESULT", "WHO"];

/// Print records, the oldest first
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// Not before: 24h, 7d, 2026-11-01 or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// The newest N only [default: 50 without --since]
    #[arg(short = 'n', long = "count", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Print the newest records, and with -f new ones as they come
#[derive(Debug, clap::Args)]
pub struct TailArgs {
    #[command(flatten)]
    filter: Filter,
    /// Start with the newest N
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(0..=10_000))]
    count: u64,
    /// Go on until Ctrl-C; what this command itself reads is left out
    #[arg(short = 'f', long)]
    follow: bool,
}

pub(super) fn log(global: &Global, args: &LogArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let since = args.since.as_deref().map(|text| query::since(text, global.now())).transpose()?;
    let count = args.count.or(args.since.is_none().then_some(LOG));
    let client = global.client()?;
    let (records, archived) = query::fetch(&client, args.filter.query(since), count)?;
    if count.is_none_or(|count| (records.len() as u64) < count) {
        query::tell_archived(global, since, archived.as_ref());
    }
    if format != Format::Table {
        let values = records.iter().map(|text| serde_json::from_str(text));
        let values = values.collect::<Result<Vec<Value>, _>>();
        let values = values
            .map_err(|_| Failure::remote("the server sent an audit record that is not JSON"))?;
        global.term.document(print::data(format, &values.into())?)?;
    } else if records.is_empty() {
        global.term.say("no record matches");
    } else {
        global.term.line(table::plain(&HEADER, &rows(&records, &Askers::new(&client))?))?;
    }
    Ok(Exit::OK)
}

pub(super) fn tail(global: &Global, args: &TailArgs) -> anyhow::Result<Exit> {
    let mut lines = match global.format()? {
        Format::Table => Some(table::Growing::new(&HEADER)),
        Format::Json => None,
        Format::Yaml | Format::Pretty | Format::Raw | Format::Env => {
            return Err(Failure::local("`tail` prints table or json").into());
        }
    };
    let client = global.client()?;
    let mut show = |records: &[String]| -> anyhow::Result<()> {
        match &mut lines {
            Some(lines) => {
                let rows = lines.rows(rows(records, &Askers::new(&client))?);
                rows.map_or(Ok(()), |rows| global.term.line(rows))?;
            }
            None if records.is_empty() => {}
            None => global.term.document(records.join("\n"))?,
        }
        Ok(())
    };
    let mut query = args.filter.query(None);
    (query.newest, query.limit) = (true, Some(args.count.max(1)));
    let first = query::page(&client, &query)?;
    if args.count > 0 {
        show(&first.records)?;
    }
    (query.newest, query.limit, query.wait) = (false, None, true);
    query.after = first.head.n;
    if !args.follow {
        return Ok(Exit::OK);
    }
    let mut away = false;
    loop {
        match query::page(&client, &query) {
            Ok(page) => {
                away = false;
                show(&page.records)?;
                let last = page.records.last().map(|text| query::parse(text)).transpose()?;
                query.after = match last {
                    Some(last) if page.more => last.n,
                    Some(_) | None => page.head.n,
                };
            }
            // The server or the agent restarts: what was missed is read afterwards.
            Err(Error::Refused(refusal)) if matches!(refusal.status, 502 | 503) => {
                if !std::mem::replace(&mut away, true) {
                    global.term.say("the server cannot be asked; trying again");
                }
                #[expect(
                    clippy::disallowed_methods,
                    reason = "nobody tells that a server is back"
                )]
                std::thread::sleep(AWAY);
            }
            Err(fault) => return Err(fault.into()),
        }
    }
}

fn rows(records: &[String], askers: &Askers<'_>) -> anyhow::Result<Vec<Vec<String>>> {
    let row = |text: &String| {
        let record = query::parse(text)?;
        Ok(cells(&record, askers.name(&record)?))
    };
    records.iter().map(row).collect()
}

fn cells(Record { time, fact, .. }: &Record, asker: String) -> Vec<String> {
    let dash = || "-".to_owned();
    let whole_seconds = Time::from_micros(time.as_secs().saturating_mul(1_000_000));
    let op = match fact.count {
        Some(count) if count > 1 => format!("{} ×{count}", fact.op),
        Some(_) | None => fact.op.to_string(),
    };
    let who = fact.who.as_ref().map(ToString::to_string);
    vec![
        whole_seconds.to_string(),
        asker,
        op,
        fact.path.as_ref().map_or_else(dash, ToString::to_string),
        fact.ver.filter(|&n| n > 0).map_or_else(dash, |n| format!("v{n}")),
        fact.result.to_string(),
        who.or_else(|| fact.addr.as_ref().map(ToString::to_string)).unwrap_or_else(dash),
    ]
}
