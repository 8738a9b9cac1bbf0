//! The thread that searches: at the lowest priority, one file after the other, within the bounds of
//! the settings. It may wait for a disk for ever, and nobody waits for it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use machine::scan::forms::Bytes;
use machine::scan::size;
use machine::scan::tree::{self, Skipped, Step};
use serde_json::Value;
use shared::scan::Find;
use shared::text::Text;
use shared::time::Time;
use tokio::sync::oneshot;

use super::content::{self, Budget, Content, End};
use super::control::Control;
use super::found::{Found, Holder};
use super::journal;
use super::places::{Except, Place};

/// The lowest priority (nice(2)); the kernel derives the one for the disk from it.
const LOWEST: i32 = 19;
/// What is told of what was not searched.
const MOST_MISSED: usize = 8;
/// Finds that are kept at most, those of earlier scans among them.
const MOST_KEPT: usize = 2_000;
/// Largest description of a container that is read for its name.
const DESCRIPTION: u64 = 1 << 20;

/// What to do.
pub(super) struct Job {
    pub(super) values: Vec<(Holder, Bytes)>,
    pub(super) places: Vec<Place>,
    pub(super) except: Except,
    /// Files that hold values on purpose, and the agent's own folder.
    pub(super) own: Vec<PathBuf>,
    pub(super) journal: bool,
    pub(super) max_files: u64,
    pub(super) max_bytes: u64,
    pub(super) max_time: Duration,
    /// What was found the last time, and what time it is now.
    pub(super) before: Vec<Find>,
    pub(super) now: Time,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) finds: Vec<Find>,
    pub(super) more: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) missed: Vec<Text<256>>,
}

/// Starts the thread; the receiver gets what came of it, and nothing if it was stopped.
///
/// # Errors
/// If no thread can be made.
pub(super) fn start(job: Job, control: Arc<Control>) -> io::Result<oneshot::Receiver<Outcome>> {
    let (sender, receiver) = oneshot::channel();
    let search = move || {
        // Of this thread alone (setpriority(2), *C library/kernel differences*).
        if let Err(why) = rustix::process::setpriority_process(None, LOWEST) {
            tracing::debug!(%why, "the scan runs at the agent's own priority");
        }
        if let Some(outcome) = Worker::new(job, &control).run() {
            // The agent may be ending.
            let _ = sender.send(outcome);
        }
    };
    std::thread::Builder::new().name("scan".to_owned()).spawn(search)?;
    Ok(receiver)
}

struct Worker<'a> {
    control: &'a Control,
    found: Found,
    budget: Budget,
    places: Vec<Place>,
    except: Except,
    own: Vec<PathBuf>,
    journal: bool,
    max_files: u64,
    max_bytes: u64,
    max_time: Duration,
    before: Vec<Find>,
    now: Time,
    unread: u64,
    /// Files for which there was no room.
    large: u64,
    missed: Vec<String>,
}

impl<'a> Worker<'a> {
    fn new(job: Job, control: &'a Control) -> Self {
        let until = Instant::now() + job.max_time;
        Self {
            control,
            found: Found::new(job.values),
            budget: Budget { bytes: job.max_bytes, files: job.max_files, until },
            places: job.places,
            except: job.except,
            own: job.own,
            journal: job.journal,
            max_files: job.max_files,
            max_bytes: job.max_bytes,
            max_time: job.max_time,
            before: job.before,
            now: job.now,
            unread: 0,
            large: 0,
            missed: Vec::new(),
        }
    }

