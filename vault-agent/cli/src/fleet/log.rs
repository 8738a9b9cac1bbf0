//! `vault log`: entries of the signed log in words. What was read lives in `vault audit`.

use serde_json::{Value, json};

use crate::client::Client;
use crate::context::Global;
use crate::owner::compact;
use crate::print::{Format, table};
use host::hint::{Exit, Failure};
use host::shown::Shown;
use machine::local::{ENTRIES, Entries, EntriesQuery, EntryTold, LOG, OpTold};
use shared::time::Time;

/// Operations of an entry that a list names.
const NAMED: usize = 3;

/// Print entries of the signed log in words: what was written and done, and who signed it
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Each change of the vault is one signed entry. This machine has verified all that it shows.

Examples:
  vault log
  vault log -n 100
  vault log show 12
  vault log compact"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The newest N
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Compact(compact::Args),
    /// Print one entry: what it did, who signed it, and what it re-encrypted
    Show {
        /// Its number, as `vault log` and the seq of an audit record say it; 0 is the genesis
        #[arg(value_name = "N", value_parser = number)]
        entry: u64,
    },
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected the number of an entry, as `vault log` shows it".to_owned())
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        None => list(global, args.count),
        Some(Command::Show { entry }) => show(global, *entry),
        Some(Command::Compact(args)) => compact::run(global, args),
    }
}

fn list(global: &Global, count: u64) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let Entries { last, begins, .. } =
        ask(&client, &EntriesQuery { limit: Some(1), ..EntriesQuery::default() })?;
    let wanted = (last + 1).saturating_sub(count);
    let mut next = begins.map_or(wanted, |begins| wanted.max(begins + 1));
    if let Some(begins) = begins.filter(|begins| wanted <= *begins) {
        global.term.say(format!("{}: nothing is told of them", before(begins)));
    }
    let mut lines = table::Growing::new(&["ENTRY", "TIME", "BY", "WHAT"]);
    let mut values = Vec::new();
    while next <= last {
        let (limit, before) = (ENTRIES.min(last + 1 - next), next + ENTRIES.min(last + 1 - next));
        let (limit, before) = (Some(limit), Some(before));
        let told = ask(&client, &EntriesQuery { limit, before, ..EntriesQuery::default() })?;
        next = before.unwrap_or(next);
        if format != Format::Table {
            values.extend(told.entries.iter().map(document));
            continue;
        }
        if let Some(rows) = lines.rows(told.entries.iter().map(cells).collect()) {
            global.term.line(rows)?;
        }
    }
    if format != Format::Table {
        return global.show(format, Shown::default, &values);
    }
    Ok(Exit::OK)
}

fn ask(client: &Client, query: &EntriesQuery) -> Result<Entries, crate::client::Error> {
    client.get(LOG, &query.parameters())
}

fn cells(entry: &EntryTold) -> Vec<String> {
    let time = Time::from_micros(entry.time.as_secs().saturating_mul(1_000_000));
    vec![entry.seq.to_string(), time.to_string(), entry.by.to_string(), line(entry)]
}

/// Tells an entry in one line.
fn line(EntryTold { ops, rewraps, more, .. }: &EntryTold) -> String {
    let others = ops.iter().filter(|told| told.op != "rewrap");
    let mut parts: Vec<String> = others.map(|told| told.what.clone()).collect();
    let hidden = parts.len().saturating_sub(NAMED) as u64 + more;
    parts.truncate(NAMED);
    if hidden > 0 {
        parts.push(format!("{hidden} more"));
    }
    if *rewraps > 0 {
        let versions = if *rewraps == 1 { "version" } else { "versions" };
        parts.push(format!("re-encrypted {rewraps} {versions}"));
    }
    parts.join("; ")
}

fn show(global: &Global, number: u64) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let only = Some(number.to_string());
    let told = ask(&client, &EntriesQuery { only, whole: true, ..EntriesQuery::default() })?;
    let Some(entry) = told.entries.first() else {
        if let Some(begins) = told.begins.filter(|begins| number <= *begins) {
            let text = format!("entry {number} is gone: {}", before(begins));
            return Err(Failure::remote(text).hint("`vault log` lists the newest").into());
        }
        let text = format!("there is no entry {number}: the log ends with entry {}", told.last);
        return Err(Failure::remote(text).hint("`vault log` lists the newest").into());
    };
    global.show(format, || page(entry, told.last), &document(entry))
}

