//! Watches files through `notify`: the folders they are in, as files are replaced by rename. What a
//! change means is decided by the daemon; here it only becomes a name in a set, so that a storm of
//! events costs nothing. Files that cannot be watched are looked at once in a while instead.

mod look;
mod mounts;
mod poll;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::io::Errno;
use tokio::sync::Notify;

use host::files::ways;
use look::Looks;
use mounts::{Identity, Mounts, identity};
use poll::Poll;

/// A program that has written into a file has closed it.
const CLOSED: AccessKind = AccessKind::Close(AccessMode::Write);

/// Makes a watcher that leaves what it sees on the board.
pub(super) type Make = fn(Arc<Shared>) -> Result<RecommendedWatcher, notify::Error>;

/// Watches a set of files that may change.
pub(super) struct Guard {
    /// Makes the watcher; `None` if nothing is to be watched.
    make: Option<Make>,
    watcher: Option<RecommendedWatcher>,
    shared: Arc<Shared>,
    /// The watched folders: a mount makes another folder of the same name.
    folders: HashMap<PathBuf, Identity>,
    poll: Poll,
    mounts: Mounts,
    looks: Looks,
    /// Whether some folders could not be watched when last tried.
    troubled: bool,
}

/// The board, and a bell that rings when there is news on it.
#[derive(Default)]
pub(super) struct Shared {
    board: Mutex<Board>,
    bell: Notify,
}

/// What the watcher's thread looks up and leaves.
#[derive(Default)]
struct Board {
    /// Watched files, links on the way to them, and names on the way to those whose folder is
    /// missing, each with the files it is about.
    names: HashMap<PathBuf, Vec<PathBuf>>,
    /// The same files by watched folder.
    folders: HashMap<PathBuf, Vec<PathBuf>>,
    touched: Touched,
    /// Watched files that a program has written into and not closed yet.
    open: HashSet<PathBuf>,
    /// Watched folders that were moved or removed.
    lost: HashSet<PathBuf>,
}

/// What may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// These files.
    pub(super) files: BTreeSet<PathBuf>,
    /// Any file: events were lost.
    pub(super) all: bool,
    /// Whether a folder came or went: call [`Guard::watch`] again.
    pub(super) moved: bool,
    /// Whether a file system was mounted, unmounted or mounted otherwise: what failed may work now.
    pub(super) mounted: bool,
}

impl Guard {
    /// Returns a guard that watches nothing yet.
    pub(super) fn new() -> Self {
        Self { make: Some(watcher), mounts: Mounts::new(), ..Self::off() }
    }

    /// Returns a guard whose watcher is made otherwise.
    #[cfg(test)]
    pub(super) fn made_by(make: Make) -> Self {
        Self { make: Some(make), ..Self::off() }
    }

    /// Returns a guard that never watches anything.
    pub(super) fn off() -> Self {
        Self {
            make: None,
            watcher: None,
            shared: Arc::default(),
            folders: HashMap::new(),
            poll: Poll::new(poll::EVERY),
            mounts: Mounts::default(),
            looks: Looks::new(places),
            troubled: false,
        }
    }

    /// Watches exactly `files` from now on, each where it really is, and every link on the way
    /// there. Of a file whose folder is missing, the nearest folder above is watched. Files in
    /// folders that cannot be watched, or on network file systems, are polled. Those in folders
    /// that do not answer are left alone until they do.
    ///
    /// # Errors
    /// Why the first folder cannot be watched, for people; the others are.
    pub(super) fn watch<'a>(
        &mut self,
        files: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), String> {
        let Some(make) = self.make else { return Ok(()) };
        let mut names: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        let mut folders: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        let files: Vec<PathBuf> = files.into_iter().map(Path::to_owned).collect();
        let shared = Arc::clone(&self.shared);
        let found = self.looks.at(&files, move || {
            shared.lock().touched.moved = true;
            shared.bell.notify_one();
        });
        for (file, places) in found.places {
            for (folder, name) in places {
                names.entry(name).or_default().push(file.clone());
                folders.entry(folder).or_default().push(file.clone());
            }
        }
        let (lost, files) = {
            let mut board = self.shared.lock();
            let watched: HashSet<&PathBuf> = names.values().flatten().collect();
            board.open.retain(|file| watched.contains(file));
            board.names = names;
            board.folders.clone_from(&folders);
            (std::mem::take(&mut board.lost), folders)
        };
        let mut result = Ok(());
        if self.watcher.is_none() {
            result = make(Arc::clone(&self.shared)).map(|watcher| self.watcher = Some(watcher));
        }
        let mut unwatched: HashSet<PathBuf> = files.keys().cloned().collect();
        if let Some(watcher) = &mut self.watcher {
            (unwatched, result) = renew(watcher, &mut self.folders, unwatched, &lost);
        }
        self.troubled = result.is_err();
        let polled = files
            .into_iter()
            .filter(|(folder, _)| unwatched.contains(folder) || poll::is_remote(folder));
        self.poll.set(polled.flat_map(|(_, files)| files));
        let hangs = |folder: PathBuf| format!("`{}` does not answer", folder.display());
        result.map_err(|error| why(&error)).and(found.hangs.map_or(Ok(()), |it| Err(hangs(it))))
    }

    /// Tells whether a program has written into `file` and has not closed it yet.
    pub(super) fn is_open(&self, file: &Path) -> bool {
        self.shared.lock().open.contains(file)
    }

    /// Waits until files may have changed.
    pub(super) async fn touched(&mut self) -> Touched {
        loop {
            let touched = tokio::select! {
                () = self.shared.bell.notified() => std::mem::take(&mut self.shared.lock().touched),
                files = self.poll.changed() => {
                    // Whatever kept the folders from being watched may be over.
                    Touched { files, moved: self.troubled, ..Touched::default() }
                }
                others = self.mounts.changed(&self.folders) => {
                    let board = self.shared.lock();
                    let inside = others.folders.iter().filter_map(|it| board.folders.get(it));
                    // A single file has another one mounted over it.
                    let over = others.points.iter().filter_map(|it| board.names.get(it));
                    let files = inside.chain(over).flatten().cloned().collect();
                    let moved = !others.folders.is_empty();
                    Touched { files, moved, mounted: true, all: false }
                }
            };
            if touched != Touched::default() {
                return touched;
            }
        }
    }
}

