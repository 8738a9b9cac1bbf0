//! `vault kv diff`: which keys two versions do not share. Values are masked unless asked for.

use serde_json::{Map, Value, json};

use super::read::{self, Kind};
use super::route::Typed;
use super::secret::no_value;
use crate::client::Client;
use crate::context::Global;
use crate::print::{self, Format, go};
use host::hint::{Exit, Failure};
use host::shown::Shown;

/// What stands for a value.
const MASKED: &str = "********";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  vault kv diff secret/app                            the newest against the one before
  vault kv diff -version=3 secret/app                 version 3 against the newest
  vault kv diff -version=3 -version=5 secret/app")]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// Version to compare; given twice: the older first
    #[arg(long, value_name = "N", num_args = 1)]
    version: Vec<u64>,
    /// Show values
    #[arg(long)]
    show: bool,
}

/// What happened to one key.
pub(super) struct Change<'a> {
    pub(super) key: &'a str,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let (from, to) = match args.version.as_slice() {
        [] => (None, 0),
        [one] => (Some(*one), 0),
        [one, two] => (Some(*one), *two),
        _ => return Err(Failure::local("-version can be given twice at most").into()),
    };
    let (to, new) = version(global, &client, &args.place, to)?;
    let from = match from {
        Some(from) => from,
        None => before(&client, &args.place, to)?,
    };
    let (from, old) = version(global, &client, &args.place, from)?;
    let changes = changes(&old, &new);
    if format == Format::Table {
        global.term.print(text(&changes, from, to, args.show))?;
    } else {
        global.term.document(print::data(format, &document(&changes, from, to, args.show))?)?;
    }
    Ok(Exit::OK)
}

/// Reads a version, 0 for the newest; returns its number and content.
fn version(
    global: &Global,
    client: &Client,
    place: &Typed,
    n: u64,
) -> anyhow::Result<(u64, Map<String, Value>)> {
    let (route, secret) = read::shown(global, client, place, Kind::Version(n))?;
    let path = route.api("data");
    let Some(secret) = secret else {
        return Err(if n == 0 {
            no_value(client, &route, &path)
        } else {
            Failure::remote(format!("No version {n} at {path}"))
                .hint(format!("`vault kv history {}` lists them", route.logical()))
        }
        .into());
    };
    let found = secret.version().unwrap_or(n);
    let data = secret.part("data").cloned().ok_or_else(|| {
        Failure::remote(format!("version {found} of {path} was deleted or destroyed"))
    })?;
    Ok((found, data))
}

/// The newest version before `n` that can be read.
fn before(client: &Client, place: &Typed, n: u64) -> anyhow::Result<u64> {
    for earlier in (1..n).rev() {
        let (_, secret) = read::typed(client, place, Kind::Version(earlier), |_| Ok(()))?;
        let Some(secret) = secret else { break };
        if secret.part("data").is_some() {
            return Ok(earlier);
        }
    }
    let path = place.guess().logical();
    Err(Failure::remote(format!("{path} has no readable version before {n}")).into())
}

/// Returns what is not the same, by key.
pub(super) fn changes<'a>(
    old: &'a Map<String, Value>,
    new: &'a Map<String, Value>,
) -> Vec<Change<'a>> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let all = keys.into_iter().map(|key| Change { key, before: old.get(key), after: new.get(key) });
    all.filter(|change| change.before != change.after).collect()
}

fn text(changes: &[Change<'_>], from: u64, to: u64, show: bool) -> Shown {
    let mut lines = vec![format!("--- version {from}"), format!("+++ version {to}")];
    let shown = |value: &Value| if show { go::value(value) } else { MASKED.to_owned() };
    for change in changes {
        let sides = [("-", change.before), ("+", change.after)];
        for (sign, value) in sides.into_iter().filter_map(|(s, v)| v.map(|v| (s, v))) {
            lines.push(format!("{sign} {} = {}", change.key, shown(value)));
        }
    }
    if changes.is_empty() {
        lines.push("no difference".to_owned());
    }
    Shown::lines(lines).ended()
}

fn document(changes: &[Change<'_>], from: u64, to: u64, show: bool) -> Value {
    let rows = changes.iter().map(|change| {
        let what = match (change.before, change.after) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(_), Some(_)) => "changed",
        };
        let mut row = json!({ "key": change.key, "change": what });
        if show {
            row["before"] = change.before.cloned().unwrap_or_default();
            row["after"] = change.after.cloned().unwrap_or_default();
        }
        row
    });
    json!({ "from": from, "to": to, "changes": rows.collect::<Vec<_>>() })
}
