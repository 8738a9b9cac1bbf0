//! `/secret/PATH`: names of its keys, its versions, who can read it and who did, whether it is due
//! for rotation or known to a machine that is out. A value is shown by a form alone, and read for
//! that as any program reads it.

use std::collections::BTreeMap;

use askama::Template;
use axum::http::StatusCode;
use host::shown::{Shown, quoted};
use shared::audit::Op;
use shared::log::{Machine, Number, Secret, State, Version};
use shared::path::SecretPath;
use shared::time::Time;

use super::opened::{self, Opened, open};
use super::readers;
use super::reads::{self, Reads};
use super::rotation::Day;
use crate::page::answer::html;
use crate::page::frame::{Fault, Frame, Screen, Viewed};
use crate::page::href::{Fields, Href};
use crate::page::parts::{When, cut, line};
use crate::page::records::Row;
use crate::page::site::Visit;
use crate::page::words::{Words, catalogue, fill};
use machine::local::Removed;

/// Keys, versions and machines that are shown.
const MOST: usize = 200;
/// Largest value that is shown, in characters.
const LONGEST: usize = 64 << 10;

catalogue! {
    /// Words of one secret.
    One:
    newest = "Newest version", "Neueste Version";
    written = "Written", "Geschrieben";
    due = "Rotation", "Rotation";
    not_set = "rotate_after is not set", "rotate_after ist nicht gesetzt";
    issuer = "Issuer", "Aussteller";
    owner = "Who changes it", "Wer es ändert";
    folder = "Folder", "Ordner";
    keys = "Keys", "Schlüssel";
    keys_caption = "Names of the keys in version {}", "Namen der Schlüssel in Version {}";
    key = "Key", "Schlüssel";
    value = "Value", "Wert";
    show = "Show", "Zeigen";
    show_of = "Show the value of {}", "Wert von {} zeigen";
    audited = "Showing a value is a read: it stands in the audit log under your name.",
        "Einen Wert zu zeigen ist ein Lesen: Es steht unter dem eigenen Namen im Protokoll.";
    was_audited = "This read stands in the audit log.", "Dieses Lesen steht im Protokoll.";
    cut_value = "The value is longer: only its beginning stands here.",
        "Der Wert ist länger: Hier steht nur sein Anfang.";
    no_keys = "This version has no keys.", "Diese Version hat keine Schlüssel.";
    gone = "The newest version is deleted or destroyed.",
        "Die neueste Version ist gelöscht oder vernichtet.";
    denied = "This host may not read it. An admin gives the right with",
        "Dieses System darf es nicht lesen. Ein Admin gibt das Recht mit";
    unavailable = "It cannot be opened now: {}", "Es lässt sich jetzt nicht öffnen: {}";
    versions = "Versions", "Versionen";
    state = "State", "Zustand";
    live = "there", "vorhanden";
    deleted = "deleted", "gelöscht";
    destroyed = "destroyed", "vernichtet";
    can_read = "Who can read it", "Wer es lesen kann";
    nobody = "No machine can; the recovery kit can.", "Kein System; das Wiederherstellungs-Kit kann es.";
    did_read = "Who read it", "Wer es gelesen hat";
    reads_caption = "The newest reads, by whichever way it was delivered",
        "Die neuesten Lesevorgänge, auf welchem Weg auch immer";
    who = "Who", "Wer";
    reason = "reason", "Grund";
    result = "Result", "Ergebnis";
    never_read = "It was never read, as far as the audit log goes back.",
        "Es wurde nie gelesen, soweit das Protokoll zurückreicht.";
    all_records = "All its records", "Alle Zeilen darüber";
    hours = "At which hours it is read", "Zu welchen Stunden es gelesen wird";
    no_audit = "This host may not see the audit log. An admin gives the right with",
        "Dieses System darf das Protokoll nicht sehen. Ein Admin gibt das Recht mit";
    reads_unknown = "The audit log cannot be asked: {}", "Das Protokoll lässt sich nicht fragen: {}";
    known_to_gone = "Known to removed machines", "Entfernten Systemen bekannt";
    known_text = "They could read the value that is in use. Change it at its issuer.",
        "Sie konnten den Wert lesen, der in Gebrauch ist. Beim Aussteller ändern.";
    todo = "`vault kv get {}`, `vault kv history {}`, `vault audit log --path {}`",
        "`vault kv get {}`, `vault kv history {}`, `vault audit log --path {}`";
}

/// One version.
#[derive(Debug)]
struct VersionRow {
    ver: u64,
    when: When,
    by: Shown,
    state: &'static str,
}

/// A machine that is out and knows it.
#[derive(Debug)]
struct Knower {
    name: Shown,
    href: Href,
    when: When,
}

