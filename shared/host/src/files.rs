//! The only writer of files: whole or not at all, private from the first byte, never through a
//! link.
//!
//! [`replace`] survives `kill -9` and power cuts: a reader sees the old content or the new, nothing
//! else. What goes into a file, and who wants it there, does not live here.

mod append;
mod attributes;
mod before;
pub mod binds;
mod error;
mod folder;
pub mod git;
mod gitignore;
mod in_place;
mod links;
pub mod mount;
mod private;
mod settings;
mod swap;
mod temp;
mod wipe;

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;
use shared::hash::Hash;
use zeroize::Zeroizing;

pub use append::Growing;
pub use before::{KeepError, Kept, keep_before, tag};
pub use error::FileError;
use folder::Place;
pub use folder::{FileId, absolute, file_id};
pub use in_place::{finish_in_place, in_place, overwrite_trusted};
pub use links::{Followed, follow, ways};
pub use private::{check_private, read_private, read_private_named};
pub use settings::settings;
pub use swap::{
    Exchanged, LARGEST, Old, Read, Swapped, copy_aside, create_when, exchange, exchange_when, read,
    remove_if,
};
use temp::Temp;
pub use wipe::{wipe, wipe_folder};

/// The bits of a mode that this module sets and compares.
const MODE_BITS: u32 = 0o7777;

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The owner; `None` for this process's user.
    pub uid: Option<u32>,
    /// The group; `None` for whatever the system chooses.
    pub gid: Option<u32>,
    /// The permission bits, e.g. `0o600`.
    pub mode: u32,
}

impl Access {
    /// This process's user alone.
    pub const PRIVATE: Self = Self { uid: None, gid: None, mode: 0o600 };

    /// Returns the access that a file has now, to be kept when it is replaced.
    pub fn of(file: &Metadata) -> Self {
        Self { uid: Some(file.uid()), gid: Some(file.gid()), mode: file.mode() & MODE_BITS }
    }

    fn fits(self, file: &Metadata) -> bool {
        let uid = self.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        file.uid() == uid
            && self.gid.is_none_or(|gid| gid == file.gid())
            && file.mode() & MODE_BITS == self.mode
    }
}

/// Recognizes a file that still is as it was written, by its content: no clock is fine enough to
/// tell two writes apart.
///
/// The hash is salted, so that it gives away nothing of a short secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    access: Access,
    size: u64,
    salt: Hash,
    hash: Hash,
}

impl Print {
    /// Returns the print of a file that holds `content` with `access`.
    pub fn of(content: &[u8], access: Access) -> Self {
        let salt = Hash::from_bytes(*shared::keys::random::<32>());
        let hash = Hash::of(&[salt.as_bytes(), content]);
        Self { access, size: content.len() as u64, salt, hash }
    }

    /// Tells whether it is the print of the file at `path`.
    pub fn is_of(&self, path: &Path) -> Result<bool, FileError> {
        let place = Place::open(path)?;
        let Some(found) = place.find()? else { return Ok(false) };
        let file = open_fitting(&place, &found, self.access, self.size)?;
        let Some(file) = file else { return Ok(false) };
        let mut content = Zeroizing::new(Vec::new());
        file.take(self.size + 1).read_to_end(&mut content).map_err(FileError::io("read", path))?;
        Ok(Hash::of(&[self.salt.as_bytes(), &content]) == self.hash)
    }
}

/// What [`replace`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The file is new or has new content, owner or mode.
    Written,
    /// Content, owner and mode were right; nothing was touched.
    Unchanged,
}

/// How a file compares with what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no file.
    Absent,
    /// Content, owner or mode are others.
    Differs,
    /// All is as it should be.
    Same,
}

/// Makes `path` hold exactly `content` with `access`, atomically and durably.
///
/// The folder is opened without following a link at any component; the new file has the old one's
/// ACL and extended attributes; it is complete, owned and synced under a temporary name beside the
/// old one before it takes the name. A file that is right already is not touched.
///
/// A name that is one of several (hard links) is replaced alone: the others keep the old content.
///
/// # Errors
/// Refuses links, special files, and folders that everybody may change; after any error the old
/// file is as it was.
pub fn replace(path: &Path, content: &[u8], access: Access) -> Result<Replaced, FileError> {
    replace_when(path, content, access, || Ok(()))
}

/// As [`replace`], calling `ready` when all that is left is the new file's taking the name; an
/// error of it leaves the old file.
///
/// # Errors
/// As [`replace`], and those of `ready`.
pub fn replace_when<E: From<FileError>>(
    path: &Path,
    content: &[u8],
    access: Access,
    ready: impl FnOnce() -> Result<(), E>,
) -> Result<Replaced, E> {
    let place = Place::open(path)?;
    if compare_in(&place, content, access)? == Found::Same {
        ready()?;
        return Ok(Replaced::Unchanged);
    }
    write_in(&place, content, access, ready)?;
    Ok(Replaced::Written)
}

