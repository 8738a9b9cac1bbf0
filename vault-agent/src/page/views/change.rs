//! `/change/SEQ`: one entry of the log, and how it went from host to host: signed, stored,
//! delivered, in its file, hook started, hook ended; as lanes on one time axis, and as a table.

mod lanes;

use anyhow::Result;
use askama::Template;
use axum::http::StatusCode;
use host::shown::{Shown, quoted};
use shared::audit::{Op, Record};
use shared::error::Error;
use shared::log::State;
use shared::name::Actor;
use shared::path::SecretPath;
use shared::time::Time;

use crate::engine::Engine;
use crate::page::answer::html;
use crate::page::frame::{Fault, Frame, Screen, Viewed};
use crate::page::href::Href;
use crate::page::parts::{When, and_more, number};
use crate::page::records::{Known, deed, read};
use crate::page::site::Visit;
use crate::page::words::{Lang, Words, catalogue, fill};
use lanes::{Chart, Run, Track};
use machine::local::{AuditQuery, EntriesQuery, EntryTold, OpTold};

/// Records that are looked through: of versions that were written, and of what became of them.
const FEW: u64 = 50;
const LOOKED: u64 = 1_000;
/// Hosts that are shown.
const SHOWN: usize = 100;
/// How far the clocks of signer and server may be apart, in microseconds: what was stored is looked
/// for from there on.
const APART: u64 = 15 * 60 * 1_000_000;

catalogue! {
    /// Words of a change.
    Change:
    title = "Change {}", "Änderung {}";
    signed = "Signed", "Unterschrieben";
    by = "by {}", "von {}";
    stored = "Stored", "Gespeichert";
    not_stored = "The audit log does not tell when the server stored it.",
        "Das Protokoll sagt nicht, wann der Server sie gespeichert hat.";
    what = "What it did", "Was sie tat";
    rewraps = "re-encrypted {} versions for their readers", "{} Versionen für ihre Leser neu verschlüsselt";
    way = "How {} went to the hosts", "Wie {} zu den Hosts ging";
    caption = "Each step, by how long after signing it was done",
        "Jeder Schritt: wie lange nach der Unterschrift er getan war";
    chart = "Lanes of the hosts on one time axis; the table below says the same.",
        "Spuren der Hosts auf einer Zeitachse; die Tabelle darunter sagt dasselbe.";
    clocks = "Each step is told by the clock of who did it: signer, server, host. The axis is logarithmic.",
        "Jeden Schritt misst die Uhr dessen, der ihn tat: Unterzeichner, Server, Host. Die Achse ist logarithmisch.";
    file = "File", "Datei";
    delivered = "Delivered", "Zugestellt";
    in_file = "In its file", "In der Datei";
    hook_began = "Hook started", "Anstoß begonnen";
    hook_ended = "Hook ended", "Anstoß beendet";
    hook_ok = "ok", "ok";
    hook_failed = "failed", "gescheitert";
    not_yet = "not yet", "noch nicht";
    its_own = "wrote it", "schrieb sie";
    no_hosts = "No host has been sent it.", "Kein Host hat sie bekommen.";
    earlier = "Change before", "Änderung davor";
    later = "Change after", "Änderung danach";
    more_hosts = "hosts not shown: {}", "Hosts nicht gezeigt: {}";
    not_known = "The way to the hosts is not known now: {}", "Der Weg zu den Hosts ist jetzt nicht bekannt: {}";
    other_secrets = "This change has other secrets, too:", "Diese Änderung hat noch andere Geheimnisse:";
}

/// One operation.
#[derive(Debug)]
struct Done {
    deed: Shown,
    secret: Option<(Href, Shown)>,
    /// `v12`.
    version: Option<String>,
    /// In English, as the log is told, where that says more.
    what: Option<Shown>,
}

/// The way of one version to the hosts.
#[derive(Debug)]
struct Way {
    title: Shown,
    stored: Option<lanes::Moment>,
    chart: Chart,
    more: Option<String>,
}

