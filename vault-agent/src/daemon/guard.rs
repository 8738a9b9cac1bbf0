//! Watches files through `notify`: the folders they are in, as files are replaced by rename. What a change means is
//! decided by the daemon; here it only becomes a name in a set, so that a storm of events costs nothing. Files that
//! cannot be watched are looked at once in a while instead.

mod mounts;
mod poll;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use mounts::Mounts;
use poll::Poll;

/// The file system of a folder and its number there; `None` if it is not there.
type Identity = Option<(u64, u64)>;

/// Makes a watcher that leaves what it sees of some kinds on the board.
type Make = fn(Arc<Shared>, EventKindMask) -> Result<RecommendedWatcher, notify::Error>;

/// Events after which a file may be another. Each wakes a thread: a look into a folder, and every write into any file of
/// it, are nobody's news.
const CHANGES: EventKindMask = EventKindMask::CREATE
    .union(EventKindMask::REMOVE)
    .union(EventKindMask::MODIFY_META)
    .union(EventKindMask::MODIFY_NAME)
    .union(EventKindMask::ACCESS_CLOSE);

/// What a file is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// To hear that it may be another.
    Changes,
    /// To know as well whether a program is writing into it.
    Writing,
}

/// Watches a set of files that may change.
pub(super) struct Guard {
    /// Makes the watcher; `None` if nothing is to be watched.
    make: Option<Make>,
    watcher: Option<RecommendedWatcher>,
    /// What it tells of.
    watched: Watched,
    shared: Arc<Shared>,
    /// The watched folders: a mount makes another folder of the same name.
    folders: HashMap<PathBuf, Identity>,
    poll: Poll,
    mounts: Mounts,
    /// Whether some folders could not be watched when last tried.
    troubled: bool,
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
    bell: Notify,
}

/// What the watcher's thread looks up and leaves.
#[derive(Default)]
struct Board {
    /// Watched files, and names on the way to those whose folder is missing, each with the files it is about.
    names: HashMap<PathBuf, Vec<PathBuf>>,
    /// The same files by watched folder.
    folders: HashMap<PathBuf, Vec<PathBuf>>,
    /// Files that may have changed.
    touched: BTreeSet<PathBuf>,
    /// Watched files that a program has written into and not closed yet.
    open: HashSet<PathBuf>,
    /// Whether events were lost.
    all: bool,
    /// Watched folders that were moved or removed.
    lost: HashSet<PathBuf>,
    /// Whether a folder came or went, so that the watches must be taken anew.
    moved: bool,
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

    /// Returns a guard that never watches anything.
    pub(super) fn off() -> Self {
        Self {
            make: None,
            watcher: None,
            watched: Watched::Changes,
            shared: Arc::default(),
            folders: HashMap::new(),
            poll: Poll::new(poll::EVERY),
            mounts: Mounts::off(),
            troubled: false,
        }
    }

