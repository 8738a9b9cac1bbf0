//! Reads a file that people edit, and changes it without ever losing an edit made at the same
//! moment.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use shared::plaintext::Plaintext;
use zeroize::Zeroizing;

use super::folder::Place;
use super::{
    Access, FileError, attributes, check_replaceable, create_in, fill, holds, sync_folder, temp,
};

/// The largest file that programs here change or keep a copy of, in bytes.
pub const LARGEST: u64 = 16 << 20;

/// How often a name for a copy is tried.
const COPIES: u32 = 100;

/// A file as it was at one moment.
pub struct Read {
    /// All of it.
    pub content: Plaintext,
    /// Its owner and rights.
    pub access: Access,
    /// The mode that it has without its ACL, if it has one.
    pub mode_without_acl: Option<u32>,
}

/// What became of a change that goes by what the file held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// It is done.
    Done,
    /// Somebody else has changed the file since it was read: it is as they left it.
    Moved,
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
    let Some(file) = place.open_file()? else { return Ok(None) };
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
    let access = Access::of(&found);
    let mode_without_acl = attributes::mode_without_acl(&file, access.mode);
    Ok(Some(Read { content, access, mode_without_acl }))
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
    exchange_when(path, before, content, access, || Ok(()))
}

/// As [`exchange`], calling `ready` when all that is left is the exchange; an error of it leaves
/// the old file.
///
/// # Errors
/// As [`exchange`], and those of `ready`.
pub fn exchange_when<E: From<FileError>>(
    path: &Path,
    before: &[u8],
    content: &[u8],
    access: Access,
    ready: impl FnOnce() -> Result<(), E>,
) -> Result<Exchanged, E> {
    let place = Place::open(path)?;
    let fault = || FileError::io("read", path);
    let Some(old) = place.open_file()? else { return Ok(Exchanged::Moved) };
    if !holds(&old, before).map_err(fault())? {
        return Ok(Exchanged::Moved);
    }
    let mut temp = fill(&place, content, access, ready)?;
    if !temp.exchange()? {
        // File systems that cannot exchange: the moment between the look above and the rename
        // remains.
        temp.rename()?;
        drop(temp);
        sync_folder(&place)?;
        return Ok(Exchanged::Done(Old(old)));
    }
    let folder = place.folder.try_clone().map_err(FileError::io("open the folder of", path))?;
    let swapped = Place { path: path.to_owned(), folder, name: temp.name().into() };
    let old = swapped.open_file()?.ok_or_else(|| FileError::Busy(path.to_owned()))?;
    if !holds(&old, before).map_err(fault())? {
        if let Err(error) = temp.exchange() {
            // The edit must not go with our temporary file.
            temp.leave();
            return Err(error.into());
        }
        return Ok(Exchanged::Moved);
    }
    drop(temp);
    sync_folder(&place)?;
    Ok(Exchanged::Done(Old(old)))
}

/// Makes a file at `path` that holds `content` with `access`, unless there is one by now; calls
/// `ready` when all that is left is the new file's taking the name.
///
/// # Errors
/// As [`super::replace`], and those of `ready`.
pub fn create_when<E: From<FileError>>(
    path: &Path,
    content: &[u8],
    access: Access,
    ready: impl FnOnce() -> Result<(), E>,
) -> Result<Swapped, E> {
    let place = Place::open(path)?;
    let mut temp = fill(&place, content, access, ready)?;
    if !temp.create()? {
        return Ok(Swapped::Moved);
    }
    drop(temp);
    sync_folder(&place)?;
    Ok(Swapped::Done)
}

/// Removes the file at `path` durably, unless it holds anything but `before`.
///
/// It is moved out of the way before it is looked at: an edit that came in between is seen, and put
/// back.
///
/// # Errors
/// As [`super::remove`].
pub fn remove_if(path: &Path, before: &[u8]) -> Result<Swapped, FileError> {
    let place = Place::open(path)?;
    let fault = || FileError::io("read", path);
    let Some(old) = place.open_file()? else { return Ok(Swapped::Moved) };
    if !holds(&old, before).map_err(fault())? {
        return Ok(Swapped::Moved);
    }
    let aside = temp::temp_name(&place.name);
    temp::clear(&place, &aside)?;
    if !temp::rename_free(&place, &place.name, &aside)? {
        return Ok(Swapped::Moved);
    }
    let folder = place.folder.try_clone().map_err(FileError::io("open the folder of", path))?;
    let moved = Place { path: path.to_owned(), folder, name: aside };
    let is_old = match moved.open_file()? {
        Some(file) => holds(&file, before).map_err(fault())?,
        None => false,
    };
    if !is_old {
        if !temp::rename_free(&place, &moved.name, &place.name)? {
            // Somebody has made another file meanwhile: both are theirs.
            let name = format!("{}.edited", place.name.to_string_lossy());
            temp::rename_free(&place, &moved.name, name.as_ref())?;
        }
        return Ok(Swapped::Moved);
    }
    rustix::fs::unlinkat(&place.folder, &moved.name, AtFlags::empty())
        .map_err(FileError::errno("remove", path))?;
    sync_folder(&place)?;
    Ok(Swapped::Done)
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
