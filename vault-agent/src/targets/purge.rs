//! `target remove --purge`: takes out of a file what the agent has written there, once it is no
//! target any more.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

use host::files::{self, Exchanged, FileError};
use machine::config::Target;
use machine::render::{Layout, block};

/// The largest file that a block is taken out of.
const LARGEST: u64 = 16 << 20;

/// How often is started anew when the file changes meanwhile.
const TRIES: usize = 8;

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purged {
    /// There was none.
    Absent,
    /// It is gone.
    File,
    /// The vault's block is gone, and the rest is as it was.
    Block,
    /// There was no block in it, and it is as it was.
    NoBlock,
}

impl fmt::Display for Purged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "there was no file",
            Self::File => "the file is gone",
            Self::Block => "its block is gone from the file, all other lines are as they were",
            Self::NoBlock => "there was no block in the file, which is as it was",
        })
    }
}

/// Removes the file of `target`, or its block.
pub(super) fn purge(target: &Target) -> Result<Purged> {
    let _held = target.require_mount.as_deref().map(files::mount::hold).transpose()?;
    let gone = |there: bool| if there { Purged::File } else { Purged::Absent };
    match target.layout {
        Layout::File => Ok(gone(files::remove(&target.path)?)),
        Layout::Block => take(&target.path),
    }
}

/// Takes the block out of a file; one that holds nothing else goes with it.
fn take(path: &Path) -> Result<Purged> {
    for _ in 0..TRIES {
        let Some(old) = files::read(path, LARGEST)? else { return Ok(Purged::Absent) };
        let before = old.content.expose();
        let rest = match block::take(before) {
            Ok(rest) => rest,
            Err(broken) => bail!(
                "`{}` {broken}\nhint: delete what is between the markers, and the markers, by hand",
                path.display()
            ),
        };
        let Some(rest) = rest else {
            let removed = files::remove(path)?;
            return Ok(if removed { Purged::File } else { Purged::Absent });
        };
        if rest.expose() == before {
            return Ok(Purged::NoBlock);
        }
        if let Exchanged::Done(_) = files::exchange(path, before, rest.expose(), old.access)? {
            return Ok(Purged::Block);
        }
    }
    Err(FileError::Busy(path.to_owned()).into())
}
