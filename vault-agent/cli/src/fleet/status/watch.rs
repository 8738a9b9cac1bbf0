//! `vault status --watch`: the status as it changes, until Ctrl-C. A terminal shows one screen;
//! elsewhere there is a line for each change, or in JSON a document. What is kept is the last
//! status alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use shared::time::Time;

use super::fetch::fetch;
use super::{document, show};
use crate::client::{Client, Error};
use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};
use host::shown::Shown;
use host::term::Size;
use machine::findings::{Finding, findings};
use machine::local::{Head, Status, TargetRow, WAIT};

/// Pause between two looks while something changes, and for a minute afterwards.
const PAUSE: Duration = Duration::from_secs(5);
/// Pause between two looks where nothing does: each asks the server, and is on its record.
const QUIET_PAUSE: Duration = Duration::from_secs(30);
/// How many short pauses there are after a change.
const LIVELY: u32 = 12;
/// Lines of a screen whose height is not known.
const ROWS: usize = 40;

pub(super) fn run(global: &Global, client: &Client, format: Format) -> Result<Exit> {
    if !matches!(format, Format::Table | Format::Json) {
        return Err(Failure::local("`status --watch` prints table or json").into());
    }
    global.term.end_with_reader();
    let (mut known, mut away) = (BTreeSet::new(), false);
    let (mut pace, mut seq) = (Pace::default(), 0);
    loop {
        match fetch(client) {
            Ok(status) => {
                (away, seq) = (false, status.seq);
                pace.looked(draw(global, format, &status, &mut known)?);
            }
            // The agent restarts: what was missed is seen afterwards.
            Err(why) if is_passing(&why) => {
                if !std::mem::replace(&mut away, true) {
                    global.term.say("the agent does not answer; trying again");
                }
            }
            Err(why) => return Err(why),
        }
        pace.rest(client, seq);
    }
}

/// How often the server is asked: seldom where nothing changes, so that a screen that stands for
/// days fills nobody's log.
#[derive(Default)]
struct Pace {
    /// Short pauses that are left.
    lively: u32,
}

impl Pace {
    fn looked(&mut self, has_changed: bool) {
        self.lively = if has_changed { LIVELY } else { self.lively.saturating_sub(1) };
    }

    fn pause(&self) -> Duration {
        if self.lively > 0 { PAUSE } else { QUIET_PAUSE }
    }

