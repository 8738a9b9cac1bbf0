//! `/machines`: the hosts of the vault with their programs and rights, who asks to join with the
//! six words to compare, and who is out, with what they could read.

use askama::Template;
use axum::http::StatusCode;
use host::shown::{Shown, quoted};
use shared::log::{Machine, Number, State};
use shared::name::Name;
use shared::token::{Line as _, MachineLine};
use tokio::time::timeout;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::page::answer::html;
use crate::page::frame::{Fault, Frame, Screen, Viewed};
use crate::page::href::Href;
use crate::page::parts::{Piece, When, and_more, cut, line, pieces};
use crate::page::seen::Seen;
use crate::page::site::Visit;
use crate::page::words::{Words, catalogue, fill};
use machine::local::{JoinList, Removed, Standing, Waiting};

/// Hosts that are shown of each kind.
const MOST: usize = 200;
/// How long the server may take to say who asks.
const PATIENCE: Duration = Duration::from_secs(2);

catalogue! {
    /// Words of the machines.
    Hosts:
    in_vault = "Machines of this vault", "Systeme dieses Tresors";
    program = "Program", "Programm";
    seen = "Last seen", "Zuletzt gesehen";
    state = "State", "Zustand";
    awake = "follows", "folgt";
    sleeps = "sleeps", "schläft";
    silent = "silent", "stumm";
    away = "away", "fort";
    this_one = "this host", "dieses System";
    added = "Added", "Aufgenommen";
    asking = "Asking to join", "Bitten um Aufnahme";
    asking_text = "Compare the six words with those on the other host before you approve.",
        "Vor dem Aufnehmen die sechs Wörter mit denen auf dem anderen System vergleichen.";
    nobody_asks = "Nobody asks.", "Niemand bittet.";
    not_asked = "The server does not say who asks: {}", "Der Server sagt nicht, wer bittet: {}";
    left_out = "Requests left out, as their lines are not whole: {}",
        "Nicht gezeigte Bitten, weil ihre Zeilen nicht stimmen: {}";
    words = "Six words", "Sechs Wörter";
    from = "From (as the server says)", "Von (sagt der Server)";
    removed = "Removed machines", "Entfernte Systeme";
    nobody_removed = "None was removed.", "Keines wurde entfernt.";
    reason = "Reason", "Grund";
    could_read = "What it could read", "Was es lesen konnte";
    exposed = "exposed keys", "offene Schlüssel";
    goes_on = "got other keys, and goes on", "bekam andere Schlüssel und geht weiter";
    todo = "`vault machine list`, `vault machine approve NAME`, `vault machine exposed NAME`",
        "`vault machine list`, `vault machine approve NAME`, `vault machine exposed NAME`";
}

/// A machine of the vault.
#[derive(Debug)]
struct Row {
    name: Shown,
    is_own: bool,
    state: &'static str,
    program: Shown,
    seen: Option<When>,
    is_now: bool,
    reads: Shown,
    writes: Shown,
    added: When,
}

/// A host that asks to join.
#[derive(Debug)]
struct Asking {
    name: Shown,
    words: Shown,
    from: Shown,
    at: When,
    todo: Vec<Piece>,
}

/// A machine that is out.
#[derive(Debug)]
struct Gone {
    name: Shown,
    when: When,
    by: Shown,
    reason: Shown,
    /// Whether it goes on under another number.
    goes_on: bool,
    href: Href,
    todo: Vec<Piece>,
}

#[derive(Template)]
#[template(path = "page/machines.html")]
struct MachinesPage {
    frame: Frame,
    t: &'static Words,
    w: &'static Hosts,
    rows: Vec<Row>,
    more_rows: Option<String>,
    asking: Vec<Asking>,
    /// Why it is not known who asks.
    not_asked: Option<Shown>,
    left_out: Option<String>,
    gone: Vec<Gone>,
    more_gone: Option<String>,
}

