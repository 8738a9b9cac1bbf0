//! Secret paths and mounts: the grammar of what may be named.

use crate::error::{Code, Result};
use crate::limits;
use crate::text::{Checked, Grammar, clip, is_invisible};

/// Mount names that the local API needs for itself.
const RESERVED: [&str; 3] = ["sys", "auth", "agent"];

/// A secret's full path, mount first: 2 to 32 segments, 1,024 bytes at most, compared byte by byte.
pub type SecretPath = Checked<PathGrammar>;

/// The grammar of [`SecretPath`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathGrammar;

impl SecretPath {
    /// Returns the first segment.
    pub fn mount(&self) -> &str {
        self.as_str().split_once('/').map_or(self.as_str(), |(mount, _)| mount)
    }

    /// Returns what follows the mount.
    pub fn rest(&self) -> &str {
        self.as_str().split_once('/').map_or("", |(_, rest)| rest)
    }
}

impl Grammar for PathGrammar {
    const KIND: &'static str = "SecretPath";

    fn check(text: &str) -> Result<()> {
        check_segments(text, 2)
    }
}

/// Demands Unicode's normal form NFC, in which one text that people see is one text in bytes.
///
/// Asked where names come in, never by the log's rules: Unicode's tables change, the log does not.
///
/// # Errors
/// `E_PATH`.
pub fn demand_nfc(text: &str) -> Result<()> {
    if unicode_normalization::is_nfc(text) {
        return Ok(());
    }
    let why = format!("path `{}` is not in Unicode's normal form NFC", clip(text));
    Err(Code::Path.because(why))
}

/// Checks `text` as `least` to 32 segments joined by `/`.
pub(crate) fn check_segments(text: &str, least: usize) -> Result<()> {
    let refuse = |why: &str| Err(Code::Path.because(format!("path `{}` {why}", clip(text))));
    if text.len() > limits::PATH {
        return refuse(&format!("is longer than {} bytes", limits::PATH));
    }
    let count = text.split('/').count();
    if count < least {
        return refuse("names a mount only: write mount/name");
    }
    if count > limits::SEGMENTS {
        return refuse(&format!("has more than {} segments", limits::SEGMENTS));
    }
    for segment in text.split('/') {
        if let Some(why) = segment_fault(segment) {
            return refuse(&why);
        }
    }
    Ok(())
}

/// Returns why `segment` is refused, if it is.
fn segment_fault(segment: &str) -> Option<String> {
    let why = if segment.is_empty() {
        "has an empty segment"
    } else if segment.len() > limits::SEGMENT {
        return Some(format!("has a segment longer than {} bytes", limits::SEGMENT));
    } else if segment == "." || segment == ".." {
        "has a segment `.` or `..`"
    } else if segment.starts_with(char::is_whitespace) || segment.ends_with(char::is_whitespace) {
        "has a space at the start or end of a segment"
    } else if segment.chars().any(is_invisible) {
        "has a control, bidirectional or zero-width character"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// The first segment of paths, e.g. `secret`; never `sys`, `auth` or `agent`.
pub type Mount = Checked<MountGrammar>;

/// The grammar of [`Mount`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountGrammar;

impl Grammar for MountGrammar {
    const KIND: &'static str = "Mount";

    fn check(text: &str) -> Result<()> {
        check_segments(text, 1)?;
        if text.contains('/') {
            return Err(
                Code::Path.because(format!("mount `{}` is more than one segment", clip(text)))
            );
        }
        if RESERVED.contains(&text) {
            return Err(Code::Path.because(format!("mount `{text}` is reserved")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_grammar() {
        for good in [
            "secret/a",
            "secret/jjeco/api-keys",
            "secret/A B/ü.x%+",
            "secret/x..y",
            "secret/u\u{308}",
            &format!("secret/{}", "ü".repeat(127)),
            &vec!["a"; 32].join("/"),
            &vec!["x".repeat(255); 4].join("/"),
        ] {
            assert_eq!(good.parse::<SecretPath>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "secret",
            "/a",
            "secret/",
            "secret//a",
            "secret/./a",
            "secret/..",
            "secret/ a",
            "secret/a ",
            "secret/a\n",
            "secret/a\u{202E}b",
            "secret/a\u{200B}",
        ] {
            assert_eq!(bad.parse::<SecretPath>().unwrap_err().code, Code::Path, "{bad:?}");
        }
    }

    #[test]
    fn a_path_over_a_limit_is_told_which() {
        for (bad, limit) in [
            (vec!["a".to_owned(); 33].join("/"), "32 segments"),
            (format!("secret/{}", "x".repeat(256)), "255 bytes"),
            (format!("secret/{}", "ü".repeat(128)), "255 bytes"),
            (format!("secret/{}", vec!["x".repeat(255); 4].join("/")), "1024 bytes"),
        ] {
            let fault = bad.parse::<SecretPath>().unwrap_err();
            assert!(fault.code == Code::Path && fault.detail.ends_with(limit), "{fault}");
        }
    }

    #[test]
    fn the_normal_form_is_asked_for_apart_from_the_grammar() {
        for good in ["secret/a", "secret/\u{fc}", "secret/\u{1F600}"] {
            demand_nfc(good).unwrap();
        }
        for bad in ["secret/u\u{308}", "secret/\u{212B}"] {
            bad.parse::<SecretPath>().unwrap();
            assert_eq!(demand_nfc(bad).unwrap_err().code, Code::Path, "{bad:?}");
        }
    }

    #[test]
    fn mounts_are_one_free_segment() {
        assert_eq!("secret".parse::<Mount>().unwrap().as_str(), "secret");
        for bad in ["", "a/b", "sys", "auth", "agent", "."] {
            assert_eq!(bad.parse::<Mount>().unwrap_err().code, Code::Path, "{bad:?}");
        }
    }
}
