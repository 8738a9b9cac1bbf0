//! `vault status --watch`: the status as it changes, until Ctrl-C. A terminal shows one screen;
//! elsewhere there is a line for each change, or in JSON a document. What is kept is the last
//! status alone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use shared::time::Time;

use super::fetch::fetch;
use super::{document, show};
use crate::client::{Client, Error};
use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};
use host::shown::Shown;
use machine::findings::{Finding, findings};
use machine::local::{Status, TargetRow};

/// Pause between two looks: each asks the server, and is on its record.
const PAUSE: Duration = Duration::from_secs(5);
/// Rows of a screen: those that are wrong come first.
const ROWS: usize = 30;

pub(super) fn run(global: &Global, client: &Client, format: Format) -> Result<Exit> {
    if !matches!(format, Format::Table | Format::Json) {
        return Err(Failure::local("`status --watch` prints table or json").into());
    }
    let (mut known, mut away) = (BTreeSet::new(), false);
    loop {
        match fetch(client) {
            Ok(status) => {
                away = false;
                draw(global, format, &status, &mut known)?;
            }
            // The agent restarts: what was missed is seen afterwards.
            Err(why) if is_passing(&why) => {
                if !std::mem::replace(&mut away, true) {
                    global.term.say("the agent does not answer; trying again");
                }
            }
            Err(why) => return Err(why),
        }
        #[expect(clippy::disallowed_methods, reason = "nobody tells that others have reported")]
        std::thread::sleep(PAUSE);
    }
}

fn is_passing(why: &anyhow::Error) -> bool {
    matches!(why.downcast_ref::<Error>(), Some(Error::Transport { .. }))
}

fn draw(
    global: &Global,
    format: Format,
    status: &Status,
    known: &mut BTreeSet<String>,
) -> Result<()> {
    let (now, found) = (global.now(), findings(status));
    if format == Format::Table && global.term.out_is_tty {
        return Ok(global.term.screen(screen(status, &found, now, global.colour()))?);
    }
    let facts = facts(status, &found);
    let news = news(known, &facts);
    *known = facts;
    if news.is_empty() {
        return Ok(());
    }
    if format == Format::Json {
        let document = serde_json::to_string(&document::of(status, &found, now))?;
        return Ok(global.term.document(document)?);
    }
    let time = Time::from_micros(now.as_secs().saturating_mul(1_000_000));
    news.iter().try_for_each(|line| global.term.line(format!("{time} {line}")))?;
    Ok(())
}

/// Makes a screen: what is wrong first, then the table with the wrong rows on top.
fn screen(status: &Status, found: &[Finding], now: Time, colour: bool) -> Shown {
    let summary = show::summary(status, found, now).unwrap_or_else(|| show::well(status));
    let mut table = show::table(status, found, now, colour);
    let more = table.len().saturating_sub(ROWS + 1);
    if more > 0 {
        table = show::table(&wrong_first(status), found, now, colour);
        table.truncate(ROWS + 1);
        table.push(format!("and {more} more").into());
    }
    let told = show::told(found, now);
    Shown::lines([summary, Shown::default()].into_iter().chain(told).chain(table))
}

/// Returns the status with as many rows as a screen has, those that are wrong before all others.
fn wrong_first(status: &Status) -> Status {
    let mut status = status.clone();
    status.targets.sort_by_key(|row| !(row.lags() || row.fails()));
    status.targets.truncate(ROWS);
    status
}

/// Returns all that may change, a line each.
fn facts(status: &Status, found: &[Finding]) -> BTreeSet<String> {
    let row = |row: &TargetRow| {
        let TargetRow { machine, target, secret, applied, wanted, hook, state, .. } = row;
        format!("{machine} {target} {secret} v{applied} of v{wanted}, {state}, hook {hook}")
    };
    let wrong = |it: &Finding| {
        let machine = it.machine.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let target = it.target.as_ref().map(|target| format!(" {target}")).unwrap_or_default();
        format!("wrong {}{machine}{target}: {}", it.kind.word(), it.text)
    };
    let all = status.targets.iter().map(row).chain(found.iter().map(wrong));
    let well = found.is_empty().then(|| "all is well".to_owned());
    all.chain(well).collect()
}

/// Returns what has come, and what of it that was wrong is over.
fn news(before: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<String> {
    let over = before.difference(now).filter_map(|line| line.strip_prefix("wrong "));
    let over = over.map(|line| format!("over {line}"));
    over.chain(now.difference(before).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_with_each_change_and_none_without() {
        let set = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
        let before: BTreeSet<String> = set(&["vps v1", "wrong lags vps: v1"]);
        assert!(news(&before, &before).is_empty());
        let now: BTreeSet<String> = set(&["vps v2", "all is well"]);
        assert_eq!(news(&before, &now), ["over lags vps: v1", "all is well", "vps v2"]);
        assert_eq!(news(&set(&[]), &before), ["vps v1", "wrong lags vps: v1"]);
    }
}
