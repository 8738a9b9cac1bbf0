//! The only writer of files. Placeholder with the owner's names until the owner's file arrives.

use std::io;
use std::path::Path;

/// Who may do what with a file.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    mode: u32,
}

impl Access {
    /// This process's user alone.
    pub const PRIVATE: Self = Self { mode: 0o600 };
}

/// Why a file is not written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FileError(#[from] io::Error);

impl FileError {
    /// The way out.
    #[must_use]
    pub fn hint(&self) -> String {
        "look at the disk and the mount".to_owned()
    }
}

/// Makes `path` hold exactly `content`.
///
/// # Errors
/// Whatever the system says.
pub fn replace(path: &Path, content: &[u8], access: Access) -> Result<(), FileError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(access.mode)
        .open(path)?;
    Ok(file.write_all(content)?)
}