/// What the log says of a secret.
struct Told {
    newest: u64,
    created: Option<Time>,
    versions: Vec<VersionRow>,
    texts: BTreeMap<String, String>,
    day: Option<Day>,
    readers: Vec<Shown>,
    names: BTreeMap<Number, Machine>,
}

/// A key, and how its value is asked for.
#[derive(Debug)]
struct KeyRow {
    name: Shown,
    /// What the form sends: the very name.
    field: String,
    label: Shown,
}

#[derive(Template)]
#[template(path = "page/secret.html")]
struct SecretPage {
    frame: Frame,
    t: &'static Words,
    w: &'static One,
    path: Shown,
    action: Href,
    folder: Href,
    folder_name: Shown,
    newest: u64,
    age: Option<When>,
    day: Option<Shown>,
    is_due: bool,
    issuer: Option<Shown>,
    owner: Option<Shown>,
    keys: Vec<KeyRow>,
    more_keys: Option<String>,
    keys_caption: Shown,
    /// Why there are no keys, and the command that would change that.
    no_keys: Option<(Shown, Option<Shown>)>,
    versions: Vec<VersionRow>,
    more_versions: Option<String>,
    readers: Vec<Shown>,
    more_readers: Option<String>,
    reads: Vec<Row>,
    no_reads: Option<(Shown, Option<Shown>)>,
    audit: Href,
    hours: Href,
    knowers: Vec<Knower>,
}

/// Shows a secret, without its values.
pub(in crate::page) async fn show(visit: &Visit<'_>, path: &str) -> Viewed {
    let path: SecretPath = path.parse().map_err(|_| Fault::Missing)?;
    let told = told(visit, &path).ok_or(Fault::Missing)?;
    let engine = &visit.site.engine;
    let (opened, reads) =
        tokio::join!(open(visit, &path, told.newest, Op::LocalSubkeys), reads::of(visit, &path));
    Ok(html(StatusCode::OK, &page(visit, &path, told, (opened?, reads, &engine.removed()))))
}

/// What the log says of a secret; `None` if there is none.
fn told(visit: &Visit<'_>, path: &SecretPath) -> Option<Told> {
    let engine = &visit.site.engine;
    let (ages, w) = (engine.time_for_ages(), One::of(visit.lang));
    engine.state(|state: &State| {
        let secret: &Secret = state.secret(path)?;
        let row = |(ver, version): (u64, &Version)| VersionRow {
            ver,
            when: When::new(version.created, visit.now, visit.lang),
            by: line(&version.by),
            state: match (version.destroyed, version.is_live(ages)) {
                (true, _) => w.destroyed,
                (_, true) => w.live,
                (_, false) => w.deleted,
            },
        };
        let active = state.machines().values().filter(|it| it.active && it.read.cover(path));
        let texts = secret.custom.texts();
        let is_out = |(_, machine): &(&Number, &Machine)| !machine.active;
        let out = state.machines().iter().filter(is_out);
        Some(Told {
            newest: secret.last,
            created: secret.current().map(|(_, version)| version.created),
            versions: secret.versions().rev().map(row).collect(),
            day: Day::of(secret, &texts, ages),
            texts,
            readers: active.map(|it| line(&it.name)).collect(),
            names: out.map(|(number, machine)| (*number, machine.clone())).collect(),
        })
    })
}

fn page(
    visit: &Visit<'_>,
    path: &SecretPath,
    told: Told,
    (opened, reads, removed): (Opened, Reads, &[Removed]),
) -> SecretPage {
    let Visit { lang, now, .. } = *visit;
    let (t, w) = (Words::of(lang), One::of(lang));
    let knowers = knowers(visit, path, &told, removed);
    let Told { newest, created, versions, mut texts, day, readers, .. } = told;
    let (keys, no_keys) = keys(opened, w);
    let (keys, more_keys) = cut(keys, MOST, lang);
    let (reads, no_reads) = match reads {
        Reads::Known(reads) => {
            let never = reads.is_empty().then(|| (Shown::own(w.never_read), None));
            (reads, never)
        }
        Reads::Denied => {
            let command = "vault access set NAME --read …,sys/audit";
            (Vec::new(), Some((Shown::own(w.no_audit), Some(Shown::own(command)))))
        }
        Reads::Unknown(why) => {
            let text = Shown::line(fill(w.reads_unknown, &[&why]));
            (Vec::new(), Some((text, None)))
        }
    };
    let shell = quoted(path.as_str());
    let (versions, more_versions) = cut(versions, MOST, lang);
    let (readers, more_readers) = cut(readers, MOST, lang);
    let folder = path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
    let folder = format!("{folder}/");
    SecretPage {
        frame: Frame::new(
            visit,
            Screen::Secrets,
            line(path),
            &fill(w.todo, &[&shell, &shell, &shell]),
        ),
        t,
        w,
        path: line(path),
        action: Href::below("/secret", path.as_str()),
        folder: Href::own("/secrets").with("below", &folder),
        folder_name: folder.into(),
        newest,
        age: created.map(|at| When::new(at, now, lang)),
        is_due: day.as_ref().is_some_and(|day| day.is_near(now)),
        day: day.map(|day| day.words(now, lang)),
        issuer: texts.remove("issuer").map(Shown::from),
        owner: texts.remove("owner").map(Shown::from),
        keys,
        more_keys,
        keys_caption: Shown::line(fill(w.keys_caption, &[&newest.to_string()])),
        no_keys,
        versions,
        more_versions,
        readers,
        more_readers,
        reads,
        no_reads,
        audit: Href::own("/audit").with("path", path.as_str()),
        hours: readers::of_secret(path.as_str()),
        knowers,
    }
}