    /// Watches exactly `files` from now on, for what `watched` says. Of a file whose folder is missing, the nearest folder
    /// above is watched. Files in folders that cannot be watched, or on network file systems, are polled.
    ///
    /// # Errors
    /// Why the first folder cannot be watched; the others are.
    pub(super) fn watch<'a>(
        &mut self,
        files: impl IntoIterator<Item = &'a Path>,
        watched: Watched,
    ) -> Result<(), notify::Error> {
        let Some(make) = self.make else { return Ok(()) };
        if self.watched != watched {
            self.watched = watched;
            self.watcher = None;
            self.folders.clear();
            // Nobody hears of what changes until the folders are watched again.
            self.shared.lock().all = true;
            self.shared.bell.notify_one();
        }
        let mut names: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        let mut folders: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        for file in files {
            let Some((folder, name)) = nearest(file) else { continue };
            names.entry(name).or_default().push(file.to_owned());
            folders.entry(folder).or_default().push(file.to_owned());
        }
        let (lost, files) = {
            let mut board = self.shared.lock();
            board.open.retain(|file| names.contains_key(file));
            board.names = names;
            board.folders.clone_from(&folders);
            (std::mem::take(&mut board.lost), folders)
        };
        if self.watcher.is_none() {
            let kinds = match watched {
                Watched::Changes => CHANGES,
                Watched::Writing => CHANGES.union(EventKindMask::MODIFY_DATA),
            };
            match make(Arc::clone(&self.shared), kinds) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => {
                    self.troubled = true;
                    self.poll.set(files.into_values().flatten());
                    return Err(error);
                }
            }
        }
        let (unwatched, result) = self.renew(files.keys(), &lost);
        self.troubled = result.is_err();
        let polled = files
            .into_iter()
            .filter(|(folder, _)| unwatched.contains(folder) || poll::is_remote(folder));
        self.poll.set(polled.flat_map(|(_, files)| files));
        result
    }

    /// Watches exactly these folders; returns those that cannot be watched, and why the first cannot.
    fn renew<'a>(
        &mut self,
        wanted: impl Iterator<Item = &'a PathBuf>,
        lost: &HashSet<PathBuf>,
    ) -> (HashSet<PathBuf>, Result<(), notify::Error>) {
        let (mut unwatched, mut result) = (HashSet::new(), Ok(()));
        let Some(watcher) = &mut self.watcher else { return (unwatched, result) };
        let wanted: HashMap<PathBuf, _> =
            wanted.map(|path| (path.clone(), identity(path))).collect();
        self.folders.retain(|folder, known| {
            // A watch that went with its folder, or would follow it to its new place, is taken anew.
            let stays = !lost.contains(folder) && wanted.get(folder) == Some(known);
            if !stays {
                // It may be gone with its folder.
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        for (folder, identity) in wanted {
            if self.folders.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder, identity);
                }
                Err(error) => {
                    unwatched.insert(folder);
                    result = result.and(Err(error));
                }
            }
        }
        (unwatched, result)
    }

    /// Tells whether a program has written into `file` and has not closed it yet; only if it is watched for that.
    pub(super) fn is_open(&self, file: &Path) -> bool {
        self.shared.lock().open.contains(file)
    }

    /// Waits until files may have changed.
    pub(super) async fn touched(&mut self) -> Touched {
        loop {
            tokio::select! {
                () = self.shared.bell.notified() => {}
                files = self.poll.changed() => {
                    // Whatever kept the folders from being watched may be over.
                    let touched = Touched { files, moved: self.troubled, ..Touched::default() };
                    if touched != Touched::default() {
                        return touched;
                    }
                    continue;
                }
                others = self.mounts.changed(&self.folders) => {
                    let board = self.shared.lock();
                    let files = others.iter().filter_map(|folder| board.folders.get(folder));
                    let files = files.flatten().cloned().collect();
                    return Touched { files, moved: !others.is_empty(), mounted: true, all: false };
                }
            }
            let mut board = self.shared.lock();
            let touched = Touched {
                files: std::mem::take(&mut board.touched),
                all: std::mem::take(&mut board.all),
                moved: std::mem::take(&mut board.moved),
                mounted: false,
            };
            if touched != Touched::default() {
                return touched;
            }
        }
    }
}

/// Makes a watcher that leaves what it sees in `shared`.
fn watcher(shared: Arc<Shared>, kinds: EventKindMask) -> Result<RecommendedWatcher, notify::Error> {
    let config = notify::Config::default().with_event_kinds(kinds);
    RecommendedWatcher::new(move |event| shared.take(event), config)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what an event is about; runs on the watcher's thread.
    fn take(&self, event: Result<Event, notify::Error>) {
        let mut board = self.lock();
        match event {
            Ok(event) if event.need_rescan() => board.all = true,
            Ok(event) => {
                let mut known = false;
                for path in &event.paths {
                    known |= board.note_open(path, event.kind);
                    known |= is_change(event.kind) && board.touch(path, event.kind);
                }
                if !known {
                    return;
                }
            }
            Err(_) => board.all = true,
        }
        drop(board);
        self.bell.notify_one();
    }
}

impl Board {
    /// Notes whether a watched file is being written; tells whether that is news.
    fn note_open(&mut self, path: &Path, kind: EventKind) -> bool {
        if !self.names.contains_key(path) {
            return false;
        }
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) => self.open.insert(path.to_owned()),
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => self.open.remove(path),
            EventKind::Access(_) | EventKind::Create(_) | EventKind::Modify(_) => false,
            EventKind::Any | EventKind::Other => false,
        }
    }

    /// Notes the files that `path` is about; tells whether there are any.
    fn touch(&mut self, path: &Path, kind: EventKind) -> bool {
        let Self { names, folders, touched, lost, moved, .. } = self;
        let mut known = false;
        if let Some(files) = names.get(path) {
            known = true;
            *moved |= files.iter().any(|file| file != path);
            touched.extend(files.iter().cloned());
        }
        let went = matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
        // Another owner or mode of a folder may be what its files were waiting for.
        let opened = matches!(kind, EventKind::Modify(ModifyKind::Metadata(_)));
        if let Some(files) = folders.get(path).filter(|_| went || opened) {
            known = true;
            touched.extend(files.iter().cloned());
            if went {
                *moved = true;
                lost.insert(path.to_owned());
            }
        }
        known
    }
}

