//! The temporary file beside a target: locked while its writer lives, so that what a killed one
//! left is told apart.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::FileError;
use super::folder::Place;

/// How often a name is tried that a killed writer had taken.
const TRIES: usize = 8;

/// A new file, without a name until it is whole where the file system can do that; removed when
/// dropped before its rename.
pub(super) struct Temp<'a> {
    /// The open file.
    pub(super) file: File,
    place: &'a Place,
    name: OsString,
    /// Whether it stands under the temporary name.
    named: bool,
}

impl<'a> Temp<'a> {
    /// Creates a file without a name, 0600; `None` where the file system has none.
    pub(super) fn unnamed(place: &'a Place) -> Result<Option<Self>, FileError> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&place.folder, ".", flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            // Network and FAT file systems, and sandboxes.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {
                return Ok(None);
            }
            Err(errno) => return Err(FileError::errno("write beside", &place.path)(errno)),
        };
        lock(&file);
        let temp = Self { file, place, name: temp_name(&place.name), named: false };
        // Without /proc it could never get a name.
        Ok(link_path(&temp.file).exists().then_some(temp))
    }

    /// Creates a file under the temporary name, 0600 and exclusive; clears away what a killed
    /// writer left.
    pub(super) fn named(place: &'a Place) -> Result<Self, FileError> {
        let name = temp_name(&place.name);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let file =
                match rustix::fs::openat(&place.folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                    Ok(file) => File::from(file),
                    Err(Errno::EXIST) => {
                        clear(place, &name)?;
                        continue;
                    }
                    Err(errno) => return Err(FileError::errno("write beside", &place.path)(errno)),
                };
            // Another process may have taken the new file for a dead one before the lock: then the
            // name is gone.
            if lock(&file) && is_at(place, &name, &file)? {
                return Ok(Self { file, place, name, named: true });
            }
        }
        Err(FileError::Busy(place.path.clone()))
    }

    /// Gives a whole file the temporary name, from which it can be renamed; tells whether the
    /// system allows it.
    pub(super) fn show(&mut self) -> Result<bool, FileError> {
        let from = link_path(&self.file);
        for _ in 0..TRIES {
            let folder = &self.place.folder;
            match rustix::fs::linkat(CWD, &from, folder, &self.name, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => {
                    self.named = true;
                    return Ok(true);
                }
                Err(Errno::EXIST) => clear(self.place, &self.name)?,
                // A file that is another user's by now, without the right to link it.
                Err(Errno::PERM | Errno::XDEV | Errno::NOENT | Errno::OPNOTSUPP) => {
                    return Ok(false);
                }
                Err(errno) => {
                    return Err(FileError::errno("write beside", &self.place.path)(errno));
                }
            }
        }
        Err(FileError::Busy(self.place.path.clone()))
    }

    /// Returns the temporary name.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Gives the file its final name, in place of what has it now.
    pub(super) fn rename(&mut self) -> Result<(), FileError> {
        let Place { folder, name, .. } = self.place;
        rustix::fs::renameat(folder, &self.name, folder, name)
            .map_err(|errno| self.place.fault("replace", errno))?;
        self.named = false;
        Ok(())
    }

    /// Gives the file its final name; tells whether that was free.
    pub(super) fn create(&mut self) -> Result<bool, FileError> {
        let created = rename_free(self.place, &self.name, &self.place.name)?;
        self.named &= !created;
        Ok(created)
    }

    /// Exchanges it with the file at the final name, which then stands under the temporary one;
    /// tells whether the file system can.
    pub(super) fn exchange(&self) -> Result<bool, FileError> {
        let Place { folder, name, .. } = self.place;
        match rustix::fs::renameat_with(folder, &self.name, folder, name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(self.place.fault("replace", errno)),
        }
    }

    /// Leaves what stands under the temporary name where it is.
    pub(super) fn leave(&mut self) {
        self.named = false;
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if self.named {
            // Nobody is left to tell; a file that stays behind is cleared by the next writer.
            let _ = rustix::fs::unlinkat(&self.place.folder, &self.name, AtFlags::empty());
        }
    }
}

/// Renames within the folder of `place`, if nothing has the new name; tells whether that was so.
pub(super) fn rename_free(place: &Place, from: &OsStr, to: &OsStr) -> Result<bool, FileError> {
    let folder = &place.folder;
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(true),
        Err(Errno::EXIST) => return Ok(false),
        // File systems that know no such rename, most of which have links.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(place.fault("write", errno)),
    }
    match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(folder, from, AtFlags::empty())
            .map(|()| true)
            .map_err(|errno| place.fault("write", errno)),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::PERM | Errno::OPNOTSUPP) if place.find()?.is_none() => {
            let renamed = rustix::fs::renameat(folder, from, folder, to);
            renamed.map(|()| true).map_err(|errno| place.fault("write", errno))
        }
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(place.fault("write", errno)),
    }
}

/// Returns the path under which a file without a name can be linked.
fn link_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Removes what a killed writer left at the temporary name of `place`.
pub(super) fn sweep(place: &Place) -> Result<(), FileError> {
    match clear(place, &temp_name(&place.name)) {
        Ok(()) | Err(FileError::Busy(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn temp_name(name: &OsStr) -> OsString {
    let mut temp = OsString::from(".");
    temp.push(name);
    temp.push(".vault-new");
    temp
}

/// Removes the file at `name` unless its writer lives.
pub(super) fn clear(place: &Place, name: &OsStr) -> Result<(), FileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(&place.folder, name, flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            if !lock(&file) {
                return Err(FileError::Busy(place.path.clone()));
            }
            if !is_at(place, name, &file)? {
                return Ok(());
            }
        }
        Err(Errno::NOENT) => return Ok(()),
        // A link or something unreadable in the way is nobody's half-written file.
        Err(Errno::LOOP | Errno::ACCESS | Errno::NXIO) => {}
        Err(errno) => return Err(FileError::errno("write beside", &place.path)(errno)),
    }
    match rustix::fs::unlinkat(&place.folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(FileError::errno("write beside", &place.path)(errno)),
    }
}

/// Takes the lock; file systems without locks count as locked, as there is no second writer to fear
/// but ourselves.
fn lock(file: &File) -> bool {
    !matches!(
        rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive),
        Err(Errno::WOULDBLOCK)
    )
}

/// Tells whether `name` still means `file`.
fn is_at(place: &Place, name: &OsStr, file: &File) -> Result<bool, FileError> {
    let identity = |found: &Metadata| (found.dev(), found.ino());
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let there = match rustix::fs::openat(&place.folder, name, flags, Mode::empty()) {
        Ok(there) => File::from(there).metadata(),
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(FileError::errno("look beside", &place.path)(errno)),
    };
    let look = FileError::io("look beside", &place.path);
    match (there, file.metadata()) {
        (Ok(there), Ok(ours)) => Ok(identity(&there) == identity(&ours)),
        (Err(error), _) | (_, Err(error)) => Err(look(error)),
    }
}
