//! `/audit?path=…&machine=…&op=…`: the audit log by the filters of `vault audit log`, the newest
//! first, a page at a time; how far the chain is vouched for, and by whom.

mod search;

use askama::Template;
use axum::http::StatusCode;
use host::shown::{Shown, quoted};

use crate::page::answer::html;
use crate::page::frame::{Fault, Frame, Screen, Viewed};
use crate::page::href::Href;
use crate::page::parts::{cut, number};
use crate::page::records::{Known, Row};
use crate::page::site::Visit;
use crate::page::words::{Lang, Words, catalogue, fill};
use machine::local::{Holders, Vouched};

pub(in crate::page) use search::{Filter, OPS};

/// Machines whose signed heads are told.
const MACHINES: usize = 24;
/// Secrets that hold a key and are named.
const SECRETS: usize = 24;

catalogue! {
    /// Words of the audit log.
    Audit:
    title = "Audit log", "Protokoll";
    caption = "Who did what, the newest first", "Wer was getan hat, das Neueste zuerst";
    path = "Secret", "Geheimnis";
    path_hint = "* stands for any text", "* steht für jeden Text";
    key = "Key", "Schlüssel";
    held = "{} is a key of {}.", "{} ist ein Schlüssel von {}.";
    not_held = "No secret that this host reads has a key {}.",
        "Kein Geheimnis, das dieses System liest, hat einen Schlüssel {}.";
    alike = "There is {}.", "Es gibt {}.";
    unread = "Not on this host, and not looked into: secrets {}, earlier versions {}.",
        "Nicht auf diesem System, und nicht angesehen: Geheimnisse {}, frühere Versionen {}.";
    machine = "Machine", "System";
    op = "Operation", "Vorgang";
    any = "all", "alle";
    reads = "reads", "Lesen";
    writes = "writes", "Schreiben";
    acts = "owners' acts", "Taten der Admins";
    applied = "files written", "Dateien geschrieben";
    result = "Result", "Ergebnis";
    process = "Process", "Prozess";
    user = "User", "Benutzer";
    from = "From", "Ab";
    until = "Until", "Bis";
    denied = "refusals only", "nur Abgelehntes";
    search = "Search", "Suchen";
    clear = "All records", "Alles zeigen";
    record = "Record", "Nummer";
    who = "Who", "Wer";
    reason = "reason", "Grund";
    refused = "refused", "abgelehnt";
    change = "change {}", "Änderung {}";
    older = "Older records", "Ältere Zeilen";
    newest = "Newest records", "Neueste Zeilen";
    nothing = "No record is like that.", "Keine Zeile ist so.";
    nothing_here = "None of the {} records that were looked through is like that; older ones may be.",
        "Keine der {} durchgesehenen Zeilen ist so; ältere können es sein.";
    archived = "Records up to {} are in files on the server's host.",
        "Zeilen bis {} liegen in Dateien auf dem Host des Servers.";
    no_time = "`{}` names no time: use 24h, yesterday, last week, 2026-11-01 or 2026-11-01T08:00:00Z.",
        "`{}` nennt keine Zeit: 24h, yesterday, last week, 2026-11-01 oder 2026-11-01T08:00:00Z.";
    no_op = "No operation is called `{}`.", "Kein Vorgang heißt `{}`.";
    verified_by = "Verified to {} by {} machines", "Geprüft bis {} von {} Systemen";
    verified_by_one = "Verified to {} by {}", "Geprüft bis {} von {}";
    not_verified = "The chain has not been verified yet.", "Die Kette ist noch nicht geprüft.";
    each = "Each machine follows the chain and signs how far: {}.",
        "Jedes System folgt der Kette und unterschreibt, wie weit: {}.";
}

impl Audit {
    /// Names the change that a record is of.
    fn change_of(&self, seq: &u64) -> String {
        fill(self.change, &[&seq.to_string()])
    }
}

/// A choice of operations.
#[derive(Debug)]
struct Choice {
    value: Shown,
    name: Shown,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "page/audit.html")]
struct AuditPage {
    frame: Frame,
    t: &'static Words,
    w: &'static Audit,
    verified: String,
    each: Option<Shown>,
    /// What is wrong with the filter.
    fault: Option<Shown>,
    /// What was asked for, by name.
    path: Shown,
    key: Shown,
    machine: Shown,
    result: Shown,
    process: Shown,
    user: Shown,
    since: Shown,
    until: Shown,
    denied: bool,
    is_filtered: bool,
    /// Which secrets hold the key that is asked for.
    held: Option<Shown>,
    ops: Vec<Choice>,
    rows: Vec<Row>,
    nothing: Option<String>,
    older: Option<Href>,
    newest: Option<Href>,
    archived: Option<String>,
}

