//! What a program of ours has last written into each file: by it our own content is told from
//! somebody else's, by the agent and by `vault export --out`. Salted hashes on disk, never a value.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared::hash::Hash;

use host::account;
use host::files::{self, Access, FileError, LARGEST, Read, Swapped};

use crate::config::{Target, WriteMode};
use crate::render::{Layout, block};

/// The folder of the records, in the state folder.
const FOLDER: &str = "written";

/// The version of their format.
const VERSION: u32 = 2;

/// Bytes that a mark takes in a record, padded: as a sector of a disk, so that a power cut leaves
/// the other one whole.
const PLACE: usize = 512;

/// What is known of one file. Its record holds two places for marks, of which the next one
/// overwrites the older: one write and one sync, as each change waits for it. Behind them stands
/// whose they are.
#[derive(Clone, Debug)]
pub struct Known {
    /// What was last written, and what is in the other place: a crash may have come between.
    last: Mark,
    before: Option<Mark>,
}

/// The end of a record.
#[derive(Debug, Serialize, Deserialize)]
struct Of {
    v: u32,
    path: String,
}

/// Recognizes a content; the salt keeps a short one from being guessed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mark {
    /// Counts the marks of a file; even ones stand in the first place.
    n: u64,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
    salt: Hash,
    hash: Hash,
}

impl Mark {
    fn of(content: &[u8], access: Access, n: u64) -> Self {
        let salt = Hash::from_bytes(*shared::keys::random::<32>());
        let Access { uid, gid, mode } = access;
        Self { n, uid, gid, mode, hash: Hash::of(&[salt.as_bytes(), content]), salt }
    }

    fn is(&self, content: &[u8]) -> bool {
        Hash::of(&[self.salt.as_bytes(), content]) == self.hash
    }

    const fn access(&self) -> Access {
        Access { uid: self.uid, gid: self.gid, mode: self.mode }
    }

    /// Returns where it stands in a record, in bytes.
    const fn at(&self) -> usize {
        if self.n.is_multiple_of(2) { 0 } else { PLACE }
    }

    /// Returns what stands there: its text, and a hash by which half of it is told from all.
    fn place(&self) -> serde_json::Result<Vec<u8>> {
        let text = serde_json::to_string(self)?;
        let mut place = format!("{} {text}", Hash::of(&[text.as_bytes()])).into_bytes();
        place.resize(PLACE - 1, b' ');
        place.push(b'\n');
        Ok(place)
    }

    fn read(place: &[u8]) -> Option<Self> {
        let (sum, text) = std::str::from_utf8(place).ok()?.trim_end().split_once(' ')?;
        let is_whole = sum.parse().is_ok_and(|sum: Hash| sum == Hash::of(&[text.as_bytes()]));
        serde_json::from_str(text).ok().filter(|_| is_whole)
    }
}

impl Known {
    /// Tells whether a file that holds `content` is as it was written.
    pub fn is(&self, content: &[u8]) -> bool {
        self.marks().any(|mark| mark.is(content))
    }

    /// Returns owner and mode that it was written with.
    pub const fn access(&self) -> Access {
        self.last.access()
    }

    fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.before.iter().chain([&self.last])
    }

    /// Reads a record; `None` if it is not understood.
    fn read(record: &[u8]) -> Option<(Self, Of)> {
        let (places, of) = record.split_at_checked(2 * PLACE)?;
        let of: Of = serde_json::from_slice(of).ok().filter(|of: &Of| of.v == VERSION)?;
        let mut marks: Vec<Mark> = places.chunks(PLACE).filter_map(Mark::read).collect();
        marks.sort_unstable_by_key(|mark| mark.n);
        let last = marks.pop()?;
        Some((Self { last, before: marks.pop() }, of))
    }
}

/// What became of a file from which our content was to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is gone.
    File,
    /// The block is gone, everything else is as it was.
    Block,
    /// There was no file.
    Absent,
    /// There was no block in it.
    NoBlock,
    /// It holds what was not written here, and stays.
    Foreign,
    /// Somebody was changing it at this moment.
    Moved,
}

/// Why nothing was taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It cannot be read or changed.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is open which lines are ours.
    #[error(transparent)]
    Block(#[from] block::BrokenBlock),
}

