//! Which hosts had a value: what the signed log says of each, what it has told of its files and
//! readers, and how it stands now. Pure.

use shared::report::HookResult;
use shared::time::Time;

use crate::fleet::told::{Reads, SLACK, Told};
use machine::local::{Blast, Borne, ReachedHost, Removed, Status, TargetRow};
use machine::who::Place;

/// A host that had the value, or says so.
pub(super) struct Host {
    pub(super) name: String,
    /// Since when it had or could have it.
    pub(super) since: Time,
    pub(super) how: How,
    pub(super) removed: Option<Removed>,
    /// When it was last heard, while it is not connected.
    pub(super) quiet: Option<Option<Time>>,
    pub(super) files: Vec<File>,
    pub(super) readers: Vec<Reader>,
}

/// How it came by the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It wrote it.
    Wrote,
    /// A copy came to it, as the server saw.
    Copied,
    /// It was encrypted to it; no record tells that a copy came.
    CouldRead,
    /// It tells of it, and it was never encrypted to it.
    Tells,
}

/// A file that has or had it.
pub(super) struct File {
    pub(super) name: String,
    pub(super) since: Option<Time>,
    pub(super) now: Now,
    /// What became of its hook, as its machine reports.
    pub(super) hook: HookResult,
}

/// What a file holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Now {
    /// A version that holds the value, as its machine reports.
    Holds(u64),
    /// Another one.
    Changed(u64),
    /// It was removed, at this time.
    Gone(Time),
    /// Another version since this time, as it told when it was still a target.
    Left(Time),
    /// It is not among its targets, and nothing was told since.
    Unknown,
}

/// A process that read it.
pub(super) struct Reader {
    pub(super) who: String,
    pub(super) place: Option<Place>,
    pub(super) reads: Reads,
    /// The newest version that it has read later, and when.
    pub(super) newer: Option<(u64, Time)>,
}

impl Host {
    /// Tells whether one of its files holds the value now or may hold it, as far as it is one of
    /// those who can tell.
    pub(super) fn holds(&self) -> bool {
        let may = |file: &File| matches!(file.now, Now::Holds(_) | Now::Unknown);
        self.removed.is_none() && self.files.iter().any(may)
    }

    /// Returns the files of a machine that was removed, of which nobody tells any more that they
    /// hold another value.
    pub(super) fn left_behind(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| self.removed.is_some() && file.now == Now::Unknown)
    }
}

/// Puts together what is known, by name; those that only tell of it are last.
pub(super) fn hosts(blast: &Blast, told: &Told, status: &Status) -> Vec<Host> {
    let versions: Vec<u64> = blast.versions.iter().map(|version| version.ver).collect();
    let view = View { blast, versions, told, status };
    let mut hosts: Vec<Host> = blast.hosts.iter().map(|host| view.host(host)).collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let names = blast.hosts.iter().flat_map(|host| &host.names);
    let names: Vec<&str> = names.map(|borne| borne.name.as_str()).collect();
    for name in view.tellers() {
        if !names.contains(&name.as_str()) {
            hosts.push(view.teller(name));
        }
    }
    hosts
}

struct View<'a> {
    blast: &'a Blast,
    versions: Vec<u64>,
    told: &'a Told,
    status: &'a Status,
}