/// Watches exactly the folders in `wanted`, of which `watched` are; returns those that cannot be,
/// and why the first cannot.
fn renew(
    watcher: &mut RecommendedWatcher,
    watched: &mut HashMap<PathBuf, Identity>,
    wanted: HashSet<PathBuf>,
    lost: &HashSet<PathBuf>,
) -> (HashSet<PathBuf>, Result<(), notify::Error>) {
    let (mut unwatched, mut result) = (HashSet::new(), Ok(()));
    let wanted: HashMap<PathBuf, Identity> =
        wanted.into_iter().map(|path| (path.clone(), identity(&path))).collect();
    watched.retain(|folder, known| {
        // A watch that went with its folder, or would follow it to its new place, is taken anew.
        let stays = !lost.contains(folder) && wanted.get(folder) == Some(known);
        if !stays {
            // It may be gone with its folder.
            let _ = watcher.unwatch(folder);
        }
        stays
    });
    for (folder, identity) in wanted {
        if watched.contains_key(&folder) {
            continue;
        }
        match watcher.watch(&folder, RecursiveMode::NonRecursive) {
            Ok(()) => drop(watched.insert(folder, identity)),
            Err(error) => {
                unwatched.insert(folder);
                result = result.and(Err(error));
            }
        }
    }
    (unwatched, result)
}

/// Returns why folders are not watched, in one line that says what to do.
fn why(error: &notify::Error) -> String {
    let what = match &error.kind {
        ErrorKind::MaxFilesWatch => "watches",
        ErrorKind::Io(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            // The kernel says the same of both limits.
            if std::fs::File::open("/dev/null").is_err() {
                return "the agent has no file descriptors left: `ulimit -n`".to_owned();
            }
            "instances"
        }
        _ => return error.to_string(),
    };
    let setting = format!("fs.inotify.max_user_{what}");
    format!("this host's inotify {what} are used up; `sysctl {setting}` shows the limit")
}

/// Makes a watcher that leaves what it sees in `shared`.
fn watcher(shared: Arc<Shared>) -> Result<RecommendedWatcher, notify::Error> {
    notify::recommended_watcher(move |event| shared.take(event))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what an event is about; runs on the watcher's thread. Of the files of a watched
    /// folder, most events are nobody's news: the daemon does not wake for them.
    fn take(&self, event: Result<Event, notify::Error>) {
        let news = match event {
            // Programs that only look come with every reader of a watched folder.
            Ok(Event { kind: EventKind::Access(kind), .. }) if kind != CLOSED => return,
            Ok(event) if !event.need_rescan() => {
                let mut board = self.lock();
                // All are noted, whichever is news.
                event.paths.iter().filter(|path| board.note(path, event.kind)).count() > 0
            }
            // Events were lost.
            Ok(_) | Err(_) => {
                self.lock().touched.all = true;
                true
            }
        };
        if news {
            self.bell.notify_one();
        }
    }
}

impl Board {
    /// Notes the files that an event at `path` is about; tells whether any of them may be another
    /// now: a writer has closed it, or its name or rights have changed. A write alone does not
    /// count: half a file is nobody's news.
    fn note(&mut self, path: &Path, kind: EventKind) -> bool {
        let Self { names, folders, touched, open, lost } = self;
        let files = names.get(path);
        let went = match kind {
            EventKind::Modify(ModifyKind::Data(_)) => {
                open.extend(files.into_iter().flatten().cloned());
                return false;
            }
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
            EventKind::Access(_)
            | EventKind::Create(_)
            | EventKind::Modify(ModifyKind::Metadata(_)) => false,
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => return false,
        };
        if went || matches!(kind, EventKind::Access(_)) {
            for file in files.into_iter().flatten() {
                open.remove(file);
            }
        }
        if let Some(files) = files {
            touched.moved |= files.iter().any(|file| file != path);
            touched.files.extend(files.iter().cloned());
        }
        // Another owner or mode of a folder may be what its files were waiting for.
        let opened = matches!(kind, EventKind::Modify(_));
        let inside = folders.get(path).filter(|_| went || opened);
        if let Some(files) = inside {
            touched.files.extend(files.iter().cloned());
            if went {
                touched.moved = true;
                lost.insert(path.to_owned());
            }
        }
        files.is_some() || inside.is_some()
    }
}

/// Returns each folder that is to be watched for a file, with the name in it that leads there.
fn places(file: &Path) -> Vec<(PathBuf, PathBuf)> {
    ways(file).iter().filter_map(|way| nearest(way)).collect()
}

/// Returns the nearest folder above `file` that exists, and the name in it that leads to the file.
fn nearest(file: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut name = file;
    loop {
        let folder = name.parent()?;
        if folder.is_dir() {
            return Some((folder.to_owned(), name.to_owned()));
        }
        name = folder;
    }
}

#[cfg(test)]
mod tests;