/// Tells events after which a file may be another: a writer has closed it, or its name or rights have changed. A write
/// alone does not count: half a file is nobody's news.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(kind) => matches!(kind, ModifyKind::Name(_) | ModifyKind::Metadata(_)),
        EventKind::Create(_) | EventKind::Remove(_) => true,
        EventKind::Any | EventKind::Other => false,
    }
}

/// Tells a folder from another one that takes its place.
fn identity(folder: &Path) -> Identity {
    folder.metadata().ok().map(|found| (found.dev(), found.ino()))
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
mod tests {
    use super::*;
    use host::files::{self, Access};

    fn put(path: &Path, content: &str) {
        files::replace(path, content.as_bytes(), Access::PRIVATE).unwrap();
    }

    fn world() -> (tempfile::TempDir, PathBuf, Guard) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path, Guard::new())
    }

    #[tokio::test]
    async fn replacing_editing_and_removing_are_seen() {
        use std::io::Write as _;
        let (_folder, root, mut guard) = world();
        let file = root.join(".env");
        guard.watch([file.as_path()], Watched::Changes).unwrap();
        put(&root.join("other"), "x");
        put(&file, "1");
        assert_eq!(guard.touched().await.files, [file.clone()].into());
        let mut open = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
        open.write_all(b"2").unwrap();
        drop(open);
        assert_eq!(guard.touched().await.files, [file.clone()].into());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(guard.touched().await.files, [file.clone()].into());
    }

    #[tokio::test]
    async fn a_missing_folder_is_waited_for() {
        let (_folder, root, mut guard) = world();
        let file = root.join("a/b/.env");
        guard.watch([file.as_path()], Watched::Changes).unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        assert!(guard.touched().await.moved);
        guard.watch([file.as_path()], Watched::Changes).unwrap();
        std::fs::create_dir(root.join("a/b")).unwrap();
        assert_eq!(guard.touched().await.files, [file.clone()].into());
        guard.watch([file.as_path()], Watched::Changes).unwrap();
        put(&file, "1");
        assert_eq!(guard.touched().await.files, [file.clone()].into());
    }

    #[tokio::test]
    async fn a_replaced_folder_is_watched_again() {
        let (_folder, root, mut guard) = world();
        let file = root.join("a/.env");
        std::fs::create_dir(root.join("a")).unwrap();
        guard.watch([file.as_path()], Watched::Changes).unwrap();
        std::fs::rename(root.join("a"), root.join("b")).unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        assert!(guard.touched().await.moved);
        guard.watch([file.as_path()], Watched::Changes).unwrap();
        put(&file, "1");
        assert_eq!(guard.touched().await.files, [file.clone()].into());
    }

    #[tokio::test]
    async fn a_file_is_open_until_its_writer_closes_it() {
        use std::io::Write as _;
        let (_folder, root, mut guard) = world();
        let file = root.join(".env");
        guard.watch([file.as_path()], Watched::Writing).unwrap();
        put(&file, "1");
        assert_eq!(guard.touched().await.files, [file.clone()].into());
        let mut open = std::fs::OpenOptions::new().write(true).truncate(true).open(&file).unwrap();
        open.write_all(b"half").unwrap();
        put(&root.join("other"), "x");
        while !guard.is_open(&file) {
            tokio::task::yield_now().await;
        }
        drop(open);
        assert_eq!(guard.touched().await.files, [file.clone()].into());
        assert!(!guard.is_open(&file));
    }

    #[tokio::test]
    async fn without_watches_files_are_polled() {
        let (_folder, root, mut guard) = world();
        let broken = |_, _| Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        guard.make = Some(broken);
        guard.poll = Poll::new(std::time::Duration::from_millis(1));
        let file = root.join(".env");
        put(&file, "1");
        guard.watch([file.as_path()], Watched::Changes).unwrap_err();
        put(&file, "2");
        let touched = guard.touched().await;
        assert_eq!((touched.files, touched.moved), ([file.clone()].into(), true));
        guard.watch([file.as_path()], Watched::Changes).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(guard.touched().await.files, [file.clone()].into());
        // The limit is raised: events again.
        guard.make = Some(watcher);
        guard.watch([file.as_path()], Watched::Changes).unwrap();
        put(&file, "3");
        assert_eq!(guard.touched().await.files, [file].into());
    }
}