#[derive(Template)]
#[template(path = "page/change.html")]
struct ChangePage {
    frame: Frame,
    t: &'static Words,
    w: &'static Change,
    title: String,
    signed: When,
    by: Shown,
    done: Vec<Done>,
    rewraps: Option<String>,
    more: Option<String>,
    way: Option<Way>,
    /// Why the way is not known.
    unknown: Option<Shown>,
    others: Vec<(Href, Shown)>,
    earlier: Option<Href>,
    later: Option<Href>,
}

/// Shows a change.
pub(in crate::page) async fn show(visit: &Visit<'_>, seq: &str) -> Viewed {
    let Visit { lang, now, site, .. } = *visit;
    let (t, w) = (Words::of(lang), Change::of(lang));
    let seq: u64 = seq.parse().map_err(|_| Fault::Missing)?;
    let only = Some(seq.to_string());
    let query = EntriesQuery { only, ..EntriesQuery::default() };
    let told = site.engine.entries(query).await.map_err(Fault::broken)?;
    let entry = told.entries.first().ok_or(Fault::Missing)?;
    let asked = visit.query.get("path").map(str::parse::<SecretPath>);
    let asked = asked.transpose().map_err(|_: Error| Fault::Missing)?;
    let brought = |it: &&OpTold| it.path.is_some() && it.ver.is_some();
    let mut versions = entry.ops.iter().filter(brought);
    let chosen = versions.clone().find(|it| it.path == asked).or_else(|| versions.next());
    let way = match chosen {
        Some(OpTold { path: Some(path), ver: Some(ver), .. }) => {
            Some(way(&site.engine, entry, (path, *ver), lang).await)
        }
        _ => None,
    };
    let (way, unknown) = match way.transpose() {
        Ok(way) => (way, None),
        Err(why) => (None, Some(fill(w.not_known, &[&format!("{why:#}")]).into())),
    };
    let others =
        entry.ops.iter().filter(brought).filter(|it| chosen.is_some_and(|of| it.path != of.path));
    let others = others.filter_map(|it| it.path.as_ref());
    let others = others.map(|path| (of_secret(seq, path), Shown::line(path))).collect();
    let todo = match chosen.and_then(|it| it.path.as_ref()) {
        Some(path) => {
            let path = quoted(path.as_str());
            format!("`vault log show {seq}`; `vault kv history {path}`; `vault kv diff {path}`")
        }
        None => format!("`vault log show {seq}`"),
    };
    let title = fill(w.title, &[&seq.to_string()]);
    let page = ChangePage {
        frame: Frame::new(visit, Screen::Fleet, title.clone(), &todo),
        t,
        w,
        title,
        signed: When::new(entry.time, now, lang),
        by: fill(w.by, &[&entry.by.to_string()]).into(),
        done: entry.ops.iter().map(|it| done(it, lang)).collect(),
        rewraps: (entry.rewraps > 0).then(|| fill(w.rewraps, &[&number(entry.rewraps, lang)])),
        more: and_more(entry.more, lang),
        way,
        unknown,
        others,
        earlier: seq.checked_sub(1).map(of_change),
        later: (seq < told.last).then(|| of_change(seq + 1)),
    };
    Ok(html(StatusCode::OK, &page))
}

fn of_change(seq: u64) -> Href {
    Href::below("/change", &seq.to_string())
}

fn of_secret(seq: u64, path: &SecretPath) -> Href {
    of_change(seq).with("path", path.as_str())
}

fn done(told: &OpTold, lang: Lang) -> Done {
    let secret = told.path.as_ref();
    let is_put = told.op == "put" && secret.is_some() && told.ver.is_some();
    Done {
        deed: deed(&Op::from(told.op.as_str()), lang),
        version: told.ver.filter(|_| is_put).map(|ver| format!("v{ver}")),
        what: (!is_put).then(|| told.what.as_str().into()),
        secret: secret.map(|path| (Href::below("/secret", path.as_str()), Shown::line(path))),
    }
}

