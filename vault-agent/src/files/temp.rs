//! The temporary file beside a target: locked while its writer lives, so that what a killed one left is told apart.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::FileError;
use super::folder::Place;

/// How often a name is tried that a killed writer had taken.
const TRIES: usize = 8;

/// A new file under the temporary name, removed when dropped before its rename.
pub(super) struct Temp<'a> {
    /// The open file.
    pub(super) file: File,
    place: &'a Place,
    name: OsString,
    renamed: bool,
}

impl<'a> Temp<'a> {
    /// Creates the file, 0600 and exclusive; clears away what a killed writer left.
    pub(super) fn create(place: &'a Place) -> Result<Self, FileError> {
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
            // Another process may have taken the new file for a dead one before the lock: then the name is gone.
            if lock(&file) && is_at(place, &name, &file)? {
                return Ok(Self { file, place, name, renamed: false });
            }
        }
        Err(FileError::Busy(place.path.clone()))
    }

    /// Returns the temporary name.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Gives the file its final name, in place of what has it now.
    pub(super) fn rename(&mut self) -> Result<(), FileError> {
        let Place { folder, name, path } = self.place;
        rustix::fs::renameat(folder, &self.name, folder, name)
            .map_err(FileError::errno("replace", path))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // Nobody is left to tell; a file that stays behind is cleared by the next writer.
            let _ = rustix::fs::unlinkat(&self.place.folder, &self.name, AtFlags::empty());
        }
    }
}

/// Removes what a killed writer left at the temporary name of `place`.
pub(super) fn sweep(place: &Place) -> Result<(), FileError> {
    match clear(place, &temp_name(&place.name)) {
        Ok(()) | Err(FileError::Busy(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn temp_name(name: &OsStr) -> OsString {
    let mut temp = OsString::from(".");
    temp.push(name);
    temp.push(".vault-new");
    temp
}

/// Removes the file at `name` unless its writer lives.
fn clear(place: &Place, name: &OsStr) -> Result<(), FileError> {
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

/// Takes the lock; file systems without locks count as locked, as there is no second writer to fear but ourselves.
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
