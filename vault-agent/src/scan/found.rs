//! What a search has come by: values by place, with the first line of each and how many there are.
//! Places are named without any value, and values by secret, key and version alone.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use machine::scan::forms::{self, Bytes, Form};
use machine::scan::search::Patterns;
use shared::path::SecretPath;
use shared::scan::Find;
use shared::text::Text;
use shared::time::Time;

/// Finds of one scan that are told one by one.
const MOST: usize = 1_000;

/// Whose a value is.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) secret: SecretPath,
    pub(super) key: String,
    /// The newest version that holds it.
    pub(super) ver: u64,
    /// Whether the newest version of all has another one.
    pub(super) old: bool,
}

/// How a value stands in one place.
#[derive(Clone, Debug)]
struct Seen {
    count: u64,
    /// The first line, and the last one that was counted.
    first: u64,
    last: u64,
    form: Form,
    readable: Option<String>,
}

/// Values to look for, and what was found of them.
pub(super) struct Found {
    holders: Vec<Holder>,
    patterns: Patterns,
    seen: BTreeMap<(String, usize), Seen>,
    /// Finds beyond those that are told.
    pub(super) more: u64,
    /// What contents and names are read into.
    space: Bytes,
    names: Bytes,
}

impl Found {
    /// Prepares to look for values; what is made of them is wiped in the end.
    pub(super) fn new(values: Vec<(Holder, Bytes)>) -> Self {
        let (mut holders, mut texts) = (Vec::with_capacity(values.len()), Vec::new());
        for (number, (holder, value)) in values.into_iter().enumerate() {
            texts.extend(forms::of(&value).into_iter().map(|(form, text)| (text, number, form)));
            holders.push(holder);
        }
        let patterns = Patterns::new(texts);
        let (space, names) = (Bytes::default(), Bytes::default());
        Self { holders, patterns, seen: BTreeMap::new(), more: 0, space, names }
    }

    /// Searches a stream; `about` tells the file's owner and mode. Lines do not count where
    /// `is_lined` is not set.
    ///
    /// # Errors
    /// What reading meets; what was found before stays.
    pub(super) fn search(
        &mut self,
        place: &str,
        content: impl std::io::Read,
        is_lined: bool,
        about: Option<&Metadata>,
    ) -> std::io::Result<()> {
        let mut here: BTreeMap<usize, Seen> = BTreeMap::new();
        let mut space = std::mem::take(&mut self.space);
        let read = self.patterns.search(content, &mut space, |hit| {
            note(&mut here, hit.holder, hit.form, if is_lined { hit.line } else { 0 });
        });
        self.space = space;
        self.take(place, here, about);
        read.map(drop)
    }

    /// Looks whether the name of a file holds values.
    pub(super) fn name(&mut self, place: &str, name: &str, about: Option<&Metadata>) {
        let mut here: BTreeMap<usize, Seen> = BTreeMap::new();
        let take = |hit: machine::scan::search::Hit| note(&mut here, hit.holder, hit.form, 0);
        // Reading from memory does not fail.
        let _ = self.patterns.search(name.as_bytes(), &mut self.names, take);
        self.take(place, here, about);
    }

    /// Tells whether anything that is looked for is in a text.
    pub(super) fn is_in(&mut self, text: &[u8]) -> bool {
        let mut is_in = false;
        // Reading from memory does not fail.
        let _ = self.patterns.search(text, &mut self.names, |_| is_in = true);
        is_in
    }

    /// Returns a text without what is looked for.
    pub(super) fn masked(&mut self, text: &str) -> String {
        self.patterns.masked(text, &mut self.names)
    }

    fn take(&mut self, place: &str, here: BTreeMap<usize, Seen>, about: Option<&Metadata>) {
        // A line of a value says nothing where the value is found whole.
        let is_whole = here.values().any(|seen| seen.form != Form::Line);
        for (holder, mut seen) in here {
            if is_whole && seen.form == Form::Line {
                continue;
            }
            seen.readable = about.and_then(readable);
            let key = (place.to_owned(), holder);
            if let Some(known) = self.seen.get_mut(&key) {
                known.count += seen.count;
                known.form = known.form.min(seen.form);
            } else if self.seen.len() < MOST {
                self.seen.insert(key, seen);
            } else {
                self.more += 1;
            }
        }
    }

