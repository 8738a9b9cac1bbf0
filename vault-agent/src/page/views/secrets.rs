//! `/secrets`: the tree, one folder at a time; and what is to be changed at its issuer soon. A
//! folder is listed by leaps over those below it, so that its cost is that of what is shown.

use std::ops::Bound;

use askama::Template;
use axum::http::StatusCode;
use host::shown::Shown;
use shared::log::{Secret, State};
use shared::path::SecretPath;

use super::rotation::{Due, due};
use crate::page::answer::html;
use crate::page::frame::{Frame, Screen, Viewed};
use crate::page::href::Href;
use crate::page::parts::{When, and_more, cut, line};
use crate::page::site::Visit;
use crate::page::words::{Words, catalogue, fill};

/// Names of one folder that are shown at a time.
const MOST: usize = 200;
/// Secrets that are due for rotation and shown.
const DUE: usize = 20;
/// Secrets that are counted as left over; there are more than anybody turns pages through.
const COUNTED: usize = 100_000;

catalogue! {
    /// Words of the tree.
    Tree:
    top = "All mounts", "Alle Mounts";
    folder = "Folder", "Ordner";
    name = "Name", "Name";
    newest = "Newest version", "Neueste Version";
    written = "Written", "Geschrieben";
    empty = "There is no secret here.", "Hier ist kein Geheimnis.";
    due = "To be changed at their issuers", "Bei ihren Ausstellern zu ändern";
    due_caption = "Secrets whose rotate_after is near, over or malformed",
        "Geheimnisse, deren rotate_after nah, vorbei oder fehlerhaft ist";
    when = "When", "Wann";
    issuer = "Issuer", "Aussteller";
    owner = "Who changes it", "Wer es ändert";
    caption = "Folders and secrets below {}", "Ordner und Geheimnisse unter {}";
    where_you_are = "Where you are", "Wo man ist";
    deleted = "deleted", "gelöscht";
    destroyed = "destroyed", "vernichtet";
    todo = "`vault kv list secret/`, `vault kv find NAME`, `vault rotate-due`",
        "`vault kv list secret/`, `vault kv find NAME`, `vault rotate-due`";
}

/// A step of the way to where one is.
#[derive(Debug)]
struct Step {
    name: Shown,
    href: Href,
}

/// What stands in a folder.
#[derive(Debug)]
struct Row {
    name: Shown,
    href: Href,
    is_folder: bool,
    /// The newest version, and what became of it.
    newest: Shown,
    written: Option<When>,
    by: Shown,
}

#[derive(Template)]
#[template(path = "page/secrets.html")]
struct SecretsPage {
    frame: Frame,
    t: &'static Words,
    w: &'static Tree,
    below: Shown,
    caption: Shown,
    steps: Vec<Step>,
    rows: Vec<Row>,
    more: Option<String>,
    next: Option<Href>,
    due: Vec<Due>,
    more_due: Option<String>,
}

/// One name in a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Child {
    /// The path of a folder, with the slash at its end.
    Folder(String),
    /// The path of a secret.
    Secret(String),
}

impl Child {
    fn path(&self) -> &str {
        match self {
            Self::Folder(path) | Self::Secret(path) => path,
        }
    }
}