    /// Searches everything, each file once; `None` if it was stopped.
    fn run(mut self) -> Option<Outcome> {
        for own in std::mem::take(&mut self.own) {
            self.control.reads(own.display().to_string());
            self.except.add(&real(&own));
        }
        let mut end = None;
        for place in std::mem::take(&mut self.places) {
            end = self.place(&place);
            if end.is_some() {
                break;
            }
        }
        if self.journal && end.is_none() {
            self.control.reads("the journal".to_owned());
            match journal::search(&mut self.found, &mut self.budget, self.control) {
                Ok(cut) => end = cut,
                Err(why) => self.miss(format!("the journal: {why:#}")),
            }
        }
        let whole = end.is_none();
        match end {
            Some(End::Stopped) => return None,
            Some(End::Bytes) => self.cut(&format!("`max_bytes` ({})", self.max_bytes)),
            Some(End::Files) => self.cut(&format!("`max_files` ({})", self.max_files)),
            Some(End::Time) => self.cut(&format!("`max_time` ({} s)", self.max_time.as_secs())),
            None => {}
        }
        if self.unread > 0 {
            let (unread, s) = (self.unread, if self.unread == 1 { "" } else { "s" });
            self.missed.insert(0, format!("{unread} place{s} could not be read"));
        }
        if self.large > 0 {
            let (large, max) = (self.large, self.max_bytes);
            self.missed
                .insert(0, format!("{large} files for which `max_bytes` ({max}) has no room"));
        }
        let missed: Vec<String> = self.missed.iter().take(MOST_MISSED).cloned().collect();
        let missed = missed.iter().map(|text| Text::lossy(&self.found.masked(text))).collect();
        let (files, bytes) =
            (self.max_files - self.budget.files, self.max_bytes - self.budget.bytes);
        let more = self.found.more;
        let mut finds = self.found.end(&self.before, self.now);
        if !whole {
            // What it did not come to is as it was.
            let is_known = |old: &Find| {
                finds.iter().any(|it| it.place == old.place && it.secret == old.secret)
            };
            let kept: Vec<Find> = self.before.into_iter().filter(|old| !is_known(old)).collect();
            finds.extend(kept);
            finds.truncate(MOST_KEPT);
        }
        Some(Outcome { finds, more, files, bytes, missed })
    }

    fn cut(&mut self, bound: &str) {
        self.missed.insert(0, format!("what comes after {bound}: the scan ends there"));
    }

    /// Passes by a file for which there is no room, so that others are searched.
    fn pass_large(&mut self, shown: &str, size: u64) {
        self.large += 1;
        if self.missed.len() < MOST_MISSED {
            let size = size::shown(size);
            self.missed.push(format!("`{shown}`: {size}, more than is left of `max_bytes`"));
        }
    }

    fn miss(&mut self, what: String) {
        self.unread += 1;
        if self.missed.len() < MOST_MISSED {
            self.missed.push(what);
        }
    }

    /// Searches a place and all in it; returns why to go no further, if so.
    fn place(&mut self, place: &Place) -> Option<End> {
        self.control.reads(place.base.display().to_string());
        let base = match place.base.canonicalize() {
            Ok(base) => base,
            // A file may come and go; a folder that is not there was mistyped.
            Err(why)
                if why.kind() == io::ErrorKind::NotFound
                    && (!place.named || place.base.parent().is_some_and(Path::is_dir)) =>
            {
                return None;
            }
            Err(why) => {
                self.miss(format!("`{}`: {why}", place.base.display()));
                return None;
            }
        };
        // From the root on, so that no folder on the way can be exchanged for a link.
        let names: Vec<String> = parts(&base).chain(place.names.iter().cloned()).collect();
        let except = std::mem::take(&mut self.except);
        let mut end = None;
        let walked = tree::below(
            Path::new("/"),
            &names,
            |path| except.covers(path),
            |path, step| {
                end = self.step(path, step, place.container);
                // What ends the walk is told by `end`.
                if end.is_some() { Err(anyhow::anyhow!("the scan ends")) } else { Ok(()) }
            },
        );
        self.except = except;
        // What is searched now is not searched again as part of another place.
        self.except.add_names(names);
        if let (Err(why), None) = (walked, end) {
            self.miss(format!("`{}`: {why:#}", base.display()));
        }
        end
    }

    fn step(&mut self, path: &Path, step: io::Result<Step>, container: bool) -> Option<End> {
        let name = path.to_string_lossy();
        let shown = self.found.masked(&name);
        self.control.reads(shown.clone());
        if let Some(end) = self.budget.end(self.control) {
            return Some(end);
        }
        let file = match step {
            Ok(Step::File(file)) => file,
            Ok(Step::Skipped(
                Skipped::Link | Skipped::Special(_) | Skipped::Objects | Skipped::Kernel,
            )) => return None,
            Err(why) => {
                self.miss(format!("`{shown}`: {why}"));
                return None;
            }
        };
        let about = file.get_ref().metadata().ok();
        let size = about.as_ref().map_or(0, content::size);
        if size > self.budget.bytes {
            self.pass_large(&shown, size);
            return None;
        }
        self.budget.files -= 1;
        let place = match container.then(|| container_of(path)).flatten() {
            Some(name) => self.found.masked(&format!("container {name}")),
            None => shown.clone(),
        };
        self.found.name(&place, &name, about.as_ref());
        let searched =
            Content::new(file, &mut self.budget, self.control).and_then(|mut content| {
                self.found.search(&place, &mut content, true, about.as_ref())?;
                Ok(content.cut)
            });
        match searched {
            Ok(cut) => cut,
            Err(why) => {
                self.miss(format!("`{shown}`: {why}"));
                None
            }
        }
    }
}

