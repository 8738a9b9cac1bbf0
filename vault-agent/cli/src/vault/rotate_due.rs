//! `vault rotate-due`: secrets that are to be changed at their issuers, the most urgent first. Ends
//! with 2 if one is overdue.

use serde_json::Value;
use shared::duration;
use shared::time::Time;

use crate::context::Global;
use crate::print::{self, Format, table};
use crate::vault::rotation::{self, Entry};
use host::clock;
use host::hint::{Exit, Failure};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "When a secret is due stands in its custom metadata: rotate_after is a date, or a duration since \
the newest version was written. Exits 2 if one is overdue or its rotate_after cannot be read.

Examples:
  vault kv metadata patch -custom-metadata=rotate_after=90d secret/app
  vault kv metadata patch -custom-metadata=rotate_after=2027-01-31 \\
    -custom-metadata=issuer=letsencrypt.org -custom-metadata=owner=jonas secret/tls
  vault rotate-due                          overdue, or due in 14 days
  vault rotate-due --within 90d secret/app  in 90 days, and of this folder only"
)]
pub struct Args {
    /// Secret or folder, e.g. secret/app; all without it
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,
    /// List what is due in this time too [default: 14d]
    #[arg(long, value_name = "DURATION", value_parser = within)]
    within: Option<u64>,
}

fn within(text: &str) -> Result<u64, String> {
    let micros = duration::parse(text).and_then(|micros| u64::try_from(micros).ok());
    micros.ok_or_else(|| "expected a duration such as 14d or 48h".to_owned())
}

pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    if matches!(format, Format::Raw | Format::Pretty | Format::Env) {
        return Err(Failure::local("it is printed as table, json or yaml").into());
    }
    let client = global.client()?;
    let mut facts = rotation::facts(global, &client)?;
    facts.retain(|fact| {
        args.prefix.as_deref().is_none_or(|prefix| below(prefix, fact.path.as_str()))
    });
    let none = facts.is_empty();
    let now = global.now();
    let due = rotation::due(facts, now, args.within.unwrap_or(rotation::SOON));
    if format != Format::Table {
        let rows: Value = due.iter().map(|entry| entry.document(now)).collect();
        global.term.document(print::data(format, &rows)?)?;
    } else if none {
        global.term.say_hinted(
            "no secret says when it is to be changed",
            "`vault kv metadata patch -custom-metadata=rotate_after=90d PATH`",
        );
    } else if due.is_empty() {
        global.term.say("nothing is due");
    } else {
        print(global, &due, now)?;
    }
    for fault in due.iter().filter_map(Entry::fault) {
        global.term.say(fault);
    }
    let stop = due.iter().any(|entry| entry.due.is_none_or(|at| at <= now));
    Ok(if stop { Exit::REMOTE } else { Exit::OK })
}

fn print(global: &Global, due: &[Entry], now: Time) -> std::io::Result<()> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let row = |entry: &Entry| {
        vec![
            entry.fact.path.to_string(),
            entry.when(now),
            entry.age(now).map_or_else(|| "-".to_owned(), clock::age),
            text(&entry.fact.issuer),
            text(&entry.fact.owner),
        ]
    };
    let cells: Vec<_> = due.iter().map(row).collect();
    global.term.line(table::plain(&["SECRET", "DUE", "AGE", "ISSUER", "OWNER"], &cells))
}

/// Tells whether a path is the prefix, or in the folder of that name.
fn below(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_matches('/');
    let rest = path.strip_prefix(prefix);
    prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_whole_names() {
        for (prefix, path, expected) in [
            ("secret/app", "secret/app", true),
            ("secret/app/", "secret/app/db", true),
            ("/secret", "secret/app", true),
            ("secret/ap", "secret/app", false),
            ("", "secret/app", true),
        ] {
            assert_eq!(below(prefix, path), expected, "{prefix} {path}");
        }
    }
}