/// As [`replace`], for a path that is our own choice or the caller's at a terminal: links in it are
/// followed, but for its last name.
///
/// # Errors
/// After any error the old file is as it was.
pub fn replace_trusted(path: &Path, content: &[u8], access: Access) -> Result<(), FileError> {
    write_in(&Place::open_trusted(path)?, content, access, || Ok::<_, FileError>(()))
}

/// Makes `path` a file that `fill` writes under the name that it is given, whole and durably: for
/// what does not fit into memory, or what another writer makes, as a database does. Links in `path`
/// are followed, but for its last name.
///
/// # Errors
/// Those of `fill`; after any error the old file is as it was, and the new one is gone.
pub fn make<E: From<FileError>>(
    path: &Path,
    access: Access,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let place = Place::open_trusted(path)?;
    let mut temp = Temp::named(&place)?;
    fill(&path.with_file_name(temp.name()))?;
    complete(&temp.file, &place, b"", access)?;
    temp.rename()?;
    drop(temp);
    Ok(sync_folder(&place)?)
}

/// Returns the name under which [`make`] fills `path`.
pub fn being_made(path: &Path) -> std::path::PathBuf {
    path.with_file_name(temp::temp_name(path.file_name().unwrap_or_default()))
}

/// Compares `path` with what it should be, touching nothing.
pub fn compare(path: &Path, content: &[u8], access: Access) -> Result<Found, FileError> {
    compare_in(&Place::open(path)?, content, access)
}

/// Tells whether there is anything at `path`.
pub fn exists(path: &Path) -> Result<bool, FileError> {
    Ok(Place::open(path)?.find()?.is_some())
}

/// Looks whether this process could write `path` now, touching nothing: into the file that is there
/// if `into`, else a new one in its place.
///
/// # Errors
/// Why not: the file or its folder is marked immutable, mounted read-only, or others'.
pub fn check_writable(path: &Path, into: bool) -> Result<(), FileError> {
    Place::open(path)?.check_writable(into)
}

/// Removes the file at `path` durably; tells whether there was one.
///
/// # Errors
/// Refuses what [`replace`] refuses.
pub fn remove(path: &Path) -> Result<bool, FileError> {
    remove_in(&Place::open(path)?)
}

/// As [`remove`], for a path that is our own choice: links in it are followed, but for its last
/// name.
///
/// # Errors
/// As [`remove`].
pub fn remove_trusted(path: &Path) -> Result<bool, FileError> {
    remove_in(&Place::open_trusted(path)?)
}

/// Has two folders of one file system change places, in one step and durably.
///
/// # Errors
/// Whatever the system says; both are where they were.
pub fn exchange_folders(one: &Path, other: &Path) -> Result<(), FileError> {
    let exchanged = rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
    exchanged.map_err(FileError::errno("exchange", one))?;
    for folder in [one, other].into_iter().filter_map(Path::parent) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(FileError::io("sync", folder))?;
    }
    Ok(())
}

/// Removes what a killed writer of `path` left beside it; does nothing while a living one is at
/// work.
pub fn sweep(path: &Path) -> Result<(), FileError> {
    temp::sweep(&Place::open(path)?)
}

/// As [`sweep`], for a path that is our own choice.
///
/// # Errors
/// If what is there cannot be removed.
pub fn sweep_trusted(path: &Path) -> Result<(), FileError> {
    temp::sweep(&Place::open_trusted(path)?)
}

/// Writes a new private file (0600), whole or not at all.
///
/// # Errors
/// Refuses to overwrite.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    create_in(&Place::open_trusted(path)?, content, Access::PRIVATE)
}

/// Makes a private folder (0700), its parents too, or checks that the one there is private.
///
/// # Errors
/// Refuses a folder that others may read.
pub fn create_dir_private(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::io("make folder", path))?;
    check_private(path)
}

/// Holds off other programs that edit files of one folder through this module, until dropped.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "closing it gives the lock up")] OwnedFd);

/// Waits for the lock on the folder of `path`, for a read-change-replace of a file in it.
pub fn lock_folder(path: &Path) -> Result<FolderLock, FileError> {
    let place = Place::open_trusted(path)?;
    rustix::fs::flock(&place.folder, FlockOperation::LockExclusive)
        .map_err(FileError::errno("lock the folder of", path))?;
    Ok(FolderLock(place.folder))
}

fn create_in(place: &Place, content: &[u8], access: Access) -> Result<(), FileError> {
    let mut temp = fill(place, content, access, || Ok::<_, FileError>(()))?;
    if !temp.create()? {
        return Err(FileError::Exists(place.path.clone()));
    }
    drop(temp);
    sync_folder(place)
}

