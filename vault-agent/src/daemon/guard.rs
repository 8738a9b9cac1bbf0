//! Watches files through `notify`: the folders they are in, as files are replaced by rename. What a change means is
//! decided by the daemon; here it only becomes a name in a set, so that a storm of events costs nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Watches a set of files that may change.
pub(super) struct Guard {
    watcher: Option<RecommendedWatcher>,
    shared: Arc<Shared>,
    /// The watched folders.
    folders: HashSet<PathBuf>,
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
}

impl Guard {
    /// Starts a watcher.
    ///
    /// # Errors
    /// When the system has no more of them: the guard then watches nothing.
    pub(super) fn new() -> (Self, Result<(), notify::Error>) {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let watcher = notify::recommended_watcher(move |event| seen.take(event));
        let (watcher, result) = match watcher {
            Ok(watcher) => (Some(watcher), Ok(())),
            Err(error) => (None, Err(error)),
        };
        (Self { watcher, shared, folders: HashSet::new() }, result)
    }

    /// Returns a guard that watches nothing.
    pub(super) fn off() -> Self {
        Self { watcher: None, shared: Arc::default(), folders: HashSet::new() }
    }

    /// Watches exactly `files` from now on. Of a file whose folder is missing, the nearest folder above is watched.
    ///
    /// # Errors
    /// The first folder that cannot be watched; the others are.
    pub(super) fn watch<'a>(
        &mut self,
        files: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), notify::Error> {
        let Some(watcher) = &mut self.watcher else { return Ok(()) };
        let mut names: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        let mut folders: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        for file in files {
            let Some((folder, name)) = nearest(file) else { continue };
            names.entry(name).or_default().push(file.to_owned());
            folders.entry(folder).or_default().push(file.to_owned());
        }
        let wanted: HashSet<PathBuf> = folders.keys().cloned().collect();
        let lost = {
            let mut board = self.shared.lock();
            board.names = names;
            board.folders = folders;
            std::mem::take(&mut board.lost)
        };
        for folder in lost {
            // The watch went with the folder, or would follow it to its new place.
            let _ = watcher.unwatch(&folder);
            self.folders.remove(&folder);
        }
        for folder in self.folders.difference(&wanted) {
            // It may be gone with its folder.
            let _ = watcher.unwatch(folder);
        }
        let mut result = Ok(());
        let mut watched: HashSet<PathBuf> = self.folders.intersection(&wanted).cloned().collect();
        for folder in wanted.difference(&self.folders) {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder.clone());
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        self.folders = watched;
        result
    }

    /// Waits until files may have changed.
    pub(super) async fn touched(&self) -> Touched {
        loop {
            self.shared.bell.notified().await;
            let mut board = self.shared.lock();
            let files = std::mem::take(&mut board.touched);
            let touched = Touched {
                files,
                all: std::mem::take(&mut board.all),
                moved: std::mem::take(&mut board.moved),
            };
            if touched != Touched::default() {
                return touched;
            }
        }
    }
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
            Ok(event) if !is_change(event.kind) => return,
            Ok(event) => {
                let mut known = false;
                for path in &event.paths {
                    known |= board.touch(path, event.kind);
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
        if let Some(files) = folders.get(path).filter(|_| went) {
            known = true;
            *moved = true;
            lost.insert(path.to_owned());
            touched.extend(files.iter().cloned());
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
    use crate::files::{self, Access};

    fn put(path: &Path, content: &str) {
        files::replace(path, content.as_bytes(), Access::PRIVATE).unwrap();
    }

    fn world() -> (tempfile::TempDir, PathBuf, Guard) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let (guard, started) = Guard::new();
        started.unwrap();
        (folder, path, guard)
    }

    #[tokio::test]
    async fn replacing_editing_and_removing_are_seen() {
        use std::io::Write as _;
        let (_folder, root, mut guard) = world();
        let file = root.join(".env");
        guard.watch([file.as_path()]).unwrap();
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
        guard.watch([file.as_path()]).unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        assert!(guard.touched().await.moved);
        guard.watch([file.as_path()]).unwrap();
        std::fs::create_dir(root.join("a/b")).unwrap();
        assert_eq!(guard.touched().await.files, [file.clone()].into());
        guard.watch([file.as_path()]).unwrap();
        put(&file, "1");
        assert_eq!(guard.touched().await.files, [file.clone()].into());
    }

    #[tokio::test]
    async fn a_replaced_folder_is_watched_again() {
        let (_folder, root, mut guard) = world();
        let file = root.join("a/.env");
        std::fs::create_dir(root.join("a")).unwrap();
        guard.watch([file.as_path()]).unwrap();
        std::fs::rename(root.join("a"), root.join("b")).unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        assert!(guard.touched().await.moved);
        guard.watch([file.as_path()]).unwrap();
        put(&file, "1");
        assert_eq!(guard.touched().await.files, [file.clone()].into());
    }
}