type NoKeys = Option<(Shown, Option<Shown>)>;

fn keys(opened: Opened, w: &One) -> (Vec<KeyRow>, NoKeys) {
    let none =
        |text: Shown, command: Option<String>| (Vec::new(), Some((text, command.map(Shown::from))));
    match opened {
        Opened::Content(content) => {
            let names = opened::keys(&content).unwrap_or_default();
            if names.is_empty() {
                return none(Shown::own(w.no_keys), None);
            }
            let row = |field: String| KeyRow {
                name: (&field).into(),
                label: Shown::line(fill(w.show_of, &[&field])),
                field,
            };
            (names.into_iter().map(row).collect(), None)
        }
        Opened::Gone => none(Shown::own(w.gone), None),
        Opened::Denied(command) => none(Shown::own(w.denied), Some(command)),
        Opened::Unavailable(why) => none(Shown::line(fill(w.unavailable, &[&why])), None),
    }
}

/// Names the machines that could read the newest version and are out since; what exactly each has
/// read, its own screen says.
fn knowers(visit: &Visit<'_>, path: &SecretPath, told: &Told, removed: &[Removed]) -> Vec<Knower> {
    let knows = |it: &&Removed| {
        let had = told.names.get(&it.number).is_some_and(|machine| machine.read.cover(path));
        it.goes_on.is_none() && had && told.created.is_some_and(|created| created <= it.time)
    };
    let knower = |it: &Removed| Knower {
        name: told.names.get(&it.number).map(|machine| line(&machine.name)).unwrap_or_default(),
        href: Href::own("/machines/exposed").with("machine", &it.number.to_string()),
        when: When::new(it.time, visit.now, visit.lang),
    };
    removed.iter().rev().filter(knows).take(MOST).map(knower).collect()
}

#[derive(Template)]
#[template(path = "page/value.html")]
struct ValuePage {
    frame: Frame,
    t: &'static Words,
    w: &'static One,
    path: Shown,
    key: Shown,
    ver: u64,
    back: Href,
    value: Option<Shown>,
    is_cut: bool,
    /// Why there is no value, and the command that would change that.
    why: Option<(Shown, Option<Shown>)>,
}

/// Shows the value of one key: a read by whom the page was opened for.
pub(in crate::page) async fn reveal(visit: &Visit<'_>, path: &str, form: &Fields) -> Viewed {
    let path: SecretPath = path.parse().map_err(|_| Fault::Missing)?;
    let key = form.get("key").ok_or(Fault::Missing)?;
    let told = told(visit, &path).ok_or(Fault::Missing)?;
    let opened = open(visit, &path, told.newest, Op::LocalRead).await?;
    let (t, w) = (Words::of(visit.lang), One::of(visit.lang));
    let (mut value, mut is_cut, mut why) = (None, false, None);
    match opened {
        Opened::Content(content) => match opened::value(&content, key) {
            Some(text) => {
                let end = text.char_indices().nth(LONGEST).map(|(at, _)| at);
                is_cut = end.is_some();
                value = Some(Shown::text(&text[..end.unwrap_or(text.len())]));
            }
            None => return Err(Fault::Missing),
        },
        other => (_, why) = keys(other, w),
    }
    let back = Href::below("/secret", path.as_str());
    let shell = quoted(path.as_str());
    let todo = format!("`vault kv get -field={} {shell}`", quoted(key));
    let page = ValuePage {
        frame: Frame::new(visit, Screen::Secrets, line(&path), &todo),
        t,
        w,
        path: line(&path),
        key: key.into(),
        ver: told.newest,
        back,
        value,
        is_cut,
        why,
    };
    Ok(html(StatusCode::OK, &page))
}
