//! The file `head` beside the database: the newest head that the server has signed, written before
//! that head is given out. What a database that lacks it may still do is decided in `vault`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use shared::hash::Hash;
use shared::head::SignedHead;

/// File name inside the data directory.
pub const FILE: &str = "head";

/// Where the second slot begins: in another block of the disk, so that no torn write takes both.
const SLOT: u64 = 4096;
/// Bytes of a slot that are read; a head has some 400.
const READ: usize = 1024;

/// The open file: two slots, written in turn. It is never synced: a head is written after the
/// commit of its entry, which is, so that a power cut leaves the file behind the database, never
/// before it.
pub struct HeadFile {
    file: File,
    held: Option<SignedHead>,
    /// Number of the write to come; its parity says which slot it takes.
    turn: u64,
}

impl HeadFile {
    /// Opens the file, made if need be, and reads the newest head in it.
    ///
    /// # Errors
    /// If it cannot be opened or read.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot open `{shown}`"))?;
        let slot = |n| read(&file, n).with_context(|| format!("cannot read `{shown}`"));
        let newest = slot(0)?.into_iter().chain(slot(1)?).max_by_key(|(turn, _)| *turn);
        let (turn, held) = newest.map_or((0, None), |(turn, head)| (turn + 1, Some(head)));
        Ok(Self { file, held, turn })
    }

    /// Reads the newest head in a file that another process may be writing; `None` without a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn newest(path: &Path) -> Result<Option<SignedHead>> {
        let shown = path.display();
        let file = match File::open(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("cannot open `{shown}`"))?,
        };
        let slot = |n| read(&file, n).with_context(|| format!("cannot read `{shown}`"));
        let newest = slot(0)?.into_iter().chain(slot(1)?).max_by_key(|(turn, _)| *turn);
        Ok(newest.map(|(_, head)| head))
    }

    /// Returns the head that was written last.
    pub const fn held(&self) -> Option<SignedHead> {
        self.held
    }

    /// Writes a newer head; after an error the one before is still in its slot.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, head: SignedHead) -> io::Result<()> {
        let text = format!("{} {}", self.turn, serde_json::to_string(&head)?);
        let line = format!("{} {text}\n", Hash::of(&[text.as_bytes()]));
        self.file.write_all_at(line.as_bytes(), self.turn % 2 * SLOT)?;
        (self.held, self.turn) = (Some(head), self.turn + 1);
        Ok(())
    }
}

#[cfg(test)]
impl HeadFile {
    /// Returns the file as it is on a disk that has just become full.
    pub fn full(self) -> Self {
        let file = OpenOptions::new().write(true).open("/dev/full").expect("a device of Linux");
        Self { file, ..self }
    }
}

/// Reads a slot: its turn and its head, unless it is empty or was torn.
fn read(file: &File, slot: u64) -> io::Result<Option<(u64, SignedHead)>> {
    let mut bytes = [0; READ];
    let mut filled = 0;
    while filled < READ {
        match file.read_at(&mut bytes[filled..], slot * SLOT + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(parse(&bytes[..filled]))
}

fn parse(bytes: &[u8]) -> Option<(u64, SignedHead)> {
    let line = std::str::from_utf8(bytes.split(|byte| *byte == b'\n').next()?).ok()?;
    let (hash, text) = line.split_once(' ')?;
    if hash != Hash::of(&[text.as_bytes()]).to_string() {
        return None;
    }
    let (turn, head) = text.split_once(' ')?;
    Some((turn.parse().ok()?, serde_json::from_str(head).ok()?))
}

#[cfg(test)]
mod tests {
    use shared::head::Head;
    use shared::keys::SignKey;

    use super::*;

    fn head(seq: u64) -> SignedHead {
        let head = Head { epoch: Hash::ZERO, seq, head: Hash::of(&[&seq.to_be_bytes()]) };
        head.sign(&SignKey::from_seed(&[7; 32]), Hash::ZERO).unwrap()
    }

    #[test]
    fn the_newest_whole_head_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let held = || HeadFile::open(&path).unwrap().held();
        assert_eq!(held(), None);
        let mut file = HeadFile::open(&path).unwrap();
        for seq in [1, 2, 11, 3] {
            file.write(head(seq)).unwrap();
            assert_eq!(held(), Some(head(seq)), "the last one written, whatever its number");
        }
        // A write that was torn leaves the one before it.
        OpenOptions::new().write(true).open(&path).unwrap().write_at(b"x", SLOT + 70).unwrap();
        assert_eq!(held(), Some(head(11)));
        let mut file = HeadFile::open(&path).unwrap();
        file.write(head(4)).unwrap();
        assert_eq!(held(), Some(head(4)));
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut full = HeadFile::open(&dir.path().join(FILE)).unwrap().full();
        assert_eq!(full.write(head(1)).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(full.held(), None);
    }
}
