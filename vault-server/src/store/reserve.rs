//! Room on the disk that is kept for the owner: a file that holds the place, and is emptied when an
//! owner's entry finds the disk full. Who counts as owner is decided in `vault`.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use shared::keys::random;

/// File name inside the data directory.
pub const FILE: &str = "reserve";

/// Bytes that are kept, on a disk that is not small.
const SIZE: u64 = 64 << 20;
/// Of a small disk one part in so many is kept.
const PART: u64 = 8;
/// How often is looked whether there is room again.
const AGAIN: Duration = Duration::from_secs(1);

/// The reserve.
#[derive(Debug)]
pub struct Reserve {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    whole: bool,
    /// When it was last tried to make it.
    tried: Option<Instant>,
}

impl Reserve {
    /// Takes the place on the disk of `dir`, if there is room.
    pub fn new(dir: &Path) -> Self {
        let reserve =
            Self { file: dir.join(FILE), state: Mutex::new(State { whole: false, tried: None }) };
        if !reserve.is_whole() {
            tracing::warn!("disk nearly full: only owners' entries are taken");
        }
        reserve
    }

    /// Tells whether the place is held, after having tried to take it again if it was not.
    pub fn is_whole(&self) -> bool {
        let mut state = self.lock();
        if state.whole {
            return true;
        }
        if state.tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
            return false;
        }
        state.tried = Some(Instant::now());
        match self.make() {
            Ok(whole) => state.whole = whole,
            Err(why) => {
                let file = self.file.display();
                tracing::warn!(%file, %why, "no room kept for owners");
            }
        }
        state.whole
    }

    /// Gives the place up; from now on it is the owner's alone, until it is held again.
    ///
    /// # Errors
    /// If the file cannot be emptied.
    pub fn release(&self) -> io::Result<()> {
        let mut state = self.lock();
        OpenOptions::new().write(true).open(&self.file)?.set_len(0)?;
        if state.whole {
            tracing::warn!("disk full: the reserve is given up for an owner's entry");
        }
        *state = State { whole: false, tried: Some(Instant::now()) };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single step: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place, unless that would fill the disk.
    fn make(&self) -> io::Result<bool> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.file)?;
        let disk = statvfs(self.file.parent().unwrap_or(&self.file))?;
        let size = SIZE.min(disk.f_blocks.saturating_mul(disk.f_frsize) / PART);
        if file.metadata()?.blocks() * 512 >= size {
            return Ok(true);
        }
        // A little more, so that it does not come and go with every write.
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < size + size / 4 {
            return Ok(false);
        }
        let made = match fallocate(&file, FallocateFlags::empty(), 0, size) {
            Err(Errno::OPNOTSUPP) => fill(&file, size),
            made => made.map_err(io::Error::from),
        };
        match made {
            Ok(()) => Ok(true),
            Err(why) => {
                file.set_len(0)?;
                if why.kind() == io::ErrorKind::StorageFull { Ok(false) } else { Err(why) }
            }
        }
    }
}

/// Fills the file where the file system cannot set room aside: with what no disk makes smaller.
fn fill(mut file: &File, size: u64) -> io::Result<()> {
    const CHUNK: usize = 64 << 10;
    file.rewind()?;
    for _ in 0..size.div_ceil(CHUNK as u64) {
        file.write_all(random::<CHUNK>().as_ref())?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_held_given_up_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let size = || dir.path().join(FILE).metadata().unwrap().blocks() * 512;
        let reserve = Reserve::new(dir.path());
        assert!(reserve.is_whole());
        assert!(size() >= SIZE);
        reserve.release().unwrap();
        assert_eq!(size(), 0);
        assert!(!reserve.is_whole(), "not at once");
        reserve.lock().tried = None;
        assert!(reserve.is_whole());
        drop(reserve);
        assert!(Reserve::new(dir.path()).is_whole(), "it is still there");
        assert!(size() < SIZE + SIZE / 4);
    }

    #[test]
    fn random_bytes_hold_it_as_well() {
        let mut file = tempfile::tempfile().unwrap();
        fill(&file, 200_000).unwrap();
        file.rewind().unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 >= 200_000);
    }
}
