//! Why a file is refused or could not be written, and the way out.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A file that is refused, or an operation that failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FileError {
    #[error("path `{}` is not absolute, or has `.` or `..` in it", .0.display())]
    Relative(PathBuf),
    #[error("`{}`: the working folder cannot be found", .0.display())]
    NoWorkingFolder(PathBuf),
    #[error("`{}` is a symbolic link", .0.display())]
    Symlink(PathBuf),
    #[error("folder `{}` does not exist", .0.display())]
    NoFolder(PathBuf),
    #[error("nothing is mounted at `{}`", .0.display())]
    NotMounted(PathBuf),
    #[error("`{}` is a mount point, and cannot be replaced", .0.display())]
    MountPoint(PathBuf),
    #[error("`{}` cannot be changed: it is marked immutable or append-only", .0.display())]
    Immutable(PathBuf),
    #[error("`{}` is a link that belongs to user {uid}", path.display())]
    ForeignLink { path: PathBuf, uid: u32 },
    #[error("`{}` is not a regular file", .0.display())]
    NotRegular(PathBuf),
    #[error("folder `{}` may be changed by everybody", .0.display())]
    Everybodys(PathBuf),
    #[error("the file system of `{}` does not keep rights: mode {mode:04o}, owner {uid}", path.display())]
    Unkept { path: PathBuf, mode: u32, uid: u32 },
    #[error("`{}` is larger than {most} bytes", path.display())]
    TooLarge { path: PathBuf, most: u64 },
    #[error("`{}` is being written by another process", .0.display())]
    Busy(PathBuf),
    #[error("`{}` exists already", .0.display())]
    Exists(PathBuf),
    #[error("`{}` is open to others (mode {mode:03o})", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("`{}` belongs to user {uid}, not to user {us}", path.display())]
    Foreign { path: PathBuf, uid: u32, us: u32 },
    #[error("cannot {doing} `{}`", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl FileError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(super) fn errno(doing: &'static str, path: &Path) -> impl FnOnce(Errno) -> Self {
        let wrap = Self::io(doing, path);
        move |errno| wrap(errno.into())
    }

    /// Returns the way out, as one sentence without a full stop.
    pub fn hint(&self) -> String {
        match self {
            Self::NoWorkingFolder(_) => {
                "it was deleted or moved: `cd` into one that is there".to_owned()
            }
            Self::Relative(_) => "write the whole path from `/`".to_owned(),
            Self::Symlink(path) => match path.canonicalize() {
                Ok(real) => format!("links are never followed: name `{}` instead", real.display()),
                Err(_) => "links are never followed: name the real path instead".to_owned(),
            },
            Self::NoFolder(path) if is_hidden(path) => {
                "systemd hides it: `vault-agent install` makes the unit fit for it".to_owned()
            }
            Self::NoFolder(path) => format!("make it with `mkdir -p {}`", path.display()),
            Self::NotMounted(path) => {
                format!("mount it: `mount {}`; nothing is written until then", path.display())
            }
            Self::MountPoint(path) => format!(
                "mount its folder `{}` instead, or set `write = \"in_place\"`",
                path.parent().unwrap_or(path).display()
            ),
            Self::Immutable(path) => {
                format!("`lsattr -d {0}` shows it; `chattr -i -a {0}` ends it", path.display())
            }
            Self::ForeignLink { path, uid } => format!(
                "`chown -h root {}`, or name user {uid} as `owner` of this target",
                path.display()
            ),
            Self::NotRegular(_) => "name a file that may be replaced".to_owned(),
            Self::Everybodys(path) => {
                format!("run `chmod o-w {0}` (or `chmod +t {0}`)", path.display())
            }
            Self::Unkept { mode, uid, .. } => format!(
                "choose another place, or accept what the mount gives: mode = \"{mode:04o}\", owner = \"{uid}\""
            ),
            Self::TooLarge { .. } => "name a file that holds settings only".to_owned(),
            Self::Busy(_) => "stop the other process, or try again".to_owned(),
            Self::Exists(_) => "choose another name, or move the old file away".to_owned(),
            Self::Exposed { path, .. } => format!("run `chmod go-rwx {}`", path.display()),
            Self::Foreign { path, us, .. } => {
                format!("run as its owner, or `chown {us} {}`", path.display())
            }
            Self::Io { source, .. } if has_no_descriptors(source) => {
                "see what has so many files open, or raise `ulimit -n`; it is tried again".to_owned()
            }
            Self::Io { source, path, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => "run as a user who may write there".to_owned(),
                io::ErrorKind::StorageFull if has_no_inodes(path) => {
                    "remove some files: no inodes are left (`df -i`); the old file is untouched"
                        .to_owned()
                }
                io::ErrorKind::StorageFull => {
                    "free some space; the old file is untouched".to_owned()
                }
                io::ErrorKind::ReadOnlyFilesystem => {
                    "mount it writable; if systemd runs the agent, `vault-agent install` lets it write \
                     there; the old file is untouched".to_owned()
                }
                _ => "look at the disk and the mount".to_owned(),
            },
        }
    }
}

/// Tells whether the file system of `path`, or of its folder, has room for no further file, however
/// much space it has.
fn has_no_inodes(path: &Path) -> bool {
    let found =
        rustix::fs::statvfs(path).or_else(|errno| rustix::fs::statvfs(path.parent().ok_or(errno)?));
    found.is_ok_and(|found| found.f_files > 0 && found.f_ffree == 0)
}

/// Tells whether this process, or this host, may open no further file.
fn has_no_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// Tells whether a home is out of sight because of `ProtectHome=yes`, which leaves a folder that
/// nobody may look into.
fn is_hidden(folder: &Path) -> bool {
    let empty = |home: &&str| {
        folder.starts_with(home)
            && Path::new(home).metadata().is_ok_and(|found| found.mode() & 0o777 == 0)
    };
    ["/home", "/root", "/run/user"].iter().any(empty)
}
