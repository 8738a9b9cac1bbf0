//! `target remove --purge`: takes out of a file what the agent has written there, once it is no
//! target any more.

use std::path::Path;

use anyhow::{Result, bail};

use host::files::{self, Exchanged, FileError};
use host::hint::hinted;
use machine::config::Target;
use machine::render::{Layout, block};

/// The largest file that a block is taken out of.
const LARGEST: u64 = 16 << 20;

/// How often is started anew when the file changes meanwhile.
const TRIES: usize = 8;

const ABSENT: &str = "there was no file";

/// Removes the file of `target`, or its block; returns what became of it.
pub(super) fn purge(target: &Target) -> Result<&'static str> {
    let _held = target.require_mount.as_deref().map(files::mount::hold).transpose()?;
    match target.layout {
        Layout::File => remove(&target.path),
        Layout::Block => take(&target.path),
    }
}

fn remove(path: &Path) -> Result<&'static str> {
    Ok(if files::remove(path)? { "the file is gone" } else { ABSENT })
}

/// Takes the block out of a file; one that holds nothing else goes with it.
fn take(path: &Path) -> Result<&'static str> {
    for _ in 0..TRIES {
        let Some(old) = files::read(path, LARGEST)? else { return Ok(ABSENT) };
        let before = old.content.expose();
        let rest = match block::take(before) {
            Ok(Some(rest)) => rest,
            Ok(None) => return remove(path),
            Err(broken) => bail!(hinted(
                format!("`{}` {broken}", path.display()),
                "delete what is between the markers, and the markers, by hand"
            )),
        };
        if rest.expose() == before {
            return Ok("there was no block in the file, which is as it was");
        }
        if let Exchanged::Done(_) = files::exchange(path, before, rest.expose(), old.access)? {
            return Ok("its block is gone from the file, all other lines are as they were");
        }
    }
    Err(FileError::Busy(path.to_owned()).into())
}
