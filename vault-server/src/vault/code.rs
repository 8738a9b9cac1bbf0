//! The file with the one-time code that resumes a vault: only a user of the server's host reads it.
//! When there is one is decided in `restored`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use host::files::{self, Access, FileError};
use shared::hash::Hash;
use shared::keys::random;

use crate::store::restored::Restored;

/// The file; the code stands nowhere else.
pub struct CodeFile(PathBuf);

impl CodeFile {
    /// Names the file.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Tells whether the file holds the code that ends a state.
    pub fn holds(&self, restored: &Restored) -> bool {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.trim().parse().is_ok_and(|code| restored.opens(&code))
    }

    /// Writes a new code and returns its hash.
    pub fn renew(&self) -> Result<Hash, FileError> {
        let code = Hash::from_bytes(*random::<32>());
        files::replace_trusted(&self.0, format!("{code}\n").as_bytes(), Access::PRIVATE)?;
        Ok(Hash::of(&[code.as_bytes()]))
    }

    /// Removes the file of a code that is used, or not needed any more.
    pub fn remove(&self) {
        match std::fs::remove_file(&self.0) {
            Err(why) if why.kind() != ErrorKind::NotFound => {
                tracing::warn!(file = %self.0.display(), %why, "a used code was not removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
}
