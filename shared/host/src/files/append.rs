//! Files that grow by lines, such as records for other programs: bounded, whole lines, and found
//! again after somebody else has moved them away.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::FileError;

/// A file that lines are added to. It is made for this user alone; at a size it is set aside under
/// its name with `.1` behind, in place of the one before.
#[derive(Debug)]
pub struct Growing {
    path: PathBuf,
    most: u64,
    open: Option<File>,
}

impl Growing {
    /// Names the file, of `most` bytes at most; it is not looked at yet.
    pub fn new(path: &Path, most: u64) -> Self {
        Self { path: path.to_owned(), most, open: None }
    }

    /// Adds lines, which end with a line end: all of them or none; they are on disk when this
    /// returns. A file that was moved away since is made anew.
    ///
    /// # Errors
    /// If the file is a link, one of several names, no regular file or another user's, or it cannot
    /// be written.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        let mut file = self.opened()?;
        let mut size = self.size(&file)?;
        if size > 0 && size.saturating_add(lines.len() as u64) > self.most {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            std::fs::rename(&self.path, aside).map_err(FileError::io("set aside", &self.path))?;
            (file, size) = (self.opened()?, 0);
        }
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if let Err(why) = written {
            // Half a line would spoil the next.
            let cut = file.set_len(size);
            self.open = None;
            cut.map_err(FileError::io("cut", &self.path))?;
            return Err(FileError::io("write", &self.path)(why));
        }
        self.open = Some(file);
        Ok(())
    }

    fn size(&self, file: &File) -> Result<u64, FileError> {
        Ok(file.metadata().map_err(FileError::io("look at", &self.path))?.len())
    }

    /// Returns the file that has the name now.
    fn opened(&mut self) -> Result<File, FileError> {
        let path = &self.path;
        if let Some(file) = self.open.take() {
            let open = file.metadata().map_err(FileError::io("look at", path))?;
            let is_it = path.symlink_metadata().is_ok_and(|named| {
                (named.dev(), named.ino()) == (open.dev(), open.ino()) && open.nlink() == 1
            });
            if is_it {
                return Ok(file);
            }
        }
        // A pipe would keep the caller waiting.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(flags);
        let file = options.open(path).map_err(|why| match why.raw_os_error() {
            Some(code) if code == Errno::LOOP.raw_os_error() => FileError::Symlink(path.clone()),
            // A pipe that nobody reads, a folder.
            Some(code) if [Errno::NXIO, Errno::ISDIR].map(Errno::raw_os_error).contains(&code) => {
                FileError::NotRegular(path.clone())
            }
            Some(_) | None => FileError::io("open", path)(why),
        })?;
        let found = file.metadata().map_err(FileError::io("look at", path))?;
        if !found.is_file() || found.nlink() != 1 {
            return Err(FileError::NotRegular(path.clone()));
        }
        let us = rustix::process::geteuid().as_raw();
        if found.uid() != us {
            return Err(FileError::Foreign { path: path.clone(), uid: found.uid(), us });
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut growing = Growing::new(&path, 1 << 20);
        growing.append(b"1\n").unwrap();
        growing.append(b"2\n").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        growing.append(b"3\n").unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("old"), read("a.jsonl")), ("1\n2\n".into(), "3\n".into()));
    }

    #[test]
    fn a_full_file_is_set_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut growing = Growing::new(&path, 10);
        for line in ["111\n", "222\n", "333\n", "444\n", "555\n"] {
            growing.append(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("a.jsonl.1"), read("a.jsonl")), ("333\n444\n".into(), "555\n".into()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn links_folders_and_pipes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("link"), dir.path().join("other"));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let fault = Growing::new(&path, 10).append(b"1\n").unwrap_err();
        assert!(matches!(fault, FileError::Symlink(_)) && !other.exists(), "{fault}");
        Growing::new(&other, 10).append(b"1\n").unwrap();
        std::fs::hard_link(&other, dir.path().join("name")).unwrap();
        let fault = Growing::new(&other, 10).append(b"1\n").unwrap_err();
        assert!(matches!(fault, FileError::NotRegular(_)), "{fault}");
        let pipe = dir.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        for odd in [dir.path(), &pipe] {
            let fault = Growing::new(odd, 10).append(b"1\n").unwrap_err();
            assert!(matches!(fault, FileError::NotRegular(_)), "{fault}");
        }
    }
}
