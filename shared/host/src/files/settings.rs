//! Reading small files of settings that somebody else may have put there: never waits, never reads
//! on for ever.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// The largest file of settings, in bytes.
const MOST: u64 = 4 << 20;

/// Reads a regular file whole, following links, and returns it with what the very file opened is.
///
/// # Errors
/// If it cannot be read, is no regular file (a pipe would keep the caller waiting), is larger than
/// 4 MiB, or is no UTF-8.
pub fn settings(path: &Path) -> io::Result<(Metadata, Zeroizing<String>)> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(found.len().min(MOST)).unwrap_or(0)));
    // One byte more than allowed: a file that grows meanwhile is noticed.
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok((found, Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use std::fs::File;

    use super::*;

    #[test]
    fn only_small_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, bytes: &[u8]| {
            File::create(at(name)).unwrap().write_all(bytes).unwrap();
        };
        write("good", b"a = 1\n");
        std::os::unix::fs::symlink(at("good"), at("link")).unwrap();
        for name in ["good", "link"] {
            assert_eq!(*settings(&at(name)).unwrap().1, "a = 1\n");
        }
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        write("bytes", b"\xff");
        File::create(at("huge")).unwrap().set_len(MOST + 1).unwrap();
        let device = Path::new("/dev/zero");
        for (path, kind) in [
            (at("none"), ErrorKind::NotFound),
            (at("pipe"), ErrorKind::InvalidInput),
            (folder.path().to_owned(), ErrorKind::InvalidInput),
            (device.to_owned(), ErrorKind::InvalidInput),
            (at("bytes"), ErrorKind::InvalidData),
            (at("huge"), ErrorKind::FileTooLarge),
        ] {
            assert_eq!(settings(&path).unwrap_err().kind(), kind, "{}", path.display());
        }
    }
}
