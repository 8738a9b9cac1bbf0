//! Removes files that held plaintext: each is overwritten first. On a disk that moves blocks about,
//! overwriting reaches the newest ones only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Overwrites every file of a folder, then removes them and the folder.
///
/// # Errors
/// Whatever the system says; what could be removed is.
pub fn wipe_folder(path: &Path) -> io::Result<()> {
    let mut wrong = None;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file()
            && let Err(why) = overwrite(&entry.path())
        {
            wrong = Some(why);
        }
    }
    std::fs::remove_dir_all(path)?;
    wrong.map_or(Ok(()), Err)
}

/// Overwrites a file, then removes it durably.
pub fn wipe(file: &Path) -> io::Result<()> {
    overwrite(file)?;
    std::fs::remove_file(file)?;
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn overwrite(file: &Path) -> io::Result<()> {
    let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = OpenOptions::new().write(true).custom_flags(nofollow).open(file)?;
    io::copy(&mut io::repeat(0).take(file.metadata()?.len()), &mut file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_overwritten_before_they_go() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("edit");
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("secret");
        io::Write::write_all(&mut File::create(&file).unwrap(), &[7; 5000]).unwrap();
        // A second name for the same bytes shows what became of them.
        std::fs::hard_link(&file, dir.path().join("witness")).unwrap();
        wipe_folder(&folder).unwrap();
        assert!(!folder.exists());
        assert_eq!(std::fs::read(dir.path().join("witness")).unwrap(), [0; 5000]);
        assert!(wipe_folder(&folder).is_err());
    }
}
