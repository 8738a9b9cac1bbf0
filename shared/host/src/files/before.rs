//! Keeps what a file held before this program wrote into it: a copy beside it, named after the
//! file and the time, for its owner alone.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use shared::time::Time;

use super::git::{self, GitError};
use super::{Access, FileError, LARGEST, Read, copy_aside, read};

/// What follows the file's name in that of a copy; the time follows.
const TAG: &str = ".before-vault-";

/// How many copies stand beside a file: further changes wait until somebody has looked at them.
const MOST: usize = 16;

/// A copy beside a file.
#[derive(Debug)]
pub struct Kept {
    /// Where it is.
    pub copy: PathBuf,
    /// Whether it was made just now; otherwise one with the same content was there.
    pub is_new: bool,
}

/// Why there is no copy; the file is as it was.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeepError {
    #[error("{count} copies of what `{}` held before are beside it", path.display())]
    Many { path: PathBuf, count: usize },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl KeepError {
    /// Returns the way out, as one sentence without a full stop.
    pub fn hint(&self) -> String {
        match self {
            Self::Many { path, .. } => {
                format!(
                    "look at them, and delete those that nobody needs: `ls {}{TAG}*`",
                    path.display()
                )
            }
            Self::Git(error) => error.hint(),
            Self::File(error) => error.hint(),
        }
    }
}

/// Keeps what `path` holds in a copy, 0600 and with its owner, on disk before this returns; one
/// copy of each content is enough. Git does not pick it up.
///
/// # Errors
/// If there are many copies already, or it cannot be written.
pub fn keep_before(path: &Path, found: &Read, now: Time) -> Result<Kept, KeepError> {
    let copies = copies(path);
    for copy in &copies {
        if read(copy, LARGEST)?.is_some_and(|kept| kept.content == found.content) {
            return Ok(Kept { copy: copy.clone(), is_new: false });
        }
    }
    if copies.len() >= MOST {
        return Err(KeepError::Many { path: path.to_owned(), count: copies.len() });
    }
    git::exclude(path, TAG)?;
    let access = Access { mode: 0o600, ..found.access };
    let copy = copy_aside(path, &tag(TAG, now), found.content.expose(), access)?;
    Ok(Kept { copy, is_new: true })
}

/// Returns what a copy's name ends in, e.g. `.before-vault-20261125T185311Z`.
pub fn tag(start: &str, now: Time) -> String {
    let seconds = Time::from_micros(now.as_secs() * 1_000_000);
    format!("{start}{}", seconds.to_string().replace(['-', ':'], ""))
}

/// Lists the copies beside a file.
fn copies(path: &Path) -> Vec<PathBuf> {
    let mut start = path.file_name().unwrap_or_default().to_owned();
    start.push(TAG);
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let is_copy = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_bytes().starts_with(start.as_bytes()))
            && path.symlink_metadata().is_ok_and(|found| found.is_file())
    };
    let mut copies: Vec<PathBuf> = paths.filter(is_copy).collect();
    copies.sort();
    copies
}

#[cfg(test)]
mod tests {
    use super::super::{remove, replace};
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn copies_are_named_after_the_second() {
        let time = Time::from_micros(1_798_761_599_999_999);
        assert_eq!(tag(TAG, time), ".before-vault-20261231T235959Z");
    }

    #[test]
    fn each_content_is_kept_once_and_there_is_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join(".env");
        let keep = |content: &str| {
            let access = Access { uid: None, gid: None, mode: 0o644 };
            replace(&path, content.as_bytes(), access).unwrap();
            let found = read(&path, LARGEST).unwrap().unwrap();
            keep_before(&path, &found, Time::from_micros(1_798_761_599_000_000))
        };
        let first = keep("A=0\n").unwrap();
        assert!(first.is_new && !keep("A=0\n").unwrap().is_new);
        assert_eq!(first.copy, path.with_file_name(".env.before-vault-20261231T235959Z"));
        assert_eq!(std::fs::read(&first.copy).unwrap(), b"A=0\n");
        assert_eq!(first.copy.metadata().unwrap().mode() & 0o777, 0o600);
        for n in 1..MOST {
            assert!(keep(&format!("A={n}\n")).unwrap().is_new);
        }
        let many = keep("A=more\n").unwrap_err();
        assert!(matches!(many, KeepError::Many { count: MOST, .. }), "{many}");
        assert!(!keep("A=3\n").unwrap().is_new);
        remove(&first.copy).unwrap();
        assert!(keep("A=more\n").unwrap().is_new);
    }
}
