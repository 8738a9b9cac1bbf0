//! Looks at files once in a while: where the system has no more watches, and on network file
//! systems, where changes made by other hosts raise no event.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The time between two looks.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// File systems whose files other hosts, or programs behind the kernel's back, may change
/// (statfs(2)): NFS, CIFS, SMB2, SMB, FUSE, 9p, Ceph, AFS, Coda, OCFS2, Lustre, GFS2.
const REMOTE: [u32; 12] = [
    0x6969,
    0xFF53_4D42,
    0xFE53_4D42,
    0x517B,
    0x6573_5546,
    0x0102_1997,
    0x00C3_6400,
    0x5346_414F,
    0x7375_7245,
    0x7461_636F,
    0x0BD0_0BD0,
    0x0116_1970,
];

/// What tells one state of a file from another; `None` if it is not there.
type Mark = Option<(u64, u64, u64, i64, i64)>;

/// A file as it was seen last.
#[derive(Clone, Copy, Default)]
struct Seen {
    mark: Mark,
    /// Whether it was new then: a change made right after it, within one tick of the clock, leaves
    /// the mark as it is.
    fresh: bool,
}

/// Files that are looked at.
pub(super) struct Poll {
    every: Duration,
    files: HashMap<PathBuf, Seen>,
    next: Option<Instant>,
    looking: Option<JoinHandle<HashMap<PathBuf, Mark>>>,
}

impl Poll {
    /// Looks at no file yet, and at those to come once in `every`.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, files: HashMap::new(), next: None, looking: None }
    }

    /// Looks at exactly these files from now on; what is known of them stays.
    pub(super) fn set(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut before = std::mem::take(&mut self.files);
        let known = files.into_iter().map(|file| {
            let seen = before.remove(&file).unwrap_or_default();
            (file, seen)
        });
        self.files = known.collect();
        self.next =
            (!self.files.is_empty()).then(|| self.next.unwrap_or(Instant::now() + self.every));
    }

    /// Waits for the next look at all files, and returns those that have changed, for ever if there
    /// are none to look at. May be dropped and called again.
    pub(super) async fn changed(&mut self) -> BTreeSet<PathBuf> {
        if self.looking.is_none() {
            match self.next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
        let files: Vec<PathBuf> = self.files.keys().cloned().collect();
        let look = || files.into_iter().map(|file| (file.clone(), mark(&file))).collect();
        // A mount that hangs holds up this look and nothing else.
        let looking = self.looking.get_or_insert_with(|| tokio::task::spawn_blocking(look));
        let found: HashMap<PathBuf, Mark> = looking.await.unwrap_or_default();
        self.looking = None;
        self.next = Some(Instant::now() + self.every);
        let changed = found.into_iter().filter(|(file, mark)| {
            self.files.get_mut(file).is_some_and(|seen| {
                let fresh = seen.mark != *mark;
                let before = std::mem::replace(seen, Seen { mark: *mark, fresh });
                fresh || before.fresh
            })
        });
        changed.map(|(file, _)| file).collect()
    }
}

fn mark(file: &Path) -> Mark {
    // Where it leads, if it is a link.
    let found = file.metadata().or_else(|_| file.symlink_metadata()).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

/// Tells whether a folder is on a file system whose changes raise no events here.
pub(super) fn is_remote(folder: &Path) -> bool {
    // Compared in 32 bits: the width and sign of the type differ from one architecture to the next.
    let kind = rustix::fs::statfs(folder).map(|found| found.f_type.to_le_bytes());
    kind.is_ok_and(|kind| REMOTE.iter().any(|remote| kind.starts_with(&remote.to_le_bytes())))
}
