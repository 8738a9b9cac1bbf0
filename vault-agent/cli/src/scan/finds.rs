//! What a scan has come by: looks into one object after the other, prints what it finds, and says
//! at the end what it has and has not searched. Values are never shown, not even in the name of a
//! file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::git::{Object, Repository};
use super::values::Values;
use crate::client::Client;
use crate::context::Global;
use crate::print::{self, Format};
use host::account;
use host::hint::Exit;
use machine::local::{self, Status};
use machine::scan::forms::{self, Bytes, Form};
use machine::scan::search::Patterns;
use machine::scan::size;
use machine::scan::tree::Skipped;

/// A value was found.
pub const FOUND: Exit = Exit(1);

/// More finds in one file tell nobody more.
const MOST: usize = 1_000;

/// Values in one place: by line, of which 0 is the name itself, and holder; with form and position.
type Found = BTreeMap<(u64, usize), (Form, u64)>;

/// A scan at work.
pub struct Finds<'a> {
    global: &'a Global,
    format: Format,
    /// What to call what is searched.
    what: &'static str,
    is_verbose: bool,
    values: Values,
    patterns: Patterns,
    /// What contents and names are read into.
    buffer: Bytes,
    name: Bytes,
    /// Files that this machine's agent writes, as it names them.
    targets: BTreeSet<String>,
    found: Vec<Value>,
    /// How many values were found.
    pub number: u64,
    objects: u64,
    bytes: u64,
    skipped: Vec<(String, Skipped)>,
    /// How much that should have been searched could not be.
    pub unreadable: u64,
    expected: Vec<String>,
}

/// Returns the names of this machine's targets, as far as the caller may know them.
pub fn targets(client: &Client) -> BTreeSet<String> {
    let answer = client.ask(local::STATUS, &[]).and_then(|answer| answer.success()?.json());
    let Ok(Status { machine, targets, .. }) = answer else { return BTreeSet::new() };
    targets.into_iter().filter(|row| row.machine == machine).map(|row| row.target).collect()
}

impl<'a> Finds<'a> {
    pub fn new(
        global: &'a Global,
        format: Format,
        what: &'static str,
        is_verbose: bool,
        mut values: Values,
        targets: BTreeSet<String>,
    ) -> Self {
        let held = values.held.iter_mut().enumerate();
        let texts = held.flat_map(|(holder, (_, bytes))| {
            let bytes = std::mem::take(bytes);
            forms::of(&bytes).into_iter().map(move |(form, text)| (text, holder, form))
        });
        let patterns = Patterns::new(texts);
        Self {
            global,
            format,
            what,
            is_verbose,
            values,
            patterns,
            buffer: Bytes::default(),
            name: Bytes::default(),
            targets,
            found: Vec::new(),
            number: 0,
            objects: 0,
            bytes: 0,
            skipped: Vec::new(),
            unreadable: 0,
            expected: Vec::new(),
        }
    }

    /// Searches what git keeps.
    pub fn object(&mut self, object: Object<'_>, content: impl Read) -> anyhow::Result<()> {
        let found = self.search(object.path, content)?;
        self.print(object, found)
    }

    /// Searches a file.
    pub fn file(&mut self, path: &Path, content: impl Read) -> anyhow::Result<()> {
        let text = path.to_string_lossy();
        match self.search(Some(&text), content) {
            Ok(found) if !found.is_empty() && self.is_expected(path) => {
                let name = self.shown(&text);
                self.expected.push(name);
                Ok(())
            }
            Ok(found) => self.print(Object { commit: None, path: Some(&text) }, found),
            Err(why) => {
                self.unreadable(path, &why);
                Ok(())
            }
        }
    }

    /// Notes what could not be read.
    pub fn unreadable(&mut self, path: &Path, why: &io::Error) {
        self.unreadable += 1;
        let name = self.shown(&path.to_string_lossy());
        self.global.term.say(format!("`{name}` was not searched: {why}"));
    }

    /// Notes what was passed by.
    pub fn skipped(&mut self, path: &Path, why: Skipped) {
        let name = self.shown(&path.to_string_lossy());
        self.skipped.push((name, why));
    }

    fn search(&mut self, name: Option<&str>, content: impl Read) -> io::Result<Found> {
        let mut found = Found::new();
        let mut note = |line: u64, holder: usize, form: Form, at: u64| {
            if found.len() < MOST || found.contains_key(&(line, holder)) {
                let best = found.entry((line, holder)).or_insert((form, at));
                *best = (form, at).min(*best);
            }
        };
        let name = name.unwrap_or_default();
        self.patterns.search(name.as_bytes(), &mut self.name, |hit| {
            note(0, hit.holder, hit.form, hit.at);
        })?;
        self.bytes += self.patterns.search(content, &mut self.buffer, |hit| {
            note(hit.line, hit.holder, hit.form, hit.at);
        })?;
        self.objects += 1;
        // A line of a value says nothing where the value is found whole, and nothing new the second
        // time.
        let mut told: BTreeSet<usize> = found
            .iter()
            .filter(|(_, (form, _))| *form != Form::Line)
            .map(|((_, holder), _)| *holder)
            .collect();
        found.retain(|(_, holder), (form, _)| *form != Form::Line || told.insert(*holder));
        Ok(found)
    }