/// Returns where a file is, if it or its folder is there.
fn real(path: &Path) -> PathBuf {
    let in_folder = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

fn parts(path: &Path) -> impl Iterator<Item = String> {
    let parts = path.components().skip(1);
    parts.map(|part| part.as_os_str().to_string_lossy().into_owned())
}

/// Returns the name of the container whose log this is, the beginning of its number where none is
/// told: Docker's stands beside the log, Podman's in a list beside its folder.
fn container_of(log: &Path) -> Option<String> {
    let is_podmans = log.parent()?.file_name()? == "userdata";
    let is_inside = is_podmans || log.parent()?.file_name()? == "local-logs";
    let folder = if is_inside { log.parent()?.parent()? } else { log.parent()? };
    let id = folder.file_name()?.to_string_lossy().into_owned();
    let short: String = id.chars().take(12).collect();
    let named = if is_podmans {
        let list = read_json(&folder.with_file_name("containers.json"));
        list.as_array().and_then(|all| {
            let own = all.iter().find(|one| one["id"] == id)?;
            Some(own["names"][0].as_str()?.to_owned())
        })
    } else {
        let own = read_json(&folder.join("config.v2.json"));
        own["Name"].as_str().map(|name| name.trim_start_matches('/').to_owned())
    };
    Some(named.filter(|name| !name.is_empty()).unwrap_or(short))
}

/// Reads a file that is there as JSON, `null` otherwise.
fn read_json(path: &Path) -> Value {
    let mut text = Vec::new();
    let names: Vec<String> = parts(path).collect();
    // What cannot be read has no name to tell.
    let _ = tree::below(
        Path::new("/"),
        &names,
        |_| false,
        |_, step| {
            if let Ok(Step::File(file)) = step {
                let file: io::Take<File> = file;
                file.take(DESCRIPTION).read_to_end(&mut text)?;
            }
            Ok(())
        },
    );
    serde_json::from_slice(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use machine::config::{Containers, Scan};
    use zeroize::Zeroizing;

    use super::super::places;
    use super::*;

    const VALUE: &str = "tok_9fQ2xLw7RbZk31";

    fn put(path: &Path, text: &str) {
        use std::io::Write as _;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn job(paths: &[&Path], own: &[&Path], containers: &[&Path]) -> Job {
        let holder =
            Holder { secret: "secret/a".parse().unwrap(), key: "K".into(), ver: 3, old: false };
        let text = |path: &&Path| path.to_str().unwrap().to_owned();
        let settings = Scan {
            presets: Vec::new(),
            paths: paths.iter().map(text).collect(),
            containers: Containers::Below(containers.iter().map(text).collect()),
            except: vec!["skipped".to_owned()],
            ..Scan::default()
        };
        Job {
            values: vec![(holder, Zeroizing::new(VALUE.as_bytes().to_vec()))],
            places: places::of(&settings, &[]),
            except: Except::of(&settings, &[]),
            own: own.iter().map(|path| path.to_path_buf()).collect(),
            journal: false,
            max_files: 1_000,
            max_bytes: 1 << 30,
            max_time: Duration::from_mins(1),
            before: Vec::new(),
            now: Time::from_micros(7),
        }
    }

    fn places(outcome: &Outcome, root: &Path) -> Vec<String> {
        let root = format!("{}/", root.display());
        outcome.finds.iter().map(|it| it.place.as_str().replace(&root, "")).collect()
    }

    #[test]
    fn hostile_files_are_passed_by_and_values_found_behind_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let line = format!("a\nexport T={VALUE}\n");
        put(&root.join("home/.bash_history"), &line);
        put(&root.join("home/skipped/x"), &line);
        put(&root.join("home/app/.env"), &line);
        put(&root.join("home/state/agent.db"), &line);
        put(&root.join("outside/x"), &line);
        symlink(root.join("outside"), root.join("home/link")).unwrap();
        symlink(root.join("home"), root.join("home/loop")).unwrap();
        symlink("loop2", root.join("home/loop2")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(root.join("home/pipe")).status();
        assert!(made.unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(root.join("home/sock")).unwrap();
        let sparse = File::create(root.join("home/sparse")).unwrap();
        sparse.set_len(10 << 30).unwrap();
        put(&root.join(format!("home/{VALUE}.txt")), "");
        put(&root.join("home/mine"), &line);
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(root.join("home/.bash_history"), open).unwrap();
        let closed = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(root.join("home/mine"), closed).unwrap();

        let home = root.join("home");
        let own = [home.join("app/.env"), home.join("state")];
        let own: Vec<&Path> = own.iter().map(PathBuf::as_path).collect();
        let control = Control::default();
        let begun = Instant::now();
        let outcome = Worker::new(job(&[&home], &own, &[]), &control).run().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(places(&outcome, &root), ["home/***", "home/.bash_history", "home/mine"]);
        let history = &outcome.finds[1];
        assert_eq!((history.line, history.count, history.ver), (2, 1, 3));
        assert!(history.readable.as_ref().unwrap().as_str().ends_with(" 0644"));
        assert_eq!(outcome.finds[2].readable, None);
        assert!(outcome.missed.is_empty(), "{:?}", outcome.missed);
        assert!(outcome.bytes < 1 << 20, "{}", outcome.bytes);
    }

    #[test]
    fn bounds_end_a_scan_which_says_so_and_keeps_what_it_did_not_come_to() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["a", "b", "c"] {
            put(&root.join(name), VALUE);
        }
        let (gone, never) = (root.join("d"), root.join("nowhere/d"));
        let control = Control::default();
        let all = Worker::new(job(&[&root, &gone, &never], &[], &[]), &control).run().unwrap();
        assert_eq!(places(&all, &root), ["a", "b", "c"]);
        assert!(all.missed[1].as_str().contains("nowhere/d`: No such file"), "{:?}", all.missed);
        let few = Job { max_files: 2, before: all.finds, ..job(&[&root], &[], &[]) };
        let few = Worker::new(few, &control).run().unwrap();
        assert_eq!((places(&few, &root).len(), few.files), (3, 2));
        assert!(few.missed[0].as_str().contains("`max_files` (2)"), "{:?}", few.missed);
        let none = Job { max_bytes: 4, ..job(&[&root], &[], &[]) };
        let none = Worker::new(none, &control).run().unwrap();
        assert_eq!((none.finds.len(), none.bytes), (0, 0));
        let missed: Vec<&str> = none.missed.iter().map(Text::as_str).collect();
        assert!(missed[0].starts_with("3 files for which `max_bytes` (4) has no"));
        assert!(missed[1].ends_with("/a`: 18 B, more than is left of `max_bytes`"), "{missed:?}");
        control.stop();
        assert!(Worker::new(job(&[&root], &[], &[]), &control).run().is_none());
    }

    #[test]
    fn a_file_in_several_places_is_searched_once_and_a_large_one_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        put(&root.join("in/a"), VALUE);
        put(&root.join("in/large"), &VALUE.repeat(1_000));
        put(&root.join("in/z"), VALUE);
        let (inner, file, stars) = (root.join("in"), root.join("in/z"), root.join("i*/a"));
        let job =
            Job { max_bytes: 1_000, ..job(&[&file, &inner, &root, &inner, &stars], &[], &[]) };
        let outcome = Worker::new(job, &Control::default()).run().unwrap();
        assert_eq!(places(&outcome, &root), ["in/a", "in/z"]);
        assert!(outcome.finds.iter().all(|find| find.count == 1));
        assert_eq!((outcome.files, outcome.bytes), (2, 36));
        let missed: Vec<&str> = outcome.missed.iter().map(Text::as_str).collect();
        assert!(missed[1].ends_with("in/large`: 18 kB, more than is left of `max_bytes`"));
    }

    #[test]
    fn logs_of_containers_bear_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (docker, podman) = (root.join("docker"), root.join("podman"));
        let log = format!("{{\"log\":\"T={VALUE}\\n\"}}\n");
        put(&docker.join("abcdef0123456789/abcdef0123456789-json.log"), &log);
        put(&docker.join("abcdef0123456789/config.v2.json"), r#"{"Name":"/web"}"#);
        put(&docker.join("0123456789abcdef/0123456789abcdef-json.log"), &log);
        put(&podman.join("77/userdata/ctr.log"), &log);
        put(&podman.join("containers.json"), r#"[{"id":"77","names":["db"]}]"#);
        let control = Control::default();
        let job = job(&[], &[], &[&docker, &podman]);
        let outcome = Worker::new(job, &control).run().unwrap();
        let mut found = places(&outcome, &root);
        found.sort_unstable();
        assert_eq!(found, ["container 0123456789ab", "container db", "container web"]);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_told() {
        if rustix::process::geteuid().is_root() {
            // Root reads everything.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        put(&root.join("closed/x"), VALUE);
        let closed = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(root.join("closed"), closed).unwrap();
        let outcome = Worker::new(job(&[&root], &[], &[]), &Control::default()).run().unwrap();
        assert!(outcome.missed[0].as_str().contains("1 place could not be read"));
        let open = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(root.join("closed"), open).unwrap();
    }
}
