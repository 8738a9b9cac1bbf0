//! Opens the folder of a file, so that everything after works on that folder and not on a path that
//! may change.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    Access as Rights, AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;

use super::FileError;

/// Returns a path as it is seen from the root; a relative one begins at the working folder.
pub fn absolute(path: &Path) -> Result<PathBuf, FileError> {
    std::path::absolute(path).map_err(|source| match std::env::current_dir() {
        Ok(_) => FileError::io("find", path)(source),
        Err(_) => FileError::NoWorkingFolder(path.to_owned()),
    })
}

/// A name in an open folder.
pub(super) struct Place {
    /// The whole path, for messages.
    pub(super) path: PathBuf,
    /// The folder.
    pub(super) folder: OwnedFd,
    /// The file's name in it.
    pub(super) name: OsString,
}

impl Place {
    /// Opens the folder of an absolute path, refusing a link at any component.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let (parent, name) = split(path)?;
        // `components` hides a `.` in the middle, which is harmless.
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(plain) {
            return Err(FileError::Relative(path.to_owned()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let folder = match rustix::fs::openat2(CWD, parent, flags, Mode::empty(), resolve) {
            // Kernels before 5.6, and sandboxes that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => walk(parent),
            opened => opened,
        };
        let folder = folder.map_err(|errno| fault(parent, errno))?;
        if let Some(open) = parent.ancestors().find(|folder| is_everybodys(folder)) {
            return Err(FileError::Everybodys(open.to_owned()));
        }
        Ok(Self { path: path.to_owned(), folder, name: name.to_owned() })
    }

    /// Opens the folder of a path that is our own choice or the caller's at a terminal, links and
    /// all.
    pub(super) fn open_trusted(path: &Path) -> Result<Self, FileError> {
        let (parent, name) = split(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            rustix::fs::open(parent, flags, Mode::empty()).map_err(|errno| fault(parent, errno))?;
        Ok(Self { path: path.to_owned(), folder, name: name.to_owned() })
    }

    /// Returns what stands at the name, links not followed.
    pub(super) fn find(&self) -> Result<Option<Metadata>, FileError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(found) => Ok(Some(
                File::from(found).metadata().map_err(FileError::io("look at", &self.path))?,
            )),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FileError::errno("look at", &self.path)(errno)),
        }
    }

    /// Opens the file for reading, if there is one that is no link.
    pub(super) fn open_file(&self) -> Result<Option<File>, FileError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Err(FileError::Symlink(self.path.clone())),
            Err(Errno::NXIO) => Err(FileError::NotRegular(self.path.clone())),
            Err(errno) => Err(FileError::errno("read", &self.path)(errno)),
        }
    }

    /// Says why the file could not be changed: mount points and marked files get a way out.
    pub(super) fn fault(&self, doing: &'static str, errno: Errno) -> FileError {
        match errno {
            Errno::BUSY => FileError::MountPoint(self.path.clone()),
            Errno::PERM if self.is_marked(&self.name) => FileError::Immutable(self.path.clone()),
            Errno::PERM if self.is_marked(OsStr::new(".")) => {
                FileError::Immutable(self.path.parent().unwrap_or(&self.path).to_owned())
            }
            errno => FileError::errno(doing, &self.path)(errno),
        }
    }

    /// Looks whether this process could write the file now, touching nothing: into it if `into`,
    /// else a new one in its place.
    pub(super) fn check_writable(&self, into: bool) -> Result<(), FileError> {
        let is_there = self.find()?.is_some();
        for (name, counts) in [(&*self.name, is_there), (OsStr::new("."), !into || !is_there)] {
            if counts && self.is_marked(name) {
                return Err(self.fault("write", Errno::PERM));
            }
        }
        let (name, rights) = match into && is_there {
            true => (&*self.name, Rights::WRITE_OK),
            false => (OsStr::new("."), Rights::WRITE_OK | Rights::EXEC_OK),
        };
        match rustix::fs::accessat(&self.folder, name, rights, AtFlags::EACCESS) {
            // Where the kernel cannot tell, writing will.
            Ok(()) | Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(self.fault("write", errno)),
        }
    }

    /// Tells whether `name` in the folder is immutable or append-only (chattr(1)).
    fn is_marked(&self, name: &OsStr) -> bool {
        let marks = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statx(&self.folder, name, flags, StatxFlags::empty());
        found.is_ok_and(|found| found.stx_attributes.intersects(marks))
    }
}

/// Tells one file from another, whatever its folder is called: that folder's device and inode, and
/// the file's name there.
pub type FileId = (u64, u64, OsString);

/// Returns which file a path names, whether it is there or not; `None` without its folder.
#[must_use]
pub fn file_id(path: &Path) -> Option<FileId> {
    let folder = path.parent()?.metadata().ok()?;
    Some((folder.dev(), folder.ino(), path.file_name()?.to_owned()))
}

/// Splits a path into folder and name.
fn split(path: &Path) -> Result<(&Path, &OsStr), FileError> {
    let relative = || FileError::Relative(path.to_owned());
    let name = path.file_name().ok_or_else(relative)?;
    let parent = path.parent().ok_or_else(relative)?;
    Ok((if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, name))
}

/// Tells whether anybody on this host could exchange what is in a folder: writable by all, and not
/// sticky as `/tmp` is.
fn is_everybodys(folder: &Path) -> bool {
    folder.symlink_metadata().is_ok_and(|found| found.is_dir() && found.mode() & 0o1002 == 0o0002)
}

/// Opens an absolute folder one component at a time, none of them a link.
fn walk(folder: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut open = rustix::fs::open("/", flags, Mode::empty())?;
    for part in folder.components() {
        if let Component::Normal(name) = part {
            // A link answers ENOTDIR here, because of O_DIRECTORY: `fault` finds it again.
            open = rustix::fs::openat(&open, name, flags, Mode::empty())?;
        }
    }
    Ok(open)
}

/// Says why a folder could not be opened, naming the link if there is one.
fn fault(folder: &Path, errno: Errno) -> FileError {
    let is_link =
        |path: &&Path| path.symlink_metadata().is_ok_and(|found| found.file_type().is_symlink());
    match errno {
        Errno::LOOP | Errno::NOTDIR => match folder.ancestors().filter(is_link).last() {
            Some(_) => FileError::Symlink(folder.to_owned()),
            None => FileError::errno("open folder", folder)(errno),
        },
        Errno::NOENT => FileError::NoFolder(folder.to_owned()),
        errno => FileError::errno("open folder", folder)(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_opening_refuse_links() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/deep")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        for path in ["link/deep/file", "link/file"] {
            let path = root.join(path);
            assert!(matches!(Place::open(&path), Err(FileError::Symlink(_))), "{path:?}");
            let folder = path.parent().unwrap();
            assert!(
                matches!(fault(folder, walk(folder).unwrap_err()), FileError::Symlink(_)),
                "{path:?}"
            );
        }
        assert!(Place::open(&root.join("real/deep/file")).is_ok());
        assert!(walk(&root.join("real/deep")).is_ok());
        assert!(Place::open_trusted(&root.join("link/deep/file")).is_ok());
    }
}