    fn print(&mut self, place: Object<'_>, found: Found) -> anyhow::Result<()> {
        if found.len() == MOST {
            let name = self.shown(place.path.unwrap_or("a message"));
            self.global.term.say(format!("`{name}`: only the first {MOST} finds are shown"));
        }
        for ((line, holder), (form, at)) in found {
            self.number += 1;
            let path = place.path.map(|path| self.shown(path));
            let (holder, _) = &self.values.held[holder];
            let (version, form) = (holder.version, form.text());
            if self.format == Format::Table {
                let place = match (place.commit.map(|commit| &commit[..commit.len().min(12)]), path)
                {
                    (Some(commit), Some(path)) => format!("{commit}:{path}"),
                    (Some(commit), None) => format!("{commit} (message)"),
                    (None, path) => path.unwrap_or_default(),
                };
                let (secret, key) = (&holder.secret, &holder.key);
                self.global
                    .term
                    .line(format!("{place}:{line}: {secret} {key} (v{version}, {form})"))?;
            } else {
                self.found.push(json!({
                    "file": path, "line": line, "byte": at, "commit": place.commit,
                    "secret": holder.secret, "key": holder.key, "version": version, "form": form,
                }));
            }
        }
        Ok(())
    }

    /// Returns a name without what is looked for.
    fn shown(&mut self, name: &str) -> String {
        self.patterns.masked(name, &mut self.name)
    }

    /// Tells whether a file is there to hold values: this machine's agent writes it, and git does
    /// not take it up.
    fn is_expected(&self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else { return false };
        let owner = real.metadata().ok().and_then(|found| account::user(&found.uid().to_string()));
        let names = [
            real.display().to_string(),
            account::tilde(&real, None),
            account::tilde(&real, owner.as_ref().map(|owner| owner.name.as_str())),
        ];
        names.iter().any(|name| self.targets.contains(name)) && !Repository::would_take(&real)
    }

    /// Says what was and what was not searched; prints everything where no lines were printed.
    pub fn end(&mut self) -> anyhow::Result<()> {
        if self.format != Format::Table {
            let document = self.document();
            self.global.term.document(print::data(self.format, &document)?)?;
        }
        let term = &self.global.term;
        let Values { held, secrets, left_out, closed } = &self.values;
        let result = match self.number {
            0 => "nothing found".to_owned(),
            n => format!("{n} found"),
        };
        term.say(format!(
            "searched {} ({}) for {} of {}: {result}",
            count(self.objects, self.what),
            size::shown(self.bytes),
            count(held.len() as u64, "value"),
            count(*secrets as u64, "secret"),
        ));
        if !left_out.is_empty() {
            let n = count(left_out.len() as u64, "value");
            let how = "(-v names them, --min-length N looks for all from N bytes on)";
            term.say(format!("not looked for: {n} too short or easy to guess {how}"));
        }
        if !closed.is_empty() {
            let n = count(closed.len() as u64, "secret");
            term.say(format!("not looked for: {n} that may not be read here (-v names them)"));
        }
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, why) in &self.skipped {
            *kinds.entry(why.text()).or_default() += 1;
        }
        if !self.expected.is_empty() {
            kinds.insert("target of this machine's agent", self.expected.len() as u64);
        }
        if !kinds.is_empty() {
            let kinds: Vec<_> = kinds.iter().map(|(kind, n)| format!("{kind} ({n})")).collect();
            term.say(format!("passed by: {} (-v names them)", kinds.join(", ")));
        }
        if self.unreadable > 0 {
            term.say(format!("{} could not be read", count(self.unreadable, "file")));
        }
        if self.is_verbose {
            self.say_all();
        }
        Ok(())
    }

    fn say_all(&self) {
        let term = &self.global.term;
        for (holder, why) in &self.values.left_out {
            let (secret, key) = (&holder.secret, &holder.key);
            term.say(format!("not looked for: {secret} {key}: {}", why.text()));
        }
        for why in &self.values.closed {
            term.say(format!("not looked for: {why}"));
        }
        for (name, why) in &self.skipped {
            term.say(format!("passed by: {name}: {}", why.text()));
        }
        for name in &self.expected {
            term.say(format!(
                "passed by: {name}: holds values as a target of this machine's agent"
            ));
        }
    }

    fn document(&mut self) -> Value {
        let left_out = self.values.left_out.iter().map(|(holder, why)| {
            json!({
                "secret": holder.secret, "key": holder.key, "version": holder.version,
                "reason": why.text(),
            })
        });
        let skipped =
            self.skipped.iter().map(|(name, why)| json!({ "file": name, "reason": why.text() }));
        json!({
            "finds": std::mem::take(&mut self.found),
            "searched": {
                "objects": self.objects, "bytes": self.bytes, "secrets": self.values.secrets,
                "values": self.values.held.len(),
            },
            "not_looked_for": left_out.collect::<Vec<_>>(),
            "closed": self.values.closed,
            "skipped": skipped.collect::<Vec<_>>(),
            "targets": self.expected,
            "unreadable": self.unreadable,
        })
    }
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
