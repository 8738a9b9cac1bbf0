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
const VERSION: u32 = 1;

/// What is known of one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Known {
    v: u32,
    path: String,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
    /// Of the content last written, and of the one before: a crash may have come between.
    marks: Vec<Mark>,
}

/// Recognizes a content; the salt keeps a short one from being guessed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mark {
    salt: Hash,
    hash: Hash,
}

impl Mark {
    fn of(content: &[u8]) -> Self {
        let salt = Hash::from_bytes(*shared::keys::random::<32>());
        Self { hash: Hash::of(&[salt.as_bytes(), content]), salt }
    }

    fn is(&self, content: &[u8]) -> bool {
        Hash::of(&[self.salt.as_bytes(), content]) == self.hash
    }
}

impl Known {
    /// Tells whether a file that holds `content` is as it was written.
    pub fn is(&self, content: &[u8]) -> bool {
        self.marks.iter().any(|mark| mark.is(content))
    }

    /// Returns owner and mode that it was written with.
    pub const fn access(&self) -> Access {
        Access { uid: self.uid, gid: self.gid, mode: self.mode }
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
        let bytes = std::fs::read(self.record(path)).ok()?;
        let known: Option<Known> = serde_json::from_slice(&bytes).ok();
        let known = known.filter(|known| known.v == VERSION);
        if known.is_none() {
            let record = self.record(path);
            tracing::warn!(file = %path.display(), "`{}` is not understood", record.display());
        }
        known
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
        let before = self.of(path);
        let Access { uid, gid, mode } = access;
        let is_there =
            |mark: &&Mark| found.is_some_and(|found| mark.is(found)) && !mark.is(content);
        let mut marks = Vec::with_capacity(2);
        if let Some(before) = &before {
            if before.marks.last().is_some_and(|mark| mark.is(content)) && before.access() == access
            {
                return Ok(());
            }
            let kept = before.marks.iter().find(is_there).or(before.marks.last());
            marks.extend(kept.cloned());
        }
        marks.push(Mark::of(content));
        let path_shown = path.display().to_string();
        let known = Known { v: VERSION, path: path_shown, uid, gid, mode, marks };
        let bytes = serde_json::to_vec(&known)?;
        files::create_dir_private(&self.folder)
            .and_then(|()| files::replace_trusted(&self.record(path), &bytes, Access::PRIVATE))
            .with_context(|| format!("cannot note what `{}` will hold", path.display()))
    }

    /// Drops the records of files that are gone, but for `targets`.
    pub fn forget_gone(&self, targets: &[PathBuf]) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            let known: Result<Known, _> = serde_json::from_slice(&bytes);
            let is_gone = known.is_ok_and(|known| {
                let path = Path::new(&known.path);
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
        self.folder.join(format!("{}.json", Hash::of(&[path.as_os_str().as_bytes()])))
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
