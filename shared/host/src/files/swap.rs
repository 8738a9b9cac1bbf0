//! Reads a file that people edit, and changes it without ever losing an edit made at the same
//! moment.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use shared::plaintext::Plaintext;
use zeroize::Zeroizing;

use super::folder::Place;
use super::{Access, FileError, check_replaceable, create_in, fill, holds, sync_folder, write_in};

/// How often a name for a copy is tried.
const COPIES: u32 = 100;

/// A file as it was at one moment.
pub struct Read {
    /// All of it.
    pub content: Plaintext,
    /// Its owner and rights.
    pub access: Access,
}

/// What became of an exchange.
#[derive(Debug)]
pub enum Exchanged {
    /// The file is the new one.
    Done(Old),
    /// Somebody else has changed the file since it was read: it is as they left it.
    Moved,
}

/// The file that was exchanged, which a program may still have open.
#[derive(Debug)]
pub struct Old(File);

impl Old {
    /// Returns what was written into it after it had been read with `content`, if anything was.
    pub fn edited(&self, content: &[u8]) -> io::Result<Option<Plaintext>> {
        let mut file = &self.0;
        file.rewind()?;
        if holds(file, content)? {
            return Ok(None);
        }
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(Plaintext::new(bytes)))
    }
}

/// Reads the regular file at `path`, no link at any component, of `most` bytes at most; `None` if
/// there is none.
///
/// # Errors
/// Refuses links, special files, larger files, and folders that everybody may change.
pub fn read(path: &Path, most: u64) -> Result<Option<Read>, FileError> {
    let place = Place::open(path)?;
    let Some(file) = open(&place)? else { return Ok(None) };
    let fault = || FileError::io("read", path);
    let found = file.metadata().map_err(fault())?;
    check_replaceable(path, &found)?;
    let too_large = || FileError::TooLarge { path: path.to_owned(), most };
    if found.len() > most {
        return Err(too_large());
    }
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0) + 1));
    (&file).take(most + 1).read_to_end(&mut bytes).map_err(fault())?;
    if bytes.len() as u64 > most {
        return Err(too_large());
    }
    let content = Plaintext::new(std::mem::take(&mut bytes));
    Ok(Some(Read { content, access: Access::of(&found) }))
}

/// Puts `content` in the place of a file that held `before` when it was read, unless it holds
/// something else by now.
///
/// The two files are exchanged in one step, and only then is the old one looked at: an edit that
/// came in between is seen, and put back.
///
/// # Errors
/// As [`super::replace`]; the file is as it was.
pub fn exchange(
    path: &Path,
    before: &[u8],
    content: &[u8],
    access: Access,
) -> Result<Exchanged, FileError> {
    let place = Place::open(path)?;
    let fault = || FileError::io("read", path);
    let Some(old) = open(&place)? else { return Ok(Exchanged::Moved) };
    if !holds(&old, before).map_err(fault())? {
        return Ok(Exchanged::Moved);
    }
    let mut temp = fill(&place, content, access, || Ok::<_, FileError>(()))?;
    if !temp.exchange()? {
        // File systems that cannot exchange: the moment between the look above and the rename
        // remains.
        drop(temp);
        write_in(&place, content, access, || Ok(()))?;
        return Ok(Exchanged::Done(Old(old)));
    }
    let folder = place.folder.try_clone().map_err(FileError::io("open the folder of", path))?;
    let swapped = Place { path: path.to_owned(), folder, name: temp.name().into() };
    let old = open(&swapped)?.ok_or_else(|| FileError::Busy(path.to_owned()))?;
    if !holds(&old, before).map_err(fault())? {
        if let Err(error) = temp.exchange() {
            // The edit must not go with our temporary file.
            temp.leave();
            return Err(error);
        }
        return Ok(Exchanged::Moved);
    }
    drop(temp);
    sync_folder(&place)?;
    Ok(Exchanged::Done(Old(old)))
}

/// Writes `content` to a new file beside `path`, named after it and `tag`; returns its path.
///
/// # Errors
/// As [`super::replace`].
pub fn copy_aside(
    path: &Path,
    tag: &str,
    content: &[u8],
    access: Access,
) -> Result<PathBuf, FileError> {
    for n in 1..=COPIES {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(if n == 1 { tag.to_owned() } else { format!("{tag}-{n}") });
        let copy = path.with_file_name(name);
        match create_in(&Place::open(&copy)?, content, access) {
            Ok(()) => return Ok(copy),
            Err(FileError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(FileError::Exists(path.to_owned()))
}

fn open(place: &Place) -> Result<Option<File>, FileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(&place.folder, &place.name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(FileError::Symlink(place.path.clone())),
        Err(Errno::NXIO) => Err(FileError::NotRegular(place.path.clone())),
        Err(errno) => Err(FileError::errno("read", &place.path)(errno)),
    }
}
