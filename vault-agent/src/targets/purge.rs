//! `target remove --purge` and `uninstall --with-targets`: takes out of a file what the agent has
//! written there. What anybody else wrote stays.

use anyhow::{Result, bail};

use host::files::{self, FileError};
use host::hint::hinted;
use machine::config::Target;
use machine::written::{TakeError, Taken, Written};

/// How often is started anew when the file changes meanwhile.
const TRIES: usize = 8;

/// Removes the file of `target`, or its block; returns what became of it.
///
/// # Errors
/// If it holds anything that the agent did not write; it is then as it was.
pub(crate) fn purge(target: &Target, written: &Written) -> Result<&'static str> {
    let _held = target.require_mount.as_deref().map(files::mount::hold).transpose()?;
    let shown = target.path.display();
    for _ in 0..TRIES {
        return Ok(match written.take(target) {
            Ok(Taken::Moved) => continue,
            Ok(Taken::File) => "the file is gone",
            Ok(Taken::Block) => "its block is gone from the file, all other lines are as they were",
            Ok(Taken::Absent) => "there was no file",
            Ok(Taken::NoBlock) => "there was no block in the file, which is as it was",
            Ok(Taken::Foreign) => bail!(hinted(
                format!("`{shown}` holds what this agent did not write"),
                format!("if nobody needs it: `rm {shown}`")
            )),
            Err(TakeError::File(error)) => return Err(error.into()),
            Err(TakeError::Block(broken)) => bail!(hinted(
                format!("`{shown}` {broken}"),
                "delete what is between the markers, and the markers, by hand"
            )),
        });
    }
    Err(FileError::Busy(target.path.clone()).into())
}
