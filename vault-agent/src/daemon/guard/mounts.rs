//! Notices that a file system was mounted or unmounted: then a folder of the same name is another
//! one, and no event of the old one tells.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use host::files::binds::Points;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

/// The table of mounts, which the kernel announces every change of (proc(5)).
const TABLE: &str = "/proc/self/mountinfo";

/// The file system of a folder and its number there; `None` if it is not there.
pub(super) type Identity = Option<(u64, u64)>;

/// Waits for changes of the table, by default for nothing.
#[derive(Default)]
pub(super) struct Mounts {
    table: Option<AsyncFd<File>>,
    /// Where something is mounted.
    points: Points,
    looking: Option<JoinHandle<(BTreeSet<PathBuf>, Points)>>,
}

/// What is another one than before.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Folders.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Where something was mounted or unmounted, files among them.
    pub(super) points: BTreeSet<PathBuf>,
}

impl Mounts {
    /// Waits for changes from now on; without `/proc` for nothing.
    pub(super) fn new() -> Self {
        #[expect(
            deprecated,
            reason = "unsound for types that lie about their descriptor; a file does not"
        )]
        let register = |table| AsyncFd::with_interest(table, Interest::PRIORITY);
        let table = File::open(TABLE).and_then(register);
        let table = table.inspect_err(|error| tracing::warn!("cannot watch `{TABLE}`: {error}"));
        Self { table: table.ok(), points: Points::read(), looking: None }
    }

    /// Waits until a file system was mounted, unmounted or mounted otherwise, and returns where,
    /// and which of `folders` are others now. May be dropped and called again.
    pub(super) async fn changed(&mut self, folders: &HashMap<PathBuf, Identity>) -> Others {
        if self.looking.is_none() {
            let Some(table) = &self.table else { return std::future::pending().await };
            let Ok(mut ready) = table.ready(Interest::PRIORITY).await else {
                self.table = None;
                return Others::default();
            };
            ready.clear_ready();
            let known = folders.clone();
            // A mount that hangs holds up this look and nothing else.
            self.looking = Some(tokio::task::spawn_blocking(|| {
                let others = known.into_iter().filter(|(folder, known)| identity(folder) != *known);
                (others.map(|(folder, _)| folder).collect(), Points::read())
            }));
        }
        let (folders, points) = match &mut self.looking {
            Some(looking) => looking.await.unwrap_or_default(),
            None => Default::default(),
        };
        self.looking = None;
        let before = std::mem::replace(&mut self.points, points);
        Others { folders, points: before.other(&self.points) }
    }
}

/// Tells a folder from another one that takes its place.
pub(super) fn identity(folder: &Path) -> Identity {
    folder.metadata().ok().map(|found| (found.dev(), found.ino()))
}