/// Shows a folder.
pub(in crate::page) fn show(visit: &Visit<'_>) -> Viewed {
    let Visit { lang, .. } = *visit;
    let below = visit.query.get("below").unwrap_or_default();
    // A folder ends with a slash; the top is above all mounts.
    let below = if below.is_empty() || below.ends_with('/') {
        below.to_owned()
    } else {
        format!("{below}/")
    };
    let after = visit.query.get("after").unwrap_or_default();
    let engine = &visit.site.engine;
    let ages = engine.time_for_ages();
    let (rows, last, left) = engine.state(|state| {
        let (children, left) = children(state, &below, after, MOST);
        let rows: Vec<Row> =
            children.iter().map(|it| row(state, it, &below, visit, ages)).collect();
        (rows, children.last().map(|it| it.path().to_owned()), left)
    });
    let next = last.filter(|_| left > 0);
    let next = next.map(|last| folder(&below).with("after", &last));
    let due = if below.is_empty() && after.is_empty() { due(visit) } else { Vec::new() };
    let (due, more_due) = cut(due, DUE, lang);
    let (t, w) = (Words::of(lang), Tree::of(lang));
    let shown = if below.is_empty() { Shown::own(w.top) } else { (&below).into() };
    let page = SecretsPage {
        frame: Frame::new(visit, Screen::Secrets, t.secrets, w.todo).live(),
        t,
        w,
        caption: Shown::line(fill(w.caption, &[&shown])),
        below: shown,
        steps: steps(&below),
        rows,
        more: and_more(left, lang),
        next,
        due,
        more_due,
    };
    Ok(html(StatusCode::OK, &page))
}

fn folder(below: &str) -> Href {
    Href::own("/secrets").with("below", below)
}

fn steps(below: &str) -> Vec<Step> {
    let ends = below.match_indices('/').map(|(at, _)| at);
    let mut begin = 0;
    ends.take(32)
        .map(|end| {
            let step = Step { name: below[begin..=end].into(), href: folder(&below[..=end]) };
            begin = end + 1;
            step
        })
        .collect()
}

/// Lists what stands directly below a prefix, after a path, `most` of it; and counts the secrets
/// that are left.
pub(super) fn children(state: &State, below: &str, after: &str, most: usize) -> (Vec<Child>, u64) {
    let mut found = Vec::new();
    // Behind a folder is what begins with the character behind the slash.
    let behind = |path: &str| match path.strip_suffix('/') {
        Some(folder) => Bound::Included(format!("{folder}0")),
        None => Bound::Excluded(path.to_owned()),
    };
    let mut from = match after.starts_with(below) && after.len() > below.len() {
        true => behind(after),
        false => Bound::Included(below.to_owned()),
    };
    let all = state.secrets();
    loop {
        let range = (from.as_ref().map(String::as_str), Bound::Unbounded);
        let mut rest = all.range::<str, _>(range).map(|(path, _)| path.as_str());
        let Some(path) = rest.next().filter(|path| path.starts_with(below)) else {
            return (found, 0);
        };
        if found.len() >= most {
            let left = rest.take_while(|path| path.starts_with(below)).take(COUNTED).count();
            return (found, left as u64 + 1);
        }
        let name = &path[below.len()..];
        let child = match name.find('/') {
            Some(at) => Child::Folder(path[..=below.len() + at].to_owned()),
            None => Child::Secret(path.to_owned()),
        };
        from = behind(child.path());
        found.push(child);
    }
}

fn row(
    state: &State,
    child: &Child,
    below: &str,
    visit: &Visit<'_>,
    ages: shared::time::Time,
) -> Row {
    let path = child.path();
    let name = Shown::from(&path[below.len()..]);
    let is_folder = matches!(child, Child::Folder(_));
    let href = if is_folder { folder(path) } else { Href::below("/secret", path) };
    let mut row = Row {
        name,
        href,
        is_folder,
        newest: Shown::default(),
        written: None,
        by: Shown::default(),
    };
    let secret: Option<SecretPath> = path.parse().ok().filter(|_| !is_folder);
    let current = secret.as_ref().and_then(|path| state.secret(path)).and_then(Secret::current);
    if let Some((ver, version)) = current {
        let w = Tree::of(visit.lang);
        row.newest = match (version.destroyed, version.is_live(ages)) {
            (true, _) => Shown::line(format_args!("v{ver} ({})", w.destroyed)),
            (_, true) => Shown::line(format_args!("v{ver}")),
            (_, false) => Shown::line(format_args!("v{ver} ({})", w.deleted)),
        };
        row.written = Some(When::new(version.created, visit.now, visit.lang));
        row.by = line(&version.by);
    }
    row
}