/// Shows a page of the audit log.
pub(in crate::page) async fn show(visit: &Visit<'_>) -> Viewed {
    let Visit { lang, now, site, .. } = *visit;
    let (t, w) = (Words::of(lang), Audit::of(lang));
    let filter = Filter::read(&visit.query);
    let holders = match filter.key.as_str() {
        "" => None,
        key => Some(site.engine.holders(key).await.map_err(Fault::broken)?),
    };
    let (found, fault) = match filter.query(now) {
        Ok(query) => {
            let of_key = holders.as_ref().map(|it| it.secrets.as_slice());
            let found = search::search(&site.engine, &filter, of_key, query).await;
            (found.map_err(Fault::broken)?, None)
        }
        Err(wrong) => (search::Found::default(), Some(told(&wrong, lang))),
    };
    let vouched = site.engine.vouched().await.map_err(Fault::broken)?;
    let known = Known::of(&site.engine, &found.records).await.map_err(Fault::broken)?;
    let rows = known.rows(&found.records, now, lang);
    let (verified, each) = vouch(&vouched, lang);
    let nothing = (rows.is_empty() && fault.is_none()).then(|| match found.older {
        Some(_) => fill(w.nothing_here, &[&number(found.looked, lang)]),
        None => w.nothing.to_owned(),
    });
    let frame = Frame::new(visit, Screen::Audit, w.title, &todo(&filter));
    // Whoever looks at the end of the log sees it grow.
    let tails = fault.is_none() && filter.is_open_ended();
    let frame = if tails { frame.live_by(filter.href("/events/audit", found.head)) } else { frame };
    let page = AuditPage {
        frame,
        t,
        w,
        verified,
        each,
        fault,
        path: filter.path.as_str().into(),
        key: filter.key.as_str().into(),
        machine: filter.machine.as_str().into(),
        result: filter.result.as_str().into(),
        process: filter.process.as_str().into(),
        user: filter.user.as_str().into(),
        since: filter.since.as_str().into(),
        until: filter.until.as_str().into(),
        denied: filter.denied,
        is_filtered: !filter.is_empty(),
        held: holders.map(|holders| held(&filter.key, &holders, lang)),
        ops: choices(&filter.op, lang),
        older: found.older.map(|n| filter.href("/audit", n)),
        newest: filter.before.map(|_| filter.newest("/audit")),
        archived: found.archived.map(|last| fill(w.archived, &[&number(last, lang)])),
        rows,
        nothing,
    };
    Ok(html(StatusCode::OK, &page))
}

/// Says which secrets hold a key, as far as this machine can tell.
fn held(key: &str, holders: &Holders, lang: Lang) -> Shown {
    let w = Audit::of(lang);
    let Holders { secrets, unread, earlier, alike, .. } = holders;
    let paths = secrets.iter().map(|holder| holder.path.to_string()).collect();
    let (mut paths, more): (Vec<String>, _) = cut(paths, SECRETS, lang);
    paths.extend(more);
    let mut text = match paths.as_slice() {
        [] => vec![fill(w.not_held, &[key])],
        paths => vec![fill(w.held, &[key, &paths.join(", ")])],
    };
    text.extend((!alike.is_empty()).then(|| fill(w.alike, &[&alike.join(", ")])));
    let hidden = [*unread, *earlier].map(|n| number(n, lang));
    let is_hidden = *unread + *earlier > 0;
    text.extend(is_hidden.then(|| fill(w.unread, &[&hidden[0], &hidden[1]])));
    text.join(" ").into()
}

fn told(wrong: &search::Wrong, lang: Lang) -> Shown {
    let w = Audit::of(lang);
    match wrong {
        search::Wrong::Time(text) => fill(w.no_time, &[text]).into(),
        search::Wrong::Op(text) => fill(w.no_op, &[text]).into(),
    }
}

/// Says how far the chain is vouched for, and by whom how far.
fn vouch(vouched: &Vouched, lang: Lang) -> (String, Option<Shown>) {
    let w = Audit::of(lang);
    let Vouched { own, followed, signed } = vouched;
    if *followed == 0 {
        return (w.not_verified.to_owned(), None);
    }
    // What others have signed past what was followed here says nothing of the chain as it is here.
    let by = |(name, n): (&shared::name::Name, &u64)| (name.to_string(), (*n).min(*followed));
    let mut all: Vec<(String, u64)> = signed.iter().map(by).filter(|(_, n)| *n > 0).collect();
    let common = all.iter().map(|(_, n)| *n).min().unwrap_or(*followed);
    let count = all.len() as u64 + 1;
    all.insert(0, (own.to_string(), *followed));
    let summary = match count {
        1 => fill(w.verified_by_one, &[&number(common, lang), own.as_str()]),
        _ => fill(w.verified_by, &[&number(common, lang), &number(count, lang)]),
    };
    let each = all.iter().map(|(name, n)| format!("{name} {}", number(*n, lang)));
    let (mut each, more) = cut(each.collect(), MACHINES, lang);
    each.extend(more);
    let each = (count > 1).then(|| fill(w.each, &[&each.join(", ")]).into());
    (summary, each)
}

fn choices(chosen: &str, lang: Lang) -> Vec<Choice> {
    let w = Audit::of(lang);
    let names = [w.any, w.reads, w.writes, w.acts, w.applied];
    let known = OPS.iter().zip(names);
    let mut all: Vec<Choice> = known
        .map(|(op, name)| Choice {
            value: Shown::own(op),
            name: Shown::own(name),
            is_chosen: *op == chosen,
        })
        .collect();
    if !OPS.contains(&chosen) {
        all.push(Choice { value: chosen.into(), name: chosen.into(), is_chosen: true });
    }
    all
}

/// Returns the command that prints the same, and the one that proves it.
fn todo(filter: &Filter) -> String {
    let flags = [
        ("path", &filter.path),
        ("key", &filter.key),
        ("machine", &filter.machine),
        ("op", &filter.op),
        ("result", &filter.result),
        ("process", &filter.process),
        ("user", &filter.user),
        ("since", &filter.since),
        ("until", &filter.until),
    ];
    let given = flags.into_iter().filter(|(_, value)| !value.is_empty());
    let given = given.map(|(name, value)| format!(" --{name} {}", quoted(value)));
    let denied = if filter.denied { " --denied" } else { "" };
    let command = format!("vault audit log{}{denied}", given.collect::<String>());
    format!("`{}`; `vault audit verify`", command.replace('`', "'"))
}
