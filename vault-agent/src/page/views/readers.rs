//! `/readers`: which process read which secret, when first and when last, and what was never seen
//! before; for one secret at which hours of which days.

pub(super) mod heat;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use askama::Template;
use axum::http::StatusCode;
use host::shown::Shown;
use shared::audit::{Op, Outcome, Record};
use shared::time::Time;

use crate::engine::Engine;
use crate::page::answer::html;
use crate::page::frame::{Fault, Frame, Screen, Viewed};
use crate::page::href::Href;
use crate::page::parts::{When, and_more, cut, number};
use crate::page::records::{Known, read};
use crate::page::site::Visit;
use crate::page::words::{Lang, Words, catalogue, fill};
use heat::{Heat, Map};
use machine::local::AuditQuery;
use machine::who;

/// Records in one answer of the server, and answers that are looked through.
const LOOKED: u64 = 2_000;
const ANSWERS: usize = 4;
/// Readers that are shown.
const SHOWN: usize = 200;
/// Secrets to choose from.
const SECRETS: usize = 50;
/// Readers that are told apart; more are counted with the others.
const KEPT: usize = 10_000;
/// For how long a reader is new, in microseconds.
const NEW: u64 = 7 * 86_400 * 1_000_000;

catalogue! {
    /// Words of the readers.
    Readers:
    title = "Who reads", "Wer liest";
    caption = "Processes that read secrets on their hosts, the last first",
        "Prozesse, die auf ihren Hosts Geheimnisse lesen, der letzte zuerst";
    looked = "Of the newest {} reads by processes, since {}.",
        "Aus den neuesten {} Lesevorgängen von Prozessen, seit {}.";
    all_looked = "All {} reads by processes that the server holds.",
        "Alle {} Lesevorgänge von Prozessen, die der Server hat.";
    none = "No process has read a secret yet. Files that the agent keeps are read unseen.",
        "Noch hat kein Prozess ein Geheimnis gelesen. Dateien des Agenten werden ungesehen gelesen.";
    process = "Process", "Prozess";
    secret = "Secret", "Geheimnis";
    count = "Reads", "Lesevorgänge";
    first = "First seen", "Zuerst gesehen";
    last = "Last read", "Zuletzt gelesen";
    refused = "refused", "abgelehnt";
    is_new = "new", "neu";
    new_means = "New is who read a secret for the first time in the last seven days.",
        "Neu ist, wer ein Geheimnis in den letzten sieben Tagen zum ersten Mal las.";
    others = "Other secrets:", "Andere Geheimnisse:";
    as_table = "As a table", "Als Tabelle";
    day = "Day", "Tag";
    show_records = "Records", "im Protokoll";
    todo = "`vault audit summary`", "`vault audit summary`";
}

/// Machine, process, secret.
type Key = (String, String, String);

/// What one process read of one secret.
#[derive(Debug)]
struct Counts {
    reads: u64,
    refused: u64,
    first: Time,
    last: Time,
}

/// All that was looked through.
#[derive(Debug, Default)]
struct Seen {
    readers: BTreeMap<Key, Counts>,
    heat: BTreeMap<String, Heat>,
    looked: u64,
    /// When the oldest of them was written.
    since: Option<Time>,
    /// Whether there are older ones.
    more: bool,
}

/// One reader, as the screen shows it.
#[derive(Debug)]
struct Reader {
    host: Shown,
    process: Shown,
    secret: Shown,
    href: Href,
    records: Href,
    reads: String,
    refused: Option<String>,
    first: When,
    last: When,
    is_new: bool,
}

#[derive(Template)]
#[template(path = "page/readers.html")]
struct ReadersPage {
    frame: Frame,
    t: &'static Words,
    w: &'static Readers,
    looked: Option<String>,
    readers: Vec<Reader>,
    more: Option<String>,
    map: Option<Map>,
    others: Vec<(Href, Shown)>,
    more_others: Option<String>,
}

/// Shows the readers.
pub(in crate::page) async fn show(visit: &Visit<'_>) -> Viewed {
    let Visit { lang, now, site, .. } = *visit;
    let (t, w) = (Words::of(lang), Readers::of(lang));
    let seen = look(&site.engine, lang).await.map_err(Fault::broken)?;
    let looked = seen.since.map(|since| {
        let count = number(seen.looked, lang);
        let since = When::new(since, now, lang).clock;
        if seen.more { fill(w.looked, &[&count, &since]) } else { fill(w.all_looked, &[&count]) }
    });
    let asked = visit.query.get("secret").unwrap_or_default();
    let most = seen.heat.iter().max_by_key(|(_, heat)| heat.total()).map(|(path, _)| path.as_str());
    let chosen = if asked.is_empty() { most } else { Some(asked) };
    let map = chosen.map(|path| heat::map(path, seen.heat.get(path), lang));
    let others: BTreeSet<&String> =
        seen.heat.keys().filter(|path| Some(path.as_str()) != chosen).collect();
    let others = others.into_iter().map(|path| (of_secret(path), path.into())).collect();
    let (others, more_others) = cut(others, SECRETS, lang);
    let readers = readers(&seen, now, lang);
    let more = and_more(seen.readers.len().saturating_sub(SHOWN) as u64, lang);
    let frame = Frame::new(visit, Screen::Readers, w.title, w.todo);
    let page = ReadersPage { frame, t, w, looked, readers, more, map, others, more_others };
    Ok(html(StatusCode::OK, &page))
}