/// Finds how a version went to the hosts, as the audit log tells.
async fn way(
    engine: &Engine,
    entry: &EntryTold,
    (path, ver): (&SecretPath, u64),
    lang: Lang,
) -> Result<Way> {
    let since = entry.time.as_micros().saturating_sub(APART);
    let query = AuditQuery {
        since: Some(Time::from_micros(since)),
        path: Some(path.to_string()),
        ..AuditQuery::default()
    };
    let ask = |op: &str, limit| {
        let (op, limit) = (Some(Op::from(op)), Some(limit));
        engine.audit(AuditQuery { op, limit, ..query.clone() })
    };
    let (put, rewrap) = (ask("put", FEW), ask("rewrap", FEW));
    let (reads, files) = (ask("read", LOOKED), ask("applied", LOOKED));
    let (put, rewrap, reads, files) = tokio::try_join!(put, rewrap, reads, files)?;
    let mut records = Vec::new();
    for page in [put, rewrap, reads, files] {
        records.extend(read(page)?);
    }
    // A `*` in a name stands for any text there.
    records.retain(|record| record.fact.path.as_ref() == Some(path));
    let known = Known::of(engine, &records).await?;
    let mut tracks = engine.state(|state| expected(state, entry, path));
    let mut stored = None;
    for record in &records {
        let fact = &record.fact;
        let is_it = fact.seq == Some(entry.seq);
        match fact.op {
            Op::Put | Op::Rewrap if is_it => stored = stored.or(Some(record.time)),
            Op::Deliver | Op::Read if is_it || (fact.seq.is_none() && fact.ver == Some(ver)) => {
                let track = Track::of(&mut tracks, &known.machine(fact, lang));
                track.delivered = track.delivered.or(Some(record.time));
            }
            _ => {
                if fact.ver == Some(ver) {
                    applied(&mut tracks, &known, record, lang);
                }
            }
        }
    }
    tracks.sort_by(|a, b| (&a.host, &a.file).cmp(&(&b.host, &b.file)));
    let more = tracks.len().saturating_sub(SHOWN) as u64;
    tracks.truncate(SHOWN);
    let w = Change::of(lang);
    let scale = lanes::Scale::of(entry.time, stored, &tracks);
    Ok(Way {
        title: fill(w.way, &[&format!("{path} v{ver}")]).into(),
        stored: stored.map(|at| scale.moment(at)),
        chart: scale.chart(stored, &tracks),
        more: (more > 0).then(|| fill(w.more_hosts, &[&number(more, lang)])),
    })
}

/// Returns the hosts that the version is for: those that may read it now.
fn expected(state: &State, entry: &EntryTold, path: &SecretPath) -> Vec<Track> {
    let machines = state.machines().values();
    let readers = machines.filter(|it| it.active && it.read.cover(path)).take(SHOWN * 2);
    let track = |name| {
        let is_writer = matches!(&entry.by, Actor::Machine(by) if by == name);
        Track { is_writer, ..Track::new(Shown::line(name)) }
    };
    readers.map(|it| track(&it.name)).collect()
}

/// Takes up what a host tells of one of its files.
fn applied(tracks: &mut Vec<Track>, known: &Known, record: &Record, lang: Lang) {
    let fact = &record.fact;
    let Some(applied) = &fact.applied else { return };
    let run = applied.hook.as_ref().map(|hook| Run {
        began: hook.began,
        ended: hook.ended,
        failed: hook.failed.as_ref().map(Shown::line),
    });
    let host = known.machine(fact, lang);
    let file = Shown::line(&applied.file);
    let track = Track::with_file(tracks, &host, file);
    if track.renamed.is_none() {
        (track.renamed, track.hook) = (fact.at.or(Some(record.time)), run);
    }
}