impl View<'_> {
    fn host(&self, host: &ReachedHost) -> Host {
        let ReachedHost { names, removed, since, versions, .. } = host;
        let name = names.last().map_or_else(|| "-".to_owned(), |borne| borne.name.to_string());
        let bore = |machine: &str, first: Time, last: Time| {
            names.iter().any(|borne| bears(borne, machine, first, last))
        };
        let copies = self.told.copies.iter().filter(|((machine, ver), reads)| {
            let is_it = ver.is_none_or(|ver| versions.contains(&ver));
            is_it && bore(machine, reads.first, reads.last)
        });
        let first = copies.map(|(_, reads)| reads.first).min();
        let wrote = self.blast.versions.iter().find(|version| {
            let by = version.by.to_string();
            by.strip_prefix("machine:").is_some_and(|by| bore(by, version.time, version.time))
        });
        let (how, since) = match (wrote, first) {
            (Some(version), _) => (How::Wrote, version.time),
            (None, Some(first)) => (How::Copied, first),
            (None, None) => (How::CouldRead, *since),
        };
        let standing = self.status.machines.iter().find(|it| it.machine.as_str() == name);
        let standing = standing.filter(|_| removed.is_none());
        Host {
            quiet: standing.filter(|it| !it.awake).map(|it| it.seen_at),
            files: self.files(removed.is_none().then_some(name.as_str()), bore),
            readers: self.readers(bore),
            removed: removed.clone(),
            name,
            since,
            how,
        }
    }

    /// Returns the machines that tell of the value.
    fn tellers(&self) -> Vec<String> {
        let is_it = |ver: &u64| self.versions.contains(ver);
        let files = self.told.files.iter();
        let files = files.filter(|(_, news)| news.keys().flatten().any(is_it));
        let files = files.map(|((machine, _), _)| machine);
        let reads = self.told.reads.keys().filter(|reader| reader.ver.as_ref().is_some_and(is_it));
        let mut names: Vec<String> =
            files.chain(reads.map(|reader| &reader.machine)).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn teller(&self, name: String) -> Host {
        let bore = |machine: &str, _, _| machine == name;
        let (files, readers) = (self.files(None, bore), self.readers(bore));
        let since = files.iter().filter_map(|file| file.since);
        let since = since.chain(readers.iter().map(|reader| reader.reads.first)).min();
        Host {
            since: since.unwrap_or_default(),
            how: How::Tells,
            removed: None,
            quiet: None,
            files,
            readers,
            name,
        }
    }

    /// Returns the files of a host, `active` if its reports count.
    fn files(&self, active: Option<&str>, bore: impl Fn(&str, Time, Time) -> bool) -> Vec<File> {
        let is_it = |ver: Option<u64>| ver.is_some_and(|ver| self.versions.contains(&ver));
        let rows =
            self.status.targets.iter().filter(|row| {
                Some(row.machine.as_str()) == active && row.secret == self.blast.path
            });
        let rows: Vec<&TargetRow> = rows.collect();
        let mut files = Vec::new();
        for ((machine, name), news) in &self.told.files {
            let held = news.iter().filter(|(ver, _)| is_it(**ver));
            let (Some(since), Some(last)) =
                (held.clone().map(|(_, it)| it.at).min(), held.map(|(_, it)| it.n).max())
            else {
                continue;
            };
            if !bore(machine, since, since) {
                continue;
            }
            let later = news.iter().filter(|(ver, it)| !is_it(**ver) && it.n > last);
            let later = later.min_by_key(|(_, it)| it.n);
            let row = rows.iter().find(|row| row.target == *name);
            let now = match (row, later) {
                (Some(row), _) if is_it(Some(row.applied)) => Now::Holds(row.applied),
                (_, Some((None, it))) => Now::Gone(it.at),
                (Some(row), _) => Now::Changed(row.applied),
                (None, Some((Some(_), it))) => Now::Left(it.at),
                (None, None) => Now::Unknown,
            };
            let hook = row.map_or(HookResult::None, |row| row.hook);
            files.push(File { name: name.clone(), since: Some(since), now, hook });
        }
        for row in rows.into_iter().filter(|row| is_it(Some(row.applied))) {
            if !files.iter().any(|file: &File| file.name == row.target) {
                let (name, now) = (row.target.clone(), Now::Holds(row.applied));
                files.push(File { name, since: None, now, hook: row.hook });
            }
        }
        files
    }

    fn readers(&self, bore: impl Fn(&str, Time, Time) -> bool) -> Vec<Reader> {
        let is_it = |ver: Option<u64>| ver.is_some_and(|ver| self.versions.contains(&ver));
        let mut readers: Vec<(&str, Reader)> = Vec::new();
        let reads = self.told.reads.iter();
        let own = reads.filter(|(of, reads)| bore(&of.machine, reads.first, reads.last));
        for (of, reads) in own.clone().filter(|(of, _)| is_it(of.ver)) {
            let same =
                |(machine, it): &&mut (&str, Reader)| *machine == of.machine && it.who == of.who;
            match readers.iter_mut().find(same) {
                Some((_, reader)) => reader.reads = reader.reads.and(*reads),
                None => {
                    let (who, place) = (of.who.clone(), of.place.clone());
                    readers.push((&of.machine, Reader { who, place, reads: *reads, newer: None }));
                }
            }
        }
        for (machine, reader) in &mut readers {
            let later = own.clone().filter(|(of, reads)| {
                let same = of.machine == *machine && of.who == reader.who;
                same && !is_it(of.ver) && reads.last > reader.reads.last
            });
            let last = later.max_by_key(|(_, reads)| reads.last);
            reader.newer = last.and_then(|(of, reads)| Some((of.ver?, reads.last)));
        }
        readers.into_iter().map(|(_, reader)| reader).collect()
    }
}

/// Tells whether a machine that was called so at some time between the two can be the one that bore
/// the name.
fn bears(borne: &Borne, machine: &str, first: Time, last: Time) -> bool {
    borne.name.as_str() == machine
        && last.plus(SLACK) >= borne.since
        && borne.until.is_none_or(|until| first <= until.plus(SLACK))
}