    /// Returns what was found, those in use first; `before` tells since when.
    pub(super) fn end(self, before: &[Find], now: Time) -> Vec<Find> {
        let mut finds: Vec<Find> = Vec::with_capacity(self.seen.len());
        for ((place, number), seen) in self.seen {
            let Some(Holder { secret, key, ver, old }) = self.holders.get(number).cloned() else {
                continue;
            };
            let (place, key) = (Text::lossy(&place), Text::lossy(&key));
            let is_same =
                |find: &&Find| (&find.place, &find.secret, &find.key) == (&place, &secret, &key);
            let since = before.iter().filter(is_same).map(|find| find.since).min();
            let (form, count, line) = (Text::lossy(seen.form.text()), seen.count, seen.first);
            let since = since.unwrap_or(now);
            let readable = seen.readable.as_deref().map(Text::lossy);
            finds.push(Find { place, secret, key, ver, old, form, count, line, since, readable });
        }
        finds.sort_by_key(|find| find.old);
        finds
    }
}

fn note(here: &mut BTreeMap<usize, Seen>, holder: usize, form: Form, line: u64) {
    let first = Seen { count: 1, first: line, last: line, form, readable: None };
    let seen = here.entry(holder).or_insert_with(|| first.clone());
    seen.form = seen.form.min(form);
    // Several forms in one line are one.
    if seen.last < line {
        (seen.last, seen.count) = (line, seen.count + 1);
    }
}

/// Says whose a file is that others may read, and its mode.
fn readable(about: &Metadata) -> Option<String> {
    let mode = about.mode() & 0o7777;
    let owner = || host::account::login(about.uid()).unwrap_or_else(|| about.uid().to_string());
    (mode & 0o004 != 0).then(|| format!("{} {mode:04o}", owner()))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn found() -> Found {
        let value = |key: &str, ver, old, value: &str| {
            let holder = Holder { secret: "secret/a".parse().unwrap(), key: key.into(), ver, old };
            (holder, Zeroizing::new(value.as_bytes().to_vec()))
        };
        Found::new(vec![
            value("K", 1, true, "old_hunter2_old"),
            value("K", 2, false, "new_hunter3_new"),
        ])
    }

    #[test]
    fn values_are_counted_by_place_and_those_in_use_come_first() {
        let mut found = found();
        let text = "x\nold_hunter2_old\nnew_hunter3_new new_hunter3_new\n\nnew_hunter3_new";
        found.search("/a", text.as_bytes(), true, None).unwrap();
        found.search("journal unit x", "new_hunter3_new".as_bytes(), false, None).unwrap();
        found.search("journal unit x", "new_hunter3_new".as_bytes(), false, None).unwrap();
        let earlier = Time::from_micros(3);
        let before = found_before("/a", earlier);
        let finds = found.end(&[before], Time::from_micros(9));
        let shown: Vec<_> = finds
            .iter()
            .map(|it| (it.place.as_str(), it.ver, it.old, it.count, it.line, it.since.as_micros()))
            .collect();
        assert_eq!(
            shown,
            [
                ("/a", 2, false, 2, 3, 3),
                ("journal unit x", 2, false, 2, 0, 9),
                ("/a", 1, true, 1, 2, 3),
            ]
        );
    }

    fn found_before(place: &str, since: Time) -> Find {
        Find {
            place: place.parse().unwrap(),
            secret: "secret/a".parse().unwrap(),
            key: "K".parse().unwrap(),
            ver: 1,
            old: false,
            form: "plain".parse().unwrap(),
            count: 1,
            line: 1,
            since,
            readable: None,
        }
    }

    #[test]
    fn no_name_shows_a_value() {
        let mut found = found();
        let name = "/srv/new_hunter3_new/log";
        let shown = found.masked(name);
        assert_eq!(shown, "/srv/***/log");
        found.name(&shown, name, None);
        assert_eq!(found.end(&[], Time::default())[0].line, 0);
    }
}
