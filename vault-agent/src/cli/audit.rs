//! `vault audit`: who read and wrote what, and the proof that the records are whole.

use serde_json::Value;
use shared::audit::Record;
use shared::time::Time;

use super::client::Client;
use super::{Global, duration};
use crate::api::types::{self, AuditPage, AuditQuery, VerifyResult};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, table};

/// Records shown when neither a number nor a time is asked for.
const DEFAULT_COUNT: u64 = 50;
const PAGE: u64 = 1_000;

/// Review and verify the audit log
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print records, the oldest first
    Log(LogArgs),
    /// Check every record against the chain and the machines' signed heads
    Verify(VerifyArgs),
}

/// Print records, the oldest first
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// Not before: 24h, 7d, 2026-11-01 or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
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
    /// The newest N only [default: 50 without --since]
    #[arg(short = 'n', long = "count", value_name = "N")]
    count: Option<u64>,
}

/// Check every record against the chain and the machines' signed heads
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {}

pub(super) fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Log(args) => log(global, args),
        Command::Verify(_) => verify(global),
    }
}

fn log(global: &Global, args: &LogArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let since = args.since.as_deref().map(|text| since(text, global.now())).transpose()?;
    let query = AuditQuery {
        since,
        machine: args.machine.clone(),
        path: args.path.clone(),
        op: args.op.clone(),
        denied: args.denied,
        ..AuditQuery::default()
    };
    let count = args.count.or(args.since.is_none().then_some(DEFAULT_COUNT));
    let records = fetch(&global.client()?, query, count)?;
    if format == Format::Table {
        print(global, &records)?;
    } else {
        let values: Result<Vec<Value>, _> =
            records.iter().map(|text| serde_json::from_str(text)).collect();
        let values = values
            .map_err(|_| Failure::remote("the server sent an audit record that is not JSON"))?;
        global.term.line(output::data(format, &values.into())?)?;
    }
    Ok(Exit::OK)
}

/// Reads the newest `count`, or page after page from the beginning.
fn fetch(
    client: &Client,
    mut query: AuditQuery,
    count: Option<u64>,
) -> anyhow::Result<Vec<String>> {
    if let Some(count) = count {
        query.newest = true;
        query.limit = Some(count);
        let page: AuditPage = client.get(types::AUDIT, &parameters(&query))?;
        return Ok(page.records);
    }
    query.limit = Some(PAGE);
    let mut records = Vec::new();
    loop {
        let page: AuditPage = client.get(types::AUDIT, &parameters(&query))?;
        let last = page.records.last().and_then(|text| serde_json::from_str::<Record>(text).ok());
        records.extend(page.records);
        match last {
            Some(last) if page.more && last.n > query.after => query.after = last.n,
            Some(_) | None => return Ok(records),
        }
    }
}

fn parameters(query: &AuditQuery) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut add = |name, value: Option<String>| all.extend(value.map(|value| (name, value)));
    add("after", (query.after > 0).then(|| query.after.to_string()));
    add("limit", query.limit.map(|n| n.to_string()));
    add("newest", query.newest.then(|| true.to_string()));
    add("since", query.since.map(|time| time.as_micros().to_string()));
    add("machine", query.machine.clone());
    add("path", query.path.clone());
    add("op", query.op.clone());
    add("denied", query.denied.then(|| true.to_string()));
    all
}

fn print(global: &Global, records: &[String]) -> anyhow::Result<()> {
    if records.is_empty() {
        global.term.say("no record matches");
        return Ok(());
    }
    let mut rows = Vec::with_capacity(records.len());
    for text in records {
        let record: Record = serde_json::from_str(text)
            .map_err(|_| Failure::remote("the server sent an audit record of another shape"))?;
        rows.push(cells(&record));
    }
    global
        .term
        .line(table::plain(&["TIME", "MACHINE", "OP", "PATH", "VER", "RESULT", "WHO"], &rows))?;
    Ok(())
}

fn cells(record: &Record) -> Vec<String> {
    let dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), visible);
    let whole_seconds = Time::from_micros(record.time.as_secs().saturating_mul(1_000_000));
    let stranger =
        record.key.as_ref().map(|key| format!("key {}", key.chars().take(8).collect::<String>()));
    let op = match record.count {
        Some(count) if count > 1 => format!("{} ×{count}", visible(&record.op)),
        Some(_) | None => visible(&record.op),
    };
    let version = record.ver.filter(|&n| n > 0).map(|n| format!("v{n}"));
    vec![
        whole_seconds.to_string(),
        dash(record.machine.as_deref().or(stranger.as_deref())),
        op,
        dash(record.path.as_deref()),
        dash(version.as_deref()),
        visible(&record.result),
        dash(record.who.as_deref().or(record.addr.as_deref())),
    ]
}

/// What others wrote must not steer the terminal.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

fn since(text: &str, now: Time) -> Result<Time, Failure> {
    if let Some(micros) = duration::parse(text).and_then(|n| u64::try_from(n).ok()) {
        return Ok(Time::from_micros(now.as_micros().saturating_sub(micros)));
    }
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| Some(day()?.timestamp()));
    moment
        .and_then(|moment| u64::try_from(moment.as_microsecond()).ok())
        .map(Time::from_micros)
        .ok_or_else(|| {
            Failure::local(format!("--since `{text}` is neither a duration nor a time"))
                .hint("use 24h, 7d, 2026-11-01 or 2026-11-01T08:00:00Z")
        })
}

fn verify(global: &Global) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let result: VerifyResult = global.client()?.get(types::AUDIT_VERIFY, &[])?;
    if format != Format::Table {
        let value = serde_json::to_value(&result)?;
        global.term.line(output::data(format, &value)?)?;
    }
    let VerifyResult { checked, head, anchors, bad } = result;
    if let Some(bad) = bad {
        return Err(Failure::remote(format!("audit record {}: {}", bad.n, visible(&bad.reason)))
            .hint(format!(
                "the {checked} records before it are whole; treat the server as taken over"
            ))
            .into());
    }
    if format == Format::Table {
        global.term.line(format!(
            "{checked} audit records are whole; {anchors} signed heads agree; head {}",
            head.hash
        ))?;
    }
    Ok(Exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

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