    /// Waits; an entry of the log ends a long pause: the agent tells of it without asking anyone.
    fn rest(&self, client: &Client, seq: u64) {
        let (begun, pause) = (Instant::now(), self.pause());
        while self.lively == 0 && begun.elapsed() < pause {
            match client.get::<Head>(WAIT, &[("after", seq.to_string())]) {
                Ok(head) if head.seq > seq => return,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        #[expect(clippy::disallowed_methods, reason = "nobody tells that others have reported")]
        std::thread::sleep(pause.saturating_sub(begun.elapsed()));
    }
}

fn is_passing(why: &anyhow::Error) -> bool {
    matches!(why.downcast_ref::<Error>(), Some(Error::Transport { .. }))
}

/// Shows the status, and tells whether something of it has changed.
fn draw(
    global: &Global,
    format: Format,
    status: &Status,
    known: &mut BTreeSet<String>,
) -> Result<bool> {
    let (now, found) = (global.now(), findings(status));
    let facts = facts(status, &found);
    let news = news(known, &facts);
    *known = facts;
    if format == Format::Table && global.term.out_is_tty {
        let size = global.term.out_size();
        global.term.screen(screen(status, &found, now, (size, global.colour())))?;
    } else if format == Format::Json && !news.is_empty() {
        let document = serde_json::to_string(&document::of(status, &found, now))?;
        global.term.document(document)?;
    } else {
        let time = Time::from_micros(now.as_secs().saturating_mul(1_000_000));
        news.iter().try_for_each(|line| global.term.line(format!("{time} {line}")))?;
    }
    Ok(!news.is_empty())
}

/// Makes a screen that is no higher than the terminal: what is wrong first, then the table, with
/// the wrong rows on top where not all of them fit.
fn screen(
    status: &Status,
    found: &[Finding],
    now: Time,
    (size, colour): (Option<Size>, bool),
) -> Shown {
    let summary = show::summary(status, found, now).unwrap_or_else(|| show::well(status));
    let columns = size.map(|size| size.columns);
    // The cursor stands below the last line.
    let rows = size.map_or(ROWS, |size| size.rows.saturating_sub(1)).max(1);
    let height = |line: &Shown| {
        let wide = line.lines().map(|line| line.chars().count() - escapes(line));
        wide.map(|wide| columns.map_or(1, |columns| wide.div_ceil(columns).max(1))).sum::<usize>()
    };
    let told = show::told(found, now);
    let head: Vec<Shown> = [summary, Shown::own("")].into_iter().chain(told).collect();
    let left = rows.saturating_sub(head.iter().map(|line| height(line).max(1)).sum());
    let mut table = show::table(status, found, now, (columns, colour));
    if table.iter().map(height).sum::<usize>() > left {
        // The header, and a line that says how many more there are, take room too.
        let tall = table.iter().map(height).max().unwrap_or(1).max(1);
        let most = (left.saturating_sub(1) / tall).saturating_sub(1);
        table = show::table(&wrong_first(status, most), found, now, (columns, colour));
        let more = status.targets.len().saturating_sub(most);
        table.push(format!("and {more} more; `vault status` shows all").into());
    }
    let mut free = rows;
    let fits = |line: &Shown| {
        let takes = height(line).max(1);
        let fits = takes <= free;
        free = if fits { free - takes } else { 0 };
        fits
    };
    Shown::lines(head.into_iter().chain(table).take_while(fits))
}

/// Counts what a coloured line has that takes no room.
fn escapes(line: &str) -> usize {
    if line.starts_with('\x1b') { "\x1b[31m\x1b[0m".len() } else { 0 }
}

/// Returns the status with so many rows, those that are wrong before all others.
fn wrong_first(status: &Status, most: usize) -> Status {
    let mut status = status.clone();
    status.targets.sort_by_key(|row| !(row.lags() || row.fails()));
    status.targets.truncate(most);
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

    fn status(rows: usize) -> Status {
        let row = |n: usize| {
            serde_json::json!({
                "machine": format!("host-{n:03}"), "target": "/srv/app/.env", "secret": "secret/app",
                "wanted": 2, "applied": if n == 90 { 1 } else { 2 }, "hook": "ok", "seen_at": 1,
                "awake": true, "state": "ok", "detail": "",
            })
        };
        let zeros = "0".repeat(64);
        let rows: Vec<_> = (0..rows).map(row).collect();
        serde_json::from_value(serde_json::json!({
            "machine": "host-000", "vault": zeros, "seq": 1, "head": zeros, "online": true,
            "told": true, "server": "s:1", "synced_at": 1, "alarms": [], "targets": rows,
            "machines": [], "trouble": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_screen_is_no_higher_than_the_terminal_and_what_is_wrong_is_on_it() {
        let shown = |rows, size: [usize; 2], colour| {
            let (status, [columns, rows_of_screen]) = (status(rows), size);
            let size = Some(Size { columns, rows: rows_of_screen });
            screen(&status, &findings(&status), Time::default(), (size, colour))
        };
        for size in [[80, 24], [200, 50], [50, 12], [80, 3], [1, 1]] {
            let text = shown(100, size, true);
            let [columns, rows] = size;
            let high = |line: &str| (line.chars().count() - escapes(line)).div_ceil(columns).max(1);
            let height: usize = text.lines().map(high).sum();
            assert!(height < rows.max(2), "{size:?}: {height}\n{text}");
            if rows > 10 {
                assert!(text.contains("host-090") && text.contains("NOT WELL"), "{text}");
                assert!(text.contains("more; `vault status` shows all"), "{text}");
            }
        }
        let all = shown(5, [120, 24], false);
        assert!(all.contains("host-004") && !all.contains("shows all"), "{all}");
    }

    #[test]
    fn a_screen_where_nothing_changes_asks_seldom() {
        let mut pace = Pace::default();
        pace.looked(true);
        for _ in 0..LIVELY {
            assert_eq!(pace.pause(), PAUSE);
            pace.looked(false);
        }
        assert_eq!(pace.pause(), QUIET_PAUSE);
        pace.looked(true);
        assert_eq!(pace.pause(), PAUSE);
    }

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