/// Shows the machines.
pub(in crate::page) async fn show(visit: &Visit<'_>) -> Viewed {
    let engine = &visit.site.engine;
    let (seen, waiting) = tokio::join!(visit.site.fleet.now(), timeout(PATIENCE, engine.waiting()));
    let seen = seen.map_err(|why| Fault::Broken(why.into()))?;
    let lang = visit.lang;
    let w = Hosts::of(lang);
    let (waiting, why) = match waiting {
        Ok(Ok(JoinList { waiting })) => (waiting, None),
        Ok(Err(why)) => (Vec::new(), Some(format!("{why:#}"))),
        Err(_) => (Vec::new(), Some("no answer in time".to_owned())),
    };
    let not_asked = why.map(|why| Shown::line(fill(w.not_asked, &[&why])));
    let (asking, bad) = asking(waiting, visit);
    let names: BTreeMap<Number, Name> = engine.state(|state: &State| {
        let named = |(number, machine): (&Number, &Machine)| (*number, machine.name.clone());
        state.machines().iter().map(named).collect()
    });
    let gone = engine.removed().iter().rev().map(|it| gone(it, &names, visit)).collect();
    let (gone, more_gone) = cut(gone, MOST, lang);
    let rows = seen.status.machines.iter().map(|it| row(it, &seen, visit)).collect();
    let (rows, more_rows) = cut(rows, MOST, lang);
    let t = Words::of(lang);
    let page = MachinesPage {
        frame: Frame::new(visit, Screen::Machines, t.machines, w.todo).live(),
        t,
        w,
        rows,
        more_rows,
        asking,
        not_asked,
        left_out: and_more(bad as u64, lang).map(|n| fill(w.left_out, &[&n])),
        gone,
        more_gone,
    };
    Ok(html(StatusCode::OK, &page))
}

fn row(standing: &Standing, seen: &Seen, visit: &Visit<'_>) -> Row {
    let (w, t) = (Hosts::of(visit.lang), Words::of(visit.lang));
    let Standing { machine, sleeps, awake, silent, seen_at, added, program, read, write, .. } =
        standing;
    let is_own = *machine == seen.status.machine;
    let program = program.as_ref().map(|it| Shown::from(&it.version));
    Row {
        name: line(machine),
        is_own,
        state: match (awake, silent, sleeps) {
            (true, ..) => w.awake,
            (_, true, _) => w.silent,
            (_, _, true) => w.sleeps,
            (..) => w.away,
        },
        program: program.unwrap_or_else(|| Shown::own(t.unknown)),
        seen: seen_at.map(|at| When::new(at, visit.now, visit.lang)),
        is_now: *awake || is_own,
        reads: grants(&read.to_string(), t),
        writes: grants(&write.to_string(), t),
        added: When::new(*added, visit.now, visit.lang),
    }
}

fn grants(text: &str, t: &Words) -> Shown {
    if text.is_empty() || text == "-" { Shown::own(t.none) } else { text.into() }
}

/// Takes requests apart; the second value counts those whose line is none. One that comes twice
/// asks once.
fn asking(waiting: Vec<Waiting>, visit: &Visit<'_>) -> (Vec<Asking>, usize) {
    let mut found: Vec<(MachineLine, Asking)> = Vec::new();
    let mut bad = 0;
    for Waiting { line: text, addr, at } in waiting {
        match MachineLine::from_line(&text) {
            Ok(of) if found.iter().any(|(known, _)| *known == of) => {}
            Ok(of) => {
                let asking = Asking {
                    name: line(&of.name),
                    words: line(of.words()),
                    from: line(addr.as_str()),
                    at: When::new(at, visit.now, visit.lang),
                    todo: pieces(&format!("`vault machine approve {}`", quoted(of.name.as_str()))),
                };
                found.push((of, asking));
            }
            Err(_) => bad += 1,
        }
    }
    (found.into_iter().map(|(_, asking)| asking).collect(), bad)
}

fn gone(removed: &Removed, names: &BTreeMap<Number, Name>, visit: &Visit<'_>) -> Gone {
    let Removed { number, time, by, reason, goes_on, .. } = removed;
    let number = number.to_string();
    Gone {
        name: names.get(&removed.number).map(Shown::line).unwrap_or_default(),
        when: When::new(*time, visit.now, visit.lang),
        by: line(by),
        reason: reason.into(),
        goes_on: goes_on.is_some(),
        href: Href::own("/machines/exposed").with("machine", &number),
        todo: pieces(&format!("`vault machine exposed {number}`")),
    }
}
