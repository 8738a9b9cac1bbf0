//! `/`: is all well? What is wrong, since when, on which host, and what to type; then the matrix of
//! hosts and files; then what was changed last.

use askama::Template;
use axum::http::StatusCode;
use host::shown::Shown;

use super::kinds::{Wrong, wrong};
use super::matrix::{self, Mark, Table};
use crate::page::answer::html;
use crate::page::frame::{Fault, Frame, Screen, Viewed};
use crate::page::href::Href;
use crate::page::parts::{When, cut, line, number};
use crate::page::seen::Seen;
use crate::page::site::Visit;
use crate::page::words::{Lang, Words, catalogue, fill};
use machine::local::EntryTold;

/// Things that are told; more would not be read.
const WRONG: usize = 50;
/// Operations of one entry that are told.
const OPS: usize = 3;

catalogue! {
    /// Words of the fleet.
    Fleet:
    all_well = "All well", "Alles in Ordnung";
    one_wrong = "1 thing is wrong", "1 Sache stimmt nicht";
    some_wrong = "{} things are wrong", "{} Sachen stimmen nicht";
    hosts_right = "{} of {} hosts right", "{} von {} Systemen in Ordnung";
    last_change = "last change {} by {}", "letzte Änderung {} von {}";
    verified = "audit chain verified to {}", "Protokollkette geprüft bis {}";
    offline = "the server is away: the others are shown as they last were",
        "der Server ist fort: die anderen stehen hier, wie sie zuletzt waren";
    what_is_wrong = "What is wrong", "Was nicht stimmt";
    hosts = "Hosts and files", "Systeme und Dateien";
    caption = "Which version each host holds of each file",
        "Welche Version jedes System von jeder Datei hat";
    seen = "Seen", "Gesehen";
    no_files = "No host keeps a file yet. On a host, type", "Noch hält kein System eine Datei. Auf einem System tippen:";
    more_files = "files not shown: {}", "Dateien nicht gezeigt: {}";
    more_hosts = "hosts not shown: {}", "Systeme nicht gezeigt: {}";
    changes = "Last changes", "Letzte Änderungen";
    changes_caption = "The newest entries of the signed log",
        "Die neuesten Einträge des unterschriebenen Logbuchs";
    entry = "Entry", "Eintrag";
    todo = "`vault status` says the same; `vault status --watch` follows",
        "`vault status` sagt dasselbe; `vault status --watch` folgt";
}

/// One entry of the log.
#[derive(Debug)]
struct Change {
    seq: u64,
    href: Href,
    when: When,
    by: Shown,
    what: Shown,
}

#[derive(Template)]
#[template(path = "page/fleet.html")]
struct FleetPage {
    frame: Frame,
    t: &'static Words,
    w: &'static Fleet,
    mark: Mark,
    verdict: String,
    /// What stands behind it.
    remarks: Vec<Shown>,
    last: Option<(Href, Shown)>,
    wrong: Vec<Wrong>,
    more_wrong: Option<String>,
    table: Table,
    changes: Vec<Change>,
    as_of: Option<String>,
}

/// Shows the fleet.
pub(in crate::page) async fn show(visit: &Visit<'_>) -> Viewed {
    let seen = visit.site.fleet.now().await.map_err(|why| Fault::Broken(why.into()))?;
    Ok(html(StatusCode::OK, &page(visit, &seen)))
}

fn page(visit: &Visit<'_>, seen: &Seen) -> FleetPage {
    let Visit { lang, now, .. } = *visit;
    let (t, w) = (Words::of(lang), Fleet::of(lang));
    let Seen { status, found, newest, verified, at, .. } = seen;
    let mut table = matrix::table(status, found, now, lang);
    table.more_files = table.more_files.map(|more| fill(w.more_files, &[&more]));
    table.more_hosts = table.more_hosts.map(|more| fill(w.more_hosts, &[&more]));
    let verdict = verdict(found.len(), lang);
    let counts = [table.right, table.all].map(|n| number(n as u64, lang));
    let mut remarks = vec![Shown::line(fill(w.hosts_right, &[&counts[0], &counts[1]]))];
    remarks.extend(verified.map(|n| Shown::line(fill(w.verified, &[&number(n, lang)]))));
    remarks.extend((!status.online).then(|| Shown::own(w.offline)));
    let changes: Vec<Change> = newest.iter().map(|entry| change(entry, visit)).collect();
    let last = changes
        .first()
        .map(|it| (it.href.clone(), Shown::line(fill(w.last_change, &[&it.when.ago, &it.by]))));
    let shown = found.iter().enumerate().map(|(at, it)| wrong(at, it, now, lang)).collect();
    let (wrong, more_wrong) = cut(shown, WRONG, lang);
    let title = Shown::line(format_args!("{verdict} · {}", status.machine));
    FleetPage {
        frame: Frame::new(visit, Screen::Fleet, title, w.todo).live(),
        t,
        w,
        mark: if found.is_empty() { Mark::Right } else { Mark::Wrong },
        verdict,
        remarks,
        last,
        wrong,
        more_wrong,
        table,
        changes,
        as_of: (now.seconds_since(*at) >= 10)
            .then(|| fill(t.as_of, &[&When::new(*at, now, lang).clock])),
    }
}

/// Says whether all is well.
pub(super) fn verdict(wrong: usize, lang: Lang) -> String {
    let w = Fleet::of(lang);
    match wrong {
        0 => w.all_well.to_owned(),
        1 => w.one_wrong.to_owned(),
        some => fill(w.some_wrong, &[&number(some as u64, lang)]),
    }
}

fn change(entry: &EntryTold, visit: &Visit<'_>) -> Change {
    let lang = visit.lang;
    let EntryTold { seq, time, by, ops, rewraps, more, .. } = entry;
    let told = ops.iter().filter(|told| told.op != "rewrap");
    let mut parts: Vec<String> = told.map(|told| told.what.clone()).collect();
    let hidden = parts.len().saturating_sub(OPS) as u64 + more;
    parts.truncate(OPS);
    if *rewraps > 0 {
        parts.push(format!("re-encrypted {rewraps}"));
    }
    if hidden > 0 {
        parts.push(format!("{hidden} more"));
    }
    Change {
        seq: *seq,
        href: Href::below("/change", &seq.to_string()),
        when: When::new(*time, visit.now, lang),
        by: line(by),
        what: parts.join("; ").into(),
    }
}
