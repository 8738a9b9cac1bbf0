//! What is to be changed at its issuer, and when, by what secrets' custom metadata say.

use std::collections::BTreeMap;

use host::shown::Shown;
use shared::duration;
use shared::grant::Grants;
use shared::log::Secret;
use shared::path::SecretPath;
use shared::time::Time;

use crate::page::href::Href;
use crate::page::parts::{When, line};
use crate::page::site::Visit;
use crate::page::words::{Lang, catalogue, fill};

/// How long before the day it is told, in microseconds: 14 days.
const SOON: u64 = 14 * 86_400 * 1_000_000;
/// Secrets that are looked at for it: a page is no scan of the vault.
const LOOKED_AT: usize = 20_000;

catalogue! {
    /// Words of rotation.
    Rotations:
    overdue = "overdue {}", "überfällig {}";
    due = "due in {}", "fällig in {}";
    malformed = "rotate_after is malformed: {}", "rotate_after ist fehlerhaft: {}";
}

/// A secret that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) path: Shown,
    pub(super) href: Href,
    pub(super) when: Shown,
    pub(super) issuer: Shown,
    pub(super) owner: Shown,
}

/// When a secret is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Day {
    /// What stands there is neither a duration nor a date.
    Malformed(String),
    /// This time.
    At(Time),
}

impl Day {
    /// Reads a secret's; `None` where nobody has said one, or no version is there to be changed.
    pub(super) fn of(secret: &Secret, texts: &BTreeMap<String, String>, now: Time) -> Option<Self> {
        let text = texts.get("rotate_after")?.trim();
        let (_, newest) = secret.current()?;
        let created = newest.is_live(now).then_some(newest.created)?;
        let at = match duration::parse(text) {
            Some(micros) => {
                let micros = u64::try_from(micros).ok().filter(|micros| *micros > 0);
                micros.map(|micros| created.plus(micros))
            }
            None => text.parse().ok(),
        };
        Some(at.map_or_else(|| Self::Malformed(text.to_owned()), Self::At))
    }

    /// Tells whether it is to be told: it is near, over, or none.
    pub(super) fn is_near(&self, now: Time) -> bool {
        match self {
            Self::Malformed(_) => true,
            Self::At(at) => *at <= now.plus(SOON),
        }
    }

    /// Says when.
    pub(super) fn words(&self, now: Time, lang: Lang) -> Shown {
        let w = Rotations::of(lang);
        Shown::line(match self {
            Self::Malformed(text) => fill(w.malformed, &[text]),
            Self::At(at) if *at <= now => fill(w.overdue, &[&When::new(*at, now, lang).ago]),
            Self::At(at) => fill(w.due, &[&lang.age(at.seconds_since(now))]),
        })
    }
}

/// Returns what this machine reads and is due, the most urgent first.
pub(super) fn due(visit: &Visit<'_>) -> Vec<Due> {
    let (now, lang) = (visit.now, visit.lang);
    let engine = &visit.site.engine;
    let read: Grants = engine.own(|_, own| own.read.clone()).unwrap_or_default();
    let mut found: Vec<(Day, SecretPath, BTreeMap<String, String>)> = engine.state(|state| {
        let due = |(path, secret): (&SecretPath, &Secret)| {
            if secret.custom.is_empty() || !read.cover(path) {
                return None;
            }
            let texts = secret.custom.texts();
            let day = Day::of(secret, &texts, now).filter(|day| day.is_near(now))?;
            Some((day, path.clone(), texts))
        };
        state.secrets().iter().take(LOOKED_AT).filter_map(due).collect()
    });
    found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let shown = found.into_iter().map(|(day, path, mut texts)| Due {
        href: Href::below("/secret", &path.to_string()),
        path: line(&path),
        when: day.words(now, lang),
        issuer: texts.remove("issuer").unwrap_or_default().into(),
        owner: texts.remove("owner").unwrap_or_default().into(),
    });
    shown.collect()
}
