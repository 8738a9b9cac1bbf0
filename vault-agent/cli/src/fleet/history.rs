//! `vault kv history`: a secret's versions with what changed in each, which hosts have it since
//! when, and who read it. On this machine's agent alone; of another Vault's secrets the versions.

mod rows;
mod show;

use crate::context::Global;
use crate::kv::history::{Args, History};
use crate::print::Format;
use host::hint::{Exit, Failure};
use rows::{Known, Row, row};

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let history = History::read(global, &client, &args.place)?;
    let known = Known::of(&client, &history)?;
    if known.is_none() && (args.key.is_some() || args.hosts || args.version.is_some()) {
        let why = "only this machine's agent tells what changed, who has a version and who read it";
        return Err(Failure::local(why).hint("without these flags the versions are listed").into());
    }
    let rows: Vec<Row<'_>> =
        history.versions.iter().map(|version| row(version, &history, known.as_ref())).collect();
    let rows = match &args.key {
        Some(key) => of_key(global, &history, rows, key)?,
        None => rows,
    };
    let rows = match args.version {
        Some(n) => vec![only(rows, n, &history)?],
        None => rows,
    };
    if format == Format::Table {
        let shown = match (args.version, rows.first()) {
            (Some(_), Some(row)) => show::whole(&history, row),
            _ if args.hosts => show::hosts(&rows),
            _ => show::table(&history, &rows, known.is_some()),
        };
        global.term.line(shown)?;
    } else {
        let documents = rows.iter().map(|row| show::document(&history, row, known.as_ref()));
        let list = serde_json::Value::Array(documents.collect());
        global.show(format, Default::default, &list)?;
    }
    for note in known.iter().flat_map(|known| known.told.notes("who has and who read it")) {
        global.term.say(note);
    }
    Ok(Exit::OK)
}

/// Keeps the versions in which the value of a key changed, and says of which that is not known.
fn of_key<'a>(
    global: &Global,
    history: &History,
    rows: Vec<Row<'a>>,
    key: &str,
) -> Result<Vec<Row<'a>>, Failure> {
    let (unknown, known): (Vec<Row<'_>>, Vec<Row<'_>>) =
        rows.into_iter().partition(|row| row.changed().is_none());
    let has = |names: &[String]| names.iter().any(|name| name == key);
    let changed = |row: &Row<'_>| {
        row.changed().is_some_and(|it| has(&it.added) || has(&it.changed) || has(&it.removed))
    };
    let kept: Vec<Row<'_>> = known.into_iter().filter(changed).collect();
    if !unknown.is_empty() {
        let named: Vec<String> = unknown.iter().map(|row| format!("v{}", row.version.n)).collect();
        global.term.say(format!("whether {key} changed in {} is not known here", named.join(", ")));
    }
    if kept.is_empty() {
        let path = history.route.logical();
        let text = format!("in no version of {path} that opens here a key `{key}` changed");
        return Err(Failure::remote(text).hint("`vault kv find -keys NAME` looks for keys"));
    }
    Ok(kept)
}

/// Returns the row of one version.
fn only<'a>(rows: Vec<Row<'a>>, n: u64, history: &History) -> Result<Row<'a>, Failure> {
    let found = rows.into_iter().find(|row| row.version.n == n);
    found.ok_or_else(|| {
        let path = history.route.logical();
        Failure::remote(format!("No version {n} at {path}"))
            .hint(format!("`vault kv history {path}` lists them"))
    })
}
