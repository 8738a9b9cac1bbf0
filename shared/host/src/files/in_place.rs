//! Writes into a file itself, for readers that hold on to it: a single file that is mounted into a
//! container. A reader may see half of it; a crash leaves a journal beside it, by which the writing
//! is ended.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::folder::Place;
use super::{Access, FileError, Swapped, check_replaceable, holds, read, sync_folder, write_in};

/// The largest journal: both contents of the largest file.
const MOST: u64 = 64 << 20;

/// The bytes that tell how long the old content is.
const HEAD: usize = 8;

/// Puts `content` into the file at `path` that held `before` when it was read, unless it holds
/// something else by now. Every name and every mount of the file shows it.
///
/// # Errors
/// As [`super::replace`]. After an error or a crash [`finish_in_place`] ends what was begun.
pub fn in_place(
    path: &Path,
    before: &[u8],
    content: &[u8],
    access: Access,
) -> Result<Swapped, FileError> {
    let place = Place::open(path)?;
    let Some(file) = open(&place)? else { return Ok(Swapped::Moved) };
    if !holds(&file, before).map_err(FileError::io("read", path))? {
        return Ok(Swapped::Moved);
    }
    let mut journal = Zeroizing::new(Vec::with_capacity(HEAD + before.len() + content.len()));
    journal.extend_from_slice(&(before.len() as u64).to_be_bytes());
    journal.extend_from_slice(before);
    journal.extend_from_slice(content);
    let beside = beside(&place)?;
    write_in(&beside, &journal, Access::PRIVATE, || Ok::<_, FileError>(()))?;
    // Whoever may read it no more does not see the new content either.
    give(&file, access, path)?;
    overwrite(&file, content, path)?;
    drop_journal(&beside)?;
    Ok(Swapped::Done)
}

/// Ends a writing of `path` that a crash has cut off; does nothing where there was none, or where
/// somebody else has written into the file since.
///
/// # Errors
/// If file or journal cannot be read or written.
pub fn finish_in_place(path: &Path) -> Result<(), FileError> {
    let place = Place::open(path)?;
    let beside = beside(&place)?;
    if beside.find()?.is_none() {
        return Ok(());
    }
    let journal = read(&beside.path, MOST)?;
    let parts = journal.as_ref().and_then(|journal| parts(journal.content.expose()));
    if let (Some((before, content)), Some(file)) = (parts, open(&place)?) {
        let found = read(path, MOST)?;
        if found.is_some_and(|found| is_mixed(found.content.expose(), before, content)) {
            overwrite(&file, content, path)?;
        }
    }
    drop_journal(&beside)
}

/// Overwrites a part of the file at `path`, a path of our own choice, durably; it is neither made
/// nor grows.
///
/// # Errors
/// If it is not there, shorter, or cannot be written: a part of `bytes` may then be.
pub fn overwrite_trusted(path: &Path, at: usize, bytes: &[u8]) -> Result<(), FileError> {
    let fault = || FileError::io("write", path);
    let gone = || fault()(std::io::ErrorKind::NotFound.into());
    let file = open(&Place::open_trusted(path)?)?.ok_or_else(gone)?;
    let long = file.metadata().map_err(FileError::io("look at", path))?.len();
    let end = (at + bytes.len()) as u64;
    if end > long {
        return Err(fault()(std::io::ErrorKind::UnexpectedEof.into()));
    }
    file.write_all_at(bytes, at as u64).map_err(fault())?;
    file.sync_data().map_err(FileError::io("sync", path))
}

/// Takes a journal apart: the content before, and the one to be written.
fn parts(journal: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = journal.split_first_chunk::<HEAD>()?;
    rest.split_at_checked(usize::try_from(u64::from_be_bytes(*head)).ok()?)
}

/// Tells whether every byte is of one of two contents, or not written yet: what a power cut leaves,
/// in whatever order the disk has written.
fn is_mixed(found: &[u8], before: &[u8], content: &[u8]) -> bool {
    found.len() <= before.len().max(content.len())
        && found.iter().enumerate().all(|(at, byte)| {
            *byte == 0 || before.get(at) == Some(byte) || content.get(at) == Some(byte)
        })
}