/// Returns where it stands at which hours a secret is read.
pub(super) fn of_secret(path: &str) -> Href {
    Href::own("/readers").with("secret", path).at("hours")
}

/// Looks through the newest reads by processes, in a number of answers that has a bound.
async fn look(engine: &Engine, lang: Lang) -> Result<Seen> {
    let (op, limit) = (Some(Op::LocalRead), Some(LOOKED));
    let mut query = AuditQuery { op, limit, newest: true, ..AuditQuery::default() };
    let mut seen = Seen::default();
    for _ in 0..ANSWERS {
        let page = engine.audit(query.clone()).await?;
        seen.more = page.more;
        let records = read(page)?;
        let known = Known::of(engine, &records).await?;
        seen.add(&records, &known, lang);
        let Some(oldest) = records.first() else { break };
        if !seen.more {
            break;
        }
        query.before = Some(oldest.n);
    }
    Ok(seen)
}

impl Seen {
    /// Takes up records, the oldest first, all of them older than those before.
    fn add(&mut self, records: &[Record], known: &Known, lang: Lang) {
        for record in records.iter().rev() {
            let (fact, time) = (&record.fact, record.time);
            self.looked += 1;
            self.since = Some(time);
            let Some(path) = fact.path.as_ref().map(ToString::to_string) else { continue };
            let count = fact.count.unwrap_or(1);
            let is_refused = fact.result != Outcome::Ok;
            if !is_refused && (self.heat.len() < KEPT || self.heat.contains_key(&path)) {
                // The machine's own clock says when; the server's only when it was told.
                self.heat.entry(path.clone()).or_default().add(fact.at.unwrap_or(time), count);
            }
            let machine = known.machine(fact, lang).to_string();
            let mut key = (machine, who::kind(record), path);
            if self.readers.len() >= KEPT && !self.readers.contains_key(&key) {
                key.1 = "…".to_owned();
            }
            let told = || Counts { reads: 0, refused: 0, first: time, last: time };
            let counts = self.readers.entry(key).or_insert_with(told);
            (counts.first, counts.last) = (counts.first.min(time), counts.last.max(time));
            let sum = if is_refused { &mut counts.refused } else { &mut counts.reads };
            *sum = sum.saturating_add(count);
        }
    }

    /// Tells whether who was first seen then is new: nobody knows of what is older than all that
    /// was looked through.
    fn is_new(&self, first: Time, now: Time) -> bool {
        let from = Time::from_micros(now.as_micros().saturating_sub(NEW));
        first >= from && (!self.more || self.since.is_some_and(|since| since < from))
    }
}

fn readers(seen: &Seen, now: Time, lang: Lang) -> Vec<Reader> {
    let mut all: Vec<(&Key, &Counts)> = seen.readers.iter().collect();
    all.sort_by_key(|(key, counts)| (std::cmp::Reverse(counts.last), *key));
    all.truncate(SHOWN);
    all.into_iter()
        .map(|((machine, process, path), counts)| Reader {
            host: machine.into(),
            process: process.into(),
            secret: path.into(),
            href: of_secret(path),
            records: Href::own("/audit").with("path", path).with("op", "read"),
            reads: number(counts.reads, lang),
            refused: (counts.refused > 0).then(|| number(counts.refused, lang)),
            first: When::new(counts.first, now, lang),
            last: When::new(counts.last, now, lang),
            is_new: seen.is_new(counts.first, now),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use shared::audit::Fact;
    use shared::hash::Hash;

    use super::*;

    fn record(n: u64, who: &str, path: &str) -> Record {
        let who = Some(who.parse().unwrap());
        let fact = Fact { who, path: path.parse().ok(), ..Fact::new(Op::LocalRead) };
        Record { n, nonce: Hash::ZERO, time: Time::from_micros(n * NEW), fact }
    }

    #[test]
    fn each_reader_of_each_secret_is_counted_and_new_ones_are_marked() {
        let mut seen = Seen::default();
        let all = [
            record(1, "shop[7] uid 0 (root)", "secret/a"),
            record(2, "shop[8] uid 0 (root)", "secret/a"),
            record(9, "bash[9] uid 0 (root)", "secret/a"),
            record(9, "shop[9] uid 0 (root)", "secret/b"),
        ];
        seen.add(&all, &Known::default(), Lang::En);
        let now = Time::from_micros(9 * NEW + 1);
        let found = readers(&seen, now, Lang::En);
        let found: Vec<_> =
            found.iter().map(|it| (&*it.process, &*it.secret, &*it.reads, it.is_new)).collect();
        let expected = [
            ("bash root", "secret/a", "1", true),
            ("shop root", "secret/b", "1", true),
            ("shop root", "secret/a", "2", false),
        ];
        assert_eq!(found, expected);
        assert_eq!(seen.since, Some(Time::from_micros(NEW)));
        // What is older than all that was looked through is not known.
        seen.more = true;
        seen.since = Some(Time::from_micros(9 * NEW));
        assert!(!seen.is_new(Time::from_micros(9 * NEW), now));
    }
}