fn remove_in(place: &Place) -> Result<bool, FileError> {
    let Some(found) = place.find()? else { return Ok(false) };
    check_replaceable(&place.path, &found)?;
    rustix::fs::unlinkat(&place.folder, &place.name, AtFlags::empty())
        .map_err(|errno| place.fault("remove", errno))?;
    sync_folder(place)?;
    Ok(true)
}

fn check_replaceable(path: &Path, found: &Metadata) -> Result<(), FileError> {
    if found.is_symlink() {
        return Err(FileError::Symlink(path.to_owned()));
    }
    if found.is_file() { Ok(()) } else { Err(FileError::NotRegular(path.to_owned())) }
}

fn compare_in(place: &Place, content: &[u8], access: Access) -> Result<Found, FileError> {
    let Some(found) = place.find()? else { return Ok(Found::Absent) };
    check_replaceable(&place.path, &found)?;
    let file = open_fitting(place, &found, access, content.len() as u64)?;
    let Some(file) = file else { return Ok(Found::Differs) };
    let same = holds(&file, content).map_err(FileError::io("read", &place.path))?;
    Ok(if same { Found::Same } else { Found::Differs })
}

/// Opens the file at a place, which is `found`, if it is a regular one with `access` and `size`.
fn open_fitting(
    place: &Place,
    found: &Metadata,
    access: Access,
    size: u64,
) -> Result<Option<File>, FileError> {
    let fits = |file: &Metadata| file.is_file() && access.fits(file) && file.size() == size;
    if !fits(found) {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        match rustix::fs::openat(&place.folder, &place.name, flags, rustix::fs::Mode::empty()) {
            Ok(file) => File::from(file),
            // Gone or made unreadable in between: the new file settles it.
            Err(Errno::NOENT | Errno::ACCESS | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(FileError::errno("read", &place.path)(errno)),
        };
    // It may be another one by now.
    let opened = file.metadata().map_err(FileError::io("read", &place.path))?;
    Ok(fits(&opened).then_some(file))
}

/// Tells whether `file` holds exactly `content`.
fn holds(mut file: &File, content: &[u8]) -> io::Result<bool> {
    let mut buffer = Zeroizing::new([0; 8192]);
    let mut rest = content;
    loop {
        let n = file.read(&mut buffer[..])?;
        if n == 0 {
            return Ok(rest.is_empty());
        }
        let Some(after) = rest.strip_prefix(&buffer[..n]) else { return Ok(false) };
        rest = after;
    }
}

fn write_in<E: From<FileError>>(
    place: &Place,
    content: &[u8],
    access: Access,
    ready: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let mut new = fill(place, content, access, ready)?;
    new.rename()?;
    drop(new);
    Ok(sync_folder(place)?)
}

/// Makes a synced file under the temporary name, whole and with its final owner and mode before
/// anybody sees it. Where the file system can, it has no name before `ready` has been called:
/// killed while waiting, it leaves nothing.
fn fill<'a, E: From<FileError>>(
    place: &'a Place,
    content: &[u8],
    access: Access,
    ready: impl FnOnce() -> Result<(), E>,
) -> Result<Temp<'a>, E> {
    let mut ready = Some(ready);
    let mut wait = || ready.take().map_or(Ok(()), |ready| ready());
    if let Some(mut temp) = Temp::unnamed(place)? {
        complete(&temp.file, place, content, access)?;
        wait()?;
        if temp.show()? {
            return Ok(temp);
        }
    }
    let temp = Temp::named(place)?;
    complete(&temp.file, place, content, access)?;
    wait()?;
    Ok(temp)
}

/// Writes and syncs a new file that is ours alone until the end.
fn complete(
    mut file: &File,
    place: &Place,
    content: &[u8],
    access: Access,
) -> Result<(), FileError> {
    file.write_all(content).map_err(FileError::io("write", &place.path))?;
    attributes::carry(place, file)?;
    if access.uid.is_some() || access.gid.is_some() {
        std::os::unix::fs::fchown(file, access.uid, access.gid)
            .map_err(FileError::io("give its owner to", &place.path))?;
    }
    let look = || file.metadata().map_err(FileError::io("look at", &place.path));
    let mut kept = look()?;
    if !access.fits(&kept) {
        let mode = std::fs::Permissions::from_mode(access.mode);
        file.set_permissions(mode).map_err(FileError::io("set the mode of", &place.path))?;
        kept = look()?;
    }
    if !access.fits(&kept) {
        let (path, mode, uid) = (place.path.clone(), kept.mode() & MODE_BITS, kept.uid());
        return Err(FileError::Unkept { path, mode, uid });
    }
    file.sync_all().map_err(FileError::io("sync", &place.path))
}

fn sync_folder(place: &Place) -> Result<(), FileError> {
    match rustix::fs::fsync(&place.folder) {
        // Some network file systems have nothing to sync in a folder.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(FileError::errno("sync the folder of", &place.path)(errno)),
    }
}

#[cfg(test)]
mod tests;