fn overwrite(file: &File, content: &[u8], path: &Path) -> Result<(), FileError> {
    file.write_all_at(content, 0).map_err(FileError::io("write", path))?;
    file.set_len(content.len() as u64).map_err(FileError::io("write", path))?;
    (&*file).flush().map_err(FileError::io("write", path))?;
    file.sync_all().map_err(FileError::io("sync", path))
}

/// Gives the file its owner and mode where they are others.
fn give(file: &File, access: Access, path: &Path) -> Result<(), FileError> {
    let found = file.metadata().map_err(FileError::io("look at", path))?;
    if access.fits(&found) {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, access.uid, access.gid)
        .map_err(FileError::io("give its owner to", path))?;
    file.set_permissions(std::fs::Permissions::from_mode(access.mode))
        .map_err(FileError::io("set the mode of", path))?;
    file.sync_all().map_err(FileError::io("sync", path))
}

fn open(place: &Place) -> Result<Option<File>, FileError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(&place.folder, &place.name, flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            let found = file.metadata().map_err(FileError::io("look at", &place.path))?;
            check_replaceable(&place.path, &found).map(|()| Some(file))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(FileError::Symlink(place.path.clone())),
        Err(Errno::ISDIR) => Err(FileError::NotRegular(place.path.clone())),
        Err(errno) => Err(place.fault("write", errno)),
    }
}

/// Returns where the journal is.
fn beside(place: &Place) -> Result<Place, FileError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(&place.name);
    name.push(".vault-journal");
    Ok(Place {
        path: place.path.with_file_name(&name),
        folder: place
            .folder
            .try_clone()
            .map_err(FileError::io("open the folder of", &place.path))?,
        name,
    })
}

fn drop_journal(beside: &Place) -> Result<(), FileError> {
    match rustix::fs::unlinkat(&beside.folder, &beside.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => sync_folder(beside),
        Err(errno) => Err(beside.fault("remove", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::replace;
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    const OLD: &[u8] = b"A=first\nB=first\n";
    const NEW: &[u8] = b"A=second\n";

    fn world() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join(".env");
        replace(&path, OLD, Access { uid: None, gid: None, mode: 0o640 }).unwrap();
        (folder, path)
    }

    fn names(path: &Path) -> usize {
        std::fs::read_dir(path.parent().unwrap()).unwrap().count()
    }

    #[test]
    fn the_file_stays_the_same_one() {
        let (_folder, path) = world();
        let second = path.with_file_name("second");
        std::fs::hard_link(&path, &second).unwrap();
        let inode = path.metadata().unwrap().ino();
        let access = Access { uid: None, gid: None, mode: 0o600 };
        assert_eq!(in_place(&path, b"other", NEW, access).unwrap(), Swapped::Moved);
        assert_eq!(std::fs::read(&path).unwrap(), OLD);
        assert_eq!(in_place(&path, OLD, NEW, access).unwrap(), Swapped::Done);
        assert_eq!(std::fs::read(&second).unwrap(), NEW);
        let found = path.metadata().unwrap();
        assert_eq!((found.ino(), found.mode() & 0o777), (inode, 0o600));
        assert_eq!(names(&path), 2, "no journal is left");
    }

    #[test]
    fn a_crash_at_any_byte_is_repaired_and_an_edit_is_not() {
        let (_folder, path) = world();
        let place = Place::open(&path).unwrap();
        let beside = beside(&place).unwrap();
        let journal = [&(OLD.len() as u64).to_be_bytes()[..], OLD, NEW].concat();
        let torn = (0..=NEW.len()).map(|at| [&NEW[..at], &OLD[at..]].concat());
        for torn in torn.chain([NEW.to_vec(), OLD.to_vec(), vec![0; NEW.len()]]) {
            replace(&beside.path, &journal, Access::PRIVATE).unwrap();
            replace(&path, &torn, Access::PRIVATE).unwrap();
            finish_in_place(&path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), NEW);
            assert_eq!(names(&path), 1);
        }
        for edit in [&b"MINE=1\n"[..], b"A=first\nB=first\nC=mine\n"] {
            replace(&beside.path, &journal, Access::PRIVATE).unwrap();
            replace(&path, edit, Access::PRIVATE).unwrap();
            finish_in_place(&path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), edit);
            assert_eq!(names(&path), 1);
        }
    }
}
