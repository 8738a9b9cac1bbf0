//! Knows a mount point, and holds one, so that what belongs on a disk never lands on the bare
//! folder below it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::FileError;

/// A mounted file system that cannot be unmounted until this is dropped.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "an open folder keeps its file system busy")] OwnedFd);

/// Opens the root of what is mounted at `point`, and so keeps it there.
///
/// # Errors
/// [`FileError::NotMounted`] if `point` is a plain folder or missing.
pub fn hold(point: &Path) -> Result<Held, FileError> {
    let absent = || FileError::NotMounted(point.to_owned());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match rustix::fs::open(point, flags, Mode::empty()) {
        Ok(folder) => folder,
        // What an automounter says whose server is away is in there too.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::HOSTDOWN) => return Err(absent()),
        Err(errno) => return Err(FileError::errno("open", point)(errno)),
    };
    if is_root(&folder, point)? { Ok(Held(folder)) } else { Err(absent()) }
}

/// Tells whether something is mounted at `path`, a link not followed.
pub fn is_point(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let found = rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Tells whether an open folder is the root of a mount.
fn is_root(folder: &OwnedFd, point: &Path) -> Result<bool, FileError> {
    let found = rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
    if let Ok(found) = found
        && found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // Kernels before 5.8: another device than the folder above, which leaves out bind mounts of the
    // same.
    let look = |file: OwnedFd| File::from(file).metadata().map_err(FileError::io("look at", point));
    let open = |at: &OwnedFd, name| {
        rustix::fs::openat(at, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(FileError::errno("look at", point))
    };
    let (here, above) = (look(open(folder, ".")?)?, look(open(folder, "..")?)?);
    Ok(here.dev() != above.dev() || here.ino() == above.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mount_point_is_held() {
        assert!(hold(Path::new("/")).is_ok());
        assert!(hold(Path::new("/proc")).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        for point in [inside.as_path(), &folder.path().join("none"), Path::new("/proc/version")] {
            let error = hold(point).unwrap_err();
            assert!(matches!(error, FileError::NotMounted(_)), "{}: {error}", point.display());
        }
    }
}