/// The records of all files, one file each.
#[derive(Clone, Debug)]
pub struct Written {
    folder: PathBuf,
}

impl Written {
    /// Those in a state folder.
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join(FOLDER) }
    }

    /// Returns what is known of a file; nothing if its record is damaged: the file then counts as
    /// somebody else's.
    pub fn of(&self, path: &Path) -> Option<Known> {
        let record = self.record(path);
        let known = Known::read(&std::fs::read(&record).ok()?);
        if known.is_none() {
            tracing::warn!(file = %path.display(), "`{}` is not understood", record.display());
        }
        known.map(|(known, _)| known)
    }

    /// Notes that `content` is about to be written where `found` is; on disk before this returns.
    ///
    /// # Errors
    /// If the state folder cannot be written.
    pub fn note(
        &self,
        path: &Path,
        found: Option<&[u8]>,
        content: &[u8],
        access: Access,
    ) -> anyhow::Result<()> {
        let fault = || format!("cannot note what `{}` will hold", path.display());
        let record = self.record(path);
        let Some(Known { last, before }) = self.of(path) else {
            let mark = Mark::of(content, access, 0);
            let of = Of { v: VERSION, path: path.display().to_string() };
            let mut bytes = mark.place()?;
            bytes.resize(2 * PLACE, b' ');
            bytes.extend(serde_json::to_vec(&of)?);
            return files::create_dir_private(&self.folder)
                .and_then(|()| files::replace_trusted(&record, &bytes, Access::PRIVATE))
                .with_context(fault);
        };
        if last.is(content) && last.access() == access {
            return Ok(());
        }
        // Of the two the one stays that tells what the file holds now; else the newer.
        let is_there = |mark: &Mark| found.is_some_and(|found| mark.is(found)) && !mark.is(content);
        let n = last.n + if before.as_ref().is_some_and(is_there) { 2 } else { 1 };
        let mark = Mark::of(content, access, n);
        files::overwrite_trusted(&record, mark.at(), &mark.place()?).with_context(fault)
    }

    /// Drops the records of files that are gone, but for `targets`.
    pub fn forget_gone(&self, targets: &[PathBuf]) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            let is_gone = Known::read(&bytes).is_some_and(|(_, Of { path, .. })| {
                let path = Path::new(&path);
                !targets.iter().any(|target| target == path) && path.symlink_metadata().is_err()
            });
            if is_gone && let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::debug!("`{}` stays: {error}", entry.path().display());
            }
        }
    }

    /// Removes a file of our content, or the block of our content from it.
    ///
    /// # Errors
    /// If it cannot be read or changed; it is then as it was.
    pub fn take(&self, target: &Target) -> Result<Taken, TakeError> {
        let path = real(target)?;
        if target.write == WriteMode::InPlace {
            files::finish_in_place(&path)?;
        }
        let Some(old) = files::read(&path, LARGEST)? else { return Ok(Taken::Absent) };
        let Some(found) = part(target.layout, old.content.expose())? else {
            return Ok(Taken::NoBlock);
        };
        if !self.of(&path).is_some_and(|known| known.is(found)) {
            return Ok(Taken::Foreign);
        }
        let rest = match target.layout {
            Layout::File => None,
            Layout::Block => block::take(old.content.expose())?,
        };
        let done = if rest.is_some() { Taken::Block } else { Taken::File };
        let Read { content, access, .. } = &old;
        let before = content.expose();
        let swapped = match (&rest, target.write) {
            (rest, WriteMode::InPlace) => {
                let rest = rest.as_ref().map_or(&[][..], |rest| rest.expose());
                files::in_place(&path, before, rest, *access)?
            }
            (Some(rest), WriteMode::Replace) => {
                match files::exchange(&path, before, rest.expose(), *access)? {
                    files::Exchanged::Done(_) => Swapped::Done,
                    files::Exchanged::Moved => Swapped::Moved,
                }
            }
            (None, WriteMode::Replace) => files::remove_if(&path, before)?,
        };
        Ok(if swapped == Swapped::Done { done } else { Taken::Moved })
    }

    fn record(&self, path: &Path) -> PathBuf {
        self.folder.join(format!("{}", Hash::of(&[path.as_os_str().as_bytes()])))
    }
}

