//! What is known of the versions of a secret: what this machine's agent opens of them, what the
//! audit log says of each, and how hosts stand. Asks the agent; puts together.

use shared::time::Time;

use crate::client::{Client, Error};
use crate::fleet::told::{Applied, Reads, Told};
use crate::kv::history::{History, Version};
use machine::local::{KeysChanged, PAST, PastVersion, STATUS, Status, TargetRow};

/// A version and all that is known of it.
pub(super) struct Row<'a> {
    pub(super) version: &'a Version,
    /// What is known of it here beside who wrote it.
    pub(super) past: Option<&'a PastVersion>,
    pub(super) files: Vec<File>,
    pub(super) readers: Vec<Read>,
    /// Copies that came to machines.
    pub(super) copies: u64,
    /// Which process wrote it, as its machine tells.
    pub(super) process: Option<String>,
}

/// A file that has or had the version, or waits for it.
pub(super) struct File {
    pub(super) machine: String,
    pub(super) file: String,
    pub(super) stands: Stands,
    /// Whether the signed log says that the version never was encrypted to the machine.
    pub(super) only_tells: bool,
}

pub(super) enum Stands {
    /// It got the version.
    Got(Applied),
    /// It has it, as its machine reports; when it got it nobody has told.
    Has,
    /// It is to have it, and has this one; and what is the matter.
    Lacks(u64, Option<String>),
}

/// A process that read the version.
pub(super) struct Read {
    pub(super) machine: String,
    pub(super) who: String,
    pub(super) reads: Reads,
    /// As of a [`File`].
    pub(super) only_tells: bool,
}

/// What an agent adds to the versions.
pub(super) struct Known {
    pub(super) past: Vec<PastVersion>,
    pub(super) told: Told,
    pub(super) rows: Vec<TargetRow>,
}

impl Known {
    /// Asks this machine's agent; an older one, or one that this caller may not ask, tells nothing.
    pub(super) fn of(client: &Client, history: &History) -> Result<Option<Self>, Error> {
        if !client.is_here() || client.only_shows() {
            return Ok(None);
        }
        let path = history.route.logical();
        let answer = client.ask(PAST, &[("path", path.clone())])?;
        if answer.is_denied() || answer.status == 404 {
            return Ok(None);
        }
        let past: Vec<PastVersion> = answer.success()?.json()?;
        let since = past.first().map_or_else(Time::default, |first| first.time);
        let told = Told::of(client, &path, since)?;
        let status: Status = client.get(STATUS, &[])?;
        let of_it = |row: &TargetRow| row.secret.as_str() == path;
        let rows = status.targets.into_iter().filter(of_it).collect();
        Ok(Some(Self { past, told, rows }))
    }
}

pub(super) fn row<'a>(
    version: &'a Version,
    history: &History,
    known: Option<&'a Known>,
) -> Row<'a> {
    let none = Row {
        version,
        past: None,
        files: Vec::new(),
        readers: Vec::new(),
        copies: 0,
        process: None,
    };
    let Some(Known { past, told, rows }) = known else { return none };
    let past = past.iter().find(|past| past.ver == version.n);
    let only_tells = |machine: &str| {
        past.filter(|past| !past.reached.is_empty())
            .is_some_and(|past| past.reached.iter().all(|name| name.as_str() != machine))
    };
    let reads = told.reads.iter().filter(|(reader, _)| reader.ver == Some(version.n));
    let readers = reads.map(|(reader, reads)| {
        let (machine, who) = (reader.machine.clone(), reader.who.clone());
        Read { only_tells: only_tells(&machine), machine, who, reads: *reads }
    });
    let copies = told.copies.iter().filter(|((_, ver), _)| *ver == Some(version.n));
    let writer = told.writers.get(&version.n);
    let writer = writer.filter(|(machine, _)| version.by.as_ref() == Some(machine));
    Row {
        past,
        files: files(version, history.state(version) == "current", told, rows, only_tells),
        readers: readers.collect(),
        copies: sum(copies.map(|(_, reads)| reads.count)),
        process: writer.map(|(_, who)| who.clone()),
        ..none
    }
}

/// Returns the files that got a version, and of the newest those that have it or are to have it.
fn files(
    version: &Version,
    is_current: bool,
    told: &Told,
    rows: &[TargetRow],
    only_tells: impl Fn(&str) -> bool,
) -> Vec<File> {
    let got = told.files.iter().filter_map(|((machine, file), news)| {
        let got = news.get(&Some(version.n))?.clone();
        let (only_tells, stands) = (only_tells(machine), Stands::Got(got));
        Some(File { machine: machine.clone(), file: file.clone(), stands, only_tells })
    });
    let mut files: Vec<File> = got.collect();
    for row in rows {
        let is_it = |file: &File| file.machine == row.machine.as_str() && file.file == row.target;
        let has = row.applied == version.n;
        let at = files.iter().position(is_it);
        let stands = match (has, at) {
            (true, None) => Stands::Has,
            (false, None) if is_current => Stands::Lacks(row.applied, row.remark()),
            // It was taken back from it.
            (false, Some(at)) if is_current => {
                files[at].stands = Stands::Lacks(row.applied, row.remark());
                continue;
            }
            (_, _) => continue,
        };
        let (machine, file) = (row.machine.to_string(), row.target.clone());
        files.push(File { only_tells: only_tells(&machine), machine, file, stands });
    }
    files.sort_by(|a, b| (&a.machine, &a.file).cmp(&(&b.machine, &b.file)));
    files
}

/// Adds counts up, of which hosts may tell any.
pub(super) fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

impl Row<'_> {
    pub(super) fn changed(&self) -> Option<&KeysChanged> {
        self.past.and_then(|past| past.keys.as_ref())
    }
}
