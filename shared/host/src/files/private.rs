//! Reading files that only this process's user may have written or read: keys, pins, passphrases.
//! Owner and mode are those of the very file that is read.

use std::fs::{Metadata, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::FileError;

/// The largest private file, in bytes.
const MOST: u64 = 4 << 20;
/// The bits of a mode that say who may do what.
const RIGHTS: u32 = 0o7777;

/// Reads a file that this program keeps for itself; `None` if there is none.
///
/// # Errors
/// If it is a link, no regular file, another user's, open to others, larger than 4 MiB, or cannot
/// be read.
pub fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    read(path, OFlags::NOFOLLOW)
}

/// As [`read_private`], for a file that a person names: a link to it is followed.
///
/// # Errors
/// As [`read_private`].
pub fn read_private_named(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    read(path, OFlags::empty())
}

fn read(path: &Path, links: OFlags) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    // A pipe would keep the caller waiting.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | links).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        Err(why) if why.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(FileError::Symlink(path.to_owned()));
        }
        Err(why) => return Err(FileError::io("read", path)(why)),
    };
    let found = file.metadata().map_err(FileError::io("look at", path))?;
    if !found.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    check(path, &found)?;
    let room = usize::try_from(found.len().min(MOST)).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    // One byte more than allowed: a file that grows meanwhile is noticed.
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    if bytes.len() as u64 > MOST {
        return Err(FileError::TooLarge { path: path.to_owned(), most: MOST });
    }
    Ok(Some(bytes))
}

/// Refuses a file or folder that anybody but this process's user may read or write; links are
/// followed.
///
/// # Errors
/// [`FileError::Exposed`], [`FileError::Foreign`], or when it cannot be looked at.
pub fn check_private(path: &Path) -> Result<(), FileError> {
    let found = path.metadata().map_err(FileError::io("look at", path))?;
    check(path, &found)
}

fn check(path: &Path, found: &Metadata) -> Result<(), FileError> {
    let (us, path) = (rustix::process::geteuid().as_raw(), path.to_owned());
    if found.uid() != us {
        return Err(FileError::Foreign { path, uid: found.uid(), us });
    }
    if found.mode() & 0o077 != 0 {
        return Err(FileError::Exposed { path, mode: found.mode() & RIGHTS });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// A user who is none of this host's.
    const STRANGER: u32 = 54_321;

    type Reader = fn(&Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError>;

    #[test]
    fn a_private_file_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("key"), folder.path().join("link"));
        super::super::write_private(&file, b"seed").unwrap();
        symlink(&file, &link).unwrap();
        for read in [read_private as Reader, read_private_named] {
            assert_eq!(read(&file).unwrap().unwrap().as_slice(), b"seed");
            assert!(read(&folder.path().join("none")).unwrap().is_none());
            assert!(matches!(read(folder.path()), Err(FileError::NotRegular(_))));
        }
        assert!(matches!(read_private(&link), Err(FileError::Symlink(_))));
        assert_eq!(read_private_named(&link).unwrap().unwrap().as_slice(), b"seed");
    }

    #[test]
    fn what_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        super::super::write_private(&file, b"seed").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read_private(&file), Err(FileError::Exposed { .. })), "{mode:o}");
        }
    }

    #[test]
    fn what_belongs_to_another_user_is_refused_whatever_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = |result: Result<(), FileError>| {
            let fault = result.unwrap_err();
            assert!(matches!(fault, FileError::Foreign { .. }), "{fault}");
        };
        if !rustix::process::geteuid().is_root() {
            // Only root can give a file away; what is root's is there already.
            foreign(check_private(Path::new("/")));
            foreign(read_private(Path::new("/etc/passwd")).map(drop));
            return;
        }
        let file = folder.path().join("key");
        super::super::write_private(&file, b"seed").unwrap();
        chown(&file, Some(STRANGER), None).unwrap();
        for read in [read_private as Reader, read_private_named] {
            foreign(read(&file).map(drop));
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        check_private(folder.path()).unwrap();
        chown(&folder, Some(STRANGER), None).unwrap();
        foreign(check_private(folder.path()));
        foreign(super::super::create_dir_private(folder.path()));
    }
}
