//! The file that a program logs into where nobody keeps its log, as `vault setup` starts one
//! without systemd: it is bounded here. A log that somebody has sent elsewhere is theirs.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::stdio::{dup2_stderr, dup2_stdout};

use crate::files;

/// Bytes after which a log is set aside and another one begun: there are two of this size at most.
const LONGEST: u64 = 1 << 20;

/// Standard output, whatever it is.
const OUT: &str = "/proc/self/fd/1";
/// Standard error.
const ERR: &str = "/proc/self/fd/2";

/// Standard error, if that is a log of this program's own.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// Whether standard output goes there too.
    out: bool,
    /// Bytes until it is full.
    room: Mutex<u64>,
}

impl LogFile {
    /// Finds the file of standard error, if it is `PROGRAM.log` in a folder that is private.
    pub fn own(program: &str) -> Option<Self> {
        let path = std::fs::read_link(ERR).ok()?;
        let is_named = path.file_name()?.to_str()? == format!("{program}.log");
        let found = path.symlink_metadata().ok().filter(|found| is_named && found.is_file())?;
        files::check_private(path.parent()?).ok()?;
        let goes_there = |stream: &str| {
            Path::new(stream)
                .metadata()
                .is_ok_and(|it| (it.dev(), it.ino()) == (found.dev(), found.ino()))
        };
        if !goes_there(ERR) {
            return None;
        }
        let room = Mutex::new(LONGEST.saturating_sub(found.len()));
        Some(Self { path, out: goes_there(OUT), room })
    }

    /// Makes room for a line, by setting the log aside if it is full.
    ///
    /// # Errors
    /// If it grows on; it is tried again after as much.
    pub fn make_room(&self, line: u64) -> io::Result<()> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = line > *room;
        *room = if is_full { LONGEST } else { *room }.saturating_sub(line);
        if is_full { self.set_aside() } else { Ok(()) }
    }

    fn set_aside(&self) -> io::Result<()> {
        std::fs::rename(&self.path, self.path.with_extension("log.old"))?;
        let log = File::options().create_new(true).append(true).mode(0o600).open(&self.path)?;
        if self.out {
            dup2_stdout(&log)?;
        }
        Ok(dup2_stderr(&log)?)
    }
}