/// Says since where there are entries.
fn before(begins: u64) -> String {
    format!("the checkpoint at entry {} stands for those up to {begins}", begins + 1)
}

fn page(entry: &EntryTold, last: u64) -> Shown {
    let EntryTold { seq, hash, prev, time, by, key, ops, .. } = entry;
    let (is, key) = match key {
        Some(key) => ("the signature verifies", key.to_string()),
        None => ("the signature does not verify here", "-".to_owned()),
    };
    let mut rows = vec![
        vec!["entry".to_owned(), format!("{seq} of {last}")],
        vec!["time".to_owned(), format!("{time}, by the signer's clock")],
        vec!["signed by".to_owned(), format!("{by}: {is}")],
        vec!["with key".to_owned(), key],
    ];
    let list = |rows: &mut Vec<Vec<String>>, name: &str, all: Vec<String>| {
        for (index, text) in all.into_iter().enumerate() {
            rows.push(vec![if index == 0 { name.to_owned() } else { String::new() }, text]);
        }
    };
    let acts = ops.iter().filter(|told| told.op != "rewrap").map(|told| told.what.clone());
    list(&mut rows, "did", acts.collect());
    list(&mut rows, "re-encrypted", rewrapped(ops));
    rows.push(vec!["hash".to_owned(), hash.to_string()]);
    rows.push(vec!["before it".to_owned(), prev.to_string()]);
    table::columns(&rows, "  ")
}

/// Lists what was re-encrypted, a secret a line: `secret/a v1, v2`.
fn rewrapped(ops: &[OpTold]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for OpTold { path, ver, .. } in ops.iter().filter(|told| told.op == "rewrap") {
        let path = path.as_ref().map(ToString::to_string).unwrap_or_default();
        let ver = ver.map(|ver| format!("v{ver}")).unwrap_or_default();
        match lines.iter_mut().find(|(known, _)| *known == path) {
            Some((_, versions)) => versions.push(ver),
            None => lines.push((path, vec![ver])),
        }
    }
    lines.into_iter().map(|(path, versions)| format!("{path} {}", versions.join(", "))).collect()
}

fn document(entry: &EntryTold) -> Value {
    let EntryTold { seq, hash, prev, time, by, key, ops, rewraps, more } = entry;
    json!({
        "seq": seq, "hash": hash, "prev": prev, "time": time.to_string(), "by": by, "key": key,
        "verified": key.is_some(), "ops": ops, "rewraps": rewraps, "more": more,
        "what": line(entry),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(op: &str, what: &str, at: Option<(&str, u64)>) -> OpTold {
        let path = at.and_then(|(path, _)| path.parse().ok());
        OpTold { op: op.into(), what: what.into(), path, ver: at.map(|(_, ver)| ver) }
    }

    #[test]
    fn an_entry_is_told_in_a_line_and_on_a_page() {
        let entry = EntryTold {
            seq: 12,
            hash: shared::hash::Hash::ZERO,
            prev: shared::hash::Hash::ZERO,
            time: Time::from_micros(1_795_464_000_500_000),
            by: "admin:jonas".parse().unwrap(),
            key: None,
            ops: vec![
                told("machine_remove", "removed vps: stolen", None),
                told("rewrap", "", Some(("secret/a", 1))),
                told("rewrap", "", Some(("secret/a", 2))),
                told("rewrap", "", Some(("secret/b", 7))),
            ],
            rewraps: 3,
            more: 0,
        };
        assert_eq!(line(&entry), "removed vps: stolen; re-encrypted 3 versions");
        insta::assert_snapshot!(&*page(&entry, 30), @r"
        entry         12 of 30
        time          2026-11-23T20:00:00.5Z, by the signer's clock
        signed by     admin:jonas: the signature does not verify here
        with key      -
        did           removed vps: stolen
        re-encrypted  secret/a v1, v2
                      secret/b v7
        hash          0000000000000000000000000000000000000000000000000000000000000000
        before it     0000000000000000000000000000000000000000000000000000000000000000
        ");
    }
}
