//! `/machines/exposed`: every key that a machine could read, and what has become of it. Whose key
//! names are shown is on record then, as for `vault machine exposed`.

use std::collections::BTreeMap;

use askama::Template;
use axum::http::StatusCode;
use host::shown::Shown;
use shared::audit::{Fact, Op};
use shared::error::{Code, Error};
use shared::path::SecretPath;

use crate::page::answer::html;
use crate::page::frame::{Fault, Frame, Screen, Viewed};
use crate::page::href::Href;
use crate::page::parts::{When, cut, line};
use crate::page::site::Visit;
use crate::page::words::{Words, catalogue, fill};
use machine::local::{Exposed, ExposedKey, Exposure, KeyNow};

/// Keys that are shown.
const MOST: usize = 1_000;

catalogue! {
    /// Words of the exposed keys.
    Keys:
    title = "What {} could read", "Was {} lesen konnte";
    left = "{} keys are still in use: change them at their issuers",
        "{} Schlüssel sind noch in Gebrauch: bei ihren Ausstellern ändern";
    none_left = "None of these keys is in use any more.",
        "Keiner dieser Schlüssel ist noch in Gebrauch.";
    nothing = "It could read nothing.", "Es konnte nichts lesen.";
    secret = "Secret", "Geheimnis";
    key = "Key", "Schlüssel";
    issuer = "Issuer", "Aussteller";
    in_use = "still in use", "noch in Gebrauch";
    changed = "changed in v{}", "geändert in v{}";
    gone = "gone since v{}", "fort seit v{}";
    deleted = "secret deleted", "Geheimnis gelöscht";
    not_judged = "not judged: {}", "nicht beurteilt: {}";
    unsearched = "{} secrets were not looked through for copies: they are not on this host.",
        "{} Geheimnisse wurden nicht nach Kopien durchsucht: Sie liegen nicht auf diesem System.";
    todo = "`vault machine exposed {}`", "`vault machine exposed {}`";
}

/// One key, or a secret of which none is known.
#[derive(Debug)]
struct Row {
    secret: Shown,
    href: Href,
    key: Shown,
    issuer: Shown,
    is_in_use: bool,
    now: Shown,
    when: Option<When>,
}

#[derive(Template)]
#[template(path = "page/exposed.html")]
struct ExposedPage {
    frame: Frame,
    t: &'static Words,
    w: &'static Keys,
    title: Shown,
    /// How many are still in use, in words.
    left: Option<Shown>,
    rows: Vec<Row>,
    more: Option<String>,
    unsearched: Option<Shown>,
}

/// Shows what a machine could read.
pub(in crate::page) async fn show(visit: &Visit<'_>) -> Viewed {
    let asked = visit.query.get("machine").filter(|asked| !asked.is_empty());
    let asked = asked.ok_or(Fault::Missing)?;
    let found = visit.site.engine.exposure(asked.to_owned()).await;
    let exposure = found.map_err(|why| match why.downcast_ref::<Error>() {
        Some(error) if error.code == Code::Missing => Fault::Missing,
        Some(_) | None => Fault::broken(why),
    })?;
    record(visit, &exposure).await?;
    let lang = visit.lang;
    let (t, w) = (Words::of(lang), Keys::of(lang));
    let name = exposure.names.last().map(|it| it.name.to_string()).unwrap_or_default();
    let rows: Vec<Row> = exposure.secrets.iter().flat_map(|it| rows(it, visit)).collect();
    let in_use = rows.iter().filter(|row| row.is_in_use).count();
    let (rows, more) = cut(rows, MOST, lang);
    let title = Shown::line(fill(w.title, &[&name]));
    let todo = fill(w.todo, &[&exposure.number.to_string()]);
    let unsearched = exposure.unsearched;
    let page = ExposedPage {
        frame: Frame::new(visit, Screen::Machines, &title, &todo),
        t,
        w,
        title,
        left: (in_use > 0).then(|| Shown::line(fill(w.left, &[&in_use.to_string()]))),
        rows,
        more,
        unsearched: (unsearched > 0)
            .then(|| Shown::line(fill(w.unsearched, &[&unsearched.to_string()]))),
    };
    Ok(html(StatusCode::OK, &page))
}

/// Notes whose keys are looked at.
async fn record(visit: &Visit<'_>, exposure: &Exposure) -> Result<(), Fault> {
    let keys = exposure.secrets.iter().flat_map(|secret| &secret.keys);
    let copies = keys.flat_map(|key| &key.copies).map(|copied| (copied.path.clone(), None));
    let mut looked_at: BTreeMap<SecretPath, Option<u64>> = copies.collect();
    let secrets = exposure.secrets.iter().filter(|secret| !secret.keys.is_empty());
    looked_at.extend(secrets.map(|it| (it.path.clone(), it.versions.last().copied())));
    for (path, ver) in looked_at {
        let looked = Fact {
            path: Some(path),
            ver,
            ..Fact::new(Op::LocalSubkeys).by(&visit.session.opener.by)
        };
        visit.site.engine.record(looked).await.map_err(Fault::broken)?;
    }
    Ok(())
}

fn rows(secret: &Exposed, visit: &Visit<'_>) -> Vec<Row> {
    let w = Keys::of(visit.lang);
    let row = |key: Shown, now: Shown| Row {
        secret: line(&secret.path),
        href: Href::below("/secret", &secret.path.to_string()),
        key,
        issuer: secret.issuer.as_ref().map(Shown::from).unwrap_or_default(),
        is_in_use: false,
        now,
        when: None,
    };
    if let Some(why) = &secret.unread {
        return vec![row(Shown::own("–"), Shown::line(fill(w.not_judged, &[why])))];
    }
    if secret.keys.is_empty() && !secret.empty {
        return vec![row(Shown::own("–"), Shown::own(w.deleted))];
    }
    let of = |ExposedKey { key, now, .. }: &ExposedKey| {
        let (words, time) = match now {
            KeyNow::InUse => (w.in_use.to_owned(), None),
            KeyNow::Changed { ver, time } => (fill(w.changed, &[&ver.to_string()]), Some(*time)),
            KeyNow::Gone { ver, time } => (fill(w.gone, &[&ver.to_string()]), Some(*time)),
            KeyNow::Deleted => (w.deleted.to_owned(), None),
        };
        let when = time.map(|time| When::new(time, visit.now, visit.lang));
        Row { is_in_use: *now == KeyNow::InUse, when, ..row(key.into(), words.into()) }
    };
    secret.keys.iter().map(of).collect()
}