/// Returns the part of a file that is the vault's, `None` for one without a block.
///
/// # Errors
/// Markers that leave it open which lines those are.
pub fn part(layout: Layout, file: &[u8]) -> Result<Option<&[u8]>, block::BrokenBlock> {
    match layout {
        Layout::File => Ok(Some(file)),
        Layout::Block => block::body(file),
    }
}

/// Returns where a target's file is: its path, or where the links lead that it may follow.
///
/// # Errors
/// A link that belongs to anybody but root, the agent's user and the target's owner.
pub fn real(target: &Target) -> Result<Cow<'_, Path>, FileError> {
    if !target.follow {
        return Ok(Cow::Borrowed(&target.path));
    }
    let followed = files::follow(&target.path, &link_owners(target))?;
    Ok(Cow::Owned(followed.real))
}

/// Returns whose links a target follows, besides root's.
pub fn link_owners(target: &Target) -> Vec<u32> {
    let owner = target.owner.as_deref().and_then(account::user).map(|user| user.uid);
    owner.into_iter().chain([rustix::process::geteuid().as_raw()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_known_over_a_crash_and_never_stored() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (written, path) = (Written::new(&root), root.join(".env"));
        let is = |content: &[u8]| written.of(&path).is_some_and(|known| known.is(content));
        assert!(written.of(&path).is_none());
        written.note(&path, None, b"A=hunter1\n", Access::PRIVATE).unwrap();
        assert!(is(b"A=hunter1\n") && !is(b"A=hunter2\n"));
        // Noted twice, and written neither time: the file still holds the first one.
        for new in [&b"A=hunter2\n"[..], b"A=hunter3\n"] {
            written.note(&path, Some(b"A=hunter1\n"), new, Access::PRIVATE).unwrap();
            assert!(is(b"A=hunter1\n") && is(new));
        }
        assert!(!is(b"A=hunter2\n"));
        let record = std::fs::read(written.record(&path)).unwrap();
        assert!(!String::from_utf8(record).unwrap().contains("hunter"));
        std::fs::remove_file(written.record(&path)).unwrap();
        assert!(!is(b"A=hunter3\n"));
    }

    #[test]
    fn of_a_mark_that_was_cut_off_the_one_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (written, path) = (Written::new(&root), root.join(".env"));
        let damage = |record: &[u8]| {
            files::replace(&written.record(&path), record, Access::PRIVATE).unwrap();
        };
        let mut found: Option<Vec<u8>> = None;
        for (n, mode) in (0..5).zip([0o600, 0o640].into_iter().cycle()) {
            let (content, access) = (vec![n; 9], Access { mode, ..Access::PRIVATE });
            written.note(&path, found.as_deref(), &content, access).unwrap();
            let whole = std::fs::read(written.record(&path)).unwrap();
            let known = written.of(&path).unwrap();
            assert!(known.is(&content) && known.access() == access);
            let Some(found) = found.replace(content) else { continue };
            let mut torn = whole.clone();
            torn[known.last.at() + 80..][..8].fill(0);
            damage(&torn);
            let left = written.of(&path).unwrap();
            assert!(left.is(&found) && !left.is(&[n; 9]) && left.access() != access);
            damage(&whole);
        }
        damage(b"{");
        assert!(written.of(&path).is_none());
        written.note(&path, None, b"A=1\n", Access::PRIVATE).unwrap();
        assert!(written.of(&path).unwrap().is(b"A=1\n"));
    }

    #[test]
    fn records_of_files_that_are_gone_go() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let written = Written::new(&root);
        let [there, gone, target] = ["there", "gone", "target"].map(|name| root.join(name));
        files::replace(&there, b"x", Access::PRIVATE).unwrap();
        for path in [&there, &gone, &target] {
            written.note(path, None, b"x", Access::PRIVATE).unwrap();
        }
        written.forget_gone(std::slice::from_ref(&target));
        let known = [&there, &gone, &target].map(|path| written.of(path).is_some());
        assert_eq!(known, [true, false, true]);
    }
}
