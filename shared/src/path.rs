//! Secret paths and mounts: the grammar of what may be named.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error, Result};
use crate::limits;
use crate::name::{clip, text_serde};

/// Mount names that the local API needs for itself.
const RESERVED: [&str; 3] = ["sys", "auth", "agent"];

/// A secret's full path, mount first: 2 to 8 segments, 512 bytes at most, compared byte by byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretPath(Arc<str>);

impl SecretPath {
    /// Returns the whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first segment.
    #[must_use]
    pub fn mount(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(mount, _)| mount)
    }

    /// Returns what follows the mount.
    #[must_use]
    pub fn rest(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, rest)| rest)
    }
}

impl FromStr for SecretPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        check_segments(text, 2)?;
        Ok(Self(text.into()))
    }
}

/// Ordered maps keyed by paths are searched by text.
impl Borrow<str> for SecretPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Checks `text` as `least` to 8 segments joined by `/`.
pub(crate) fn check_segments(text: &str, least: usize) -> Result<()> {
    let refuse = |why: &str| Err(Code::Path.because(format!("path `{}` {why}", clip(text))));
    if text.len() > limits::PATH {
        return refuse("is longer than 512 bytes");
    }
    let count = text.split('/').count();
    if count < least {
        return refuse("names a mount only: write mount/name");
    }
    if count > limits::SEGMENTS {
        return refuse("has more than 8 segments");
    }
    for segment in text.split('/') {
        if let Some(why) = segment_fault(segment) {
            return refuse(why);
        }
    }
    Ok(())
}

/// Returns why `segment` is refused, if it is.
fn segment_fault(segment: &str) -> Option<&'static str> {
    if segment.is_empty() {
        Some("has an empty segment")
    } else if segment.len() > limits::SEGMENT {
        Some("has a segment longer than 128 bytes")
    } else if segment == "." || segment == ".." {
        Some("has a segment `.` or `..`")
    } else if segment.starts_with(char::is_whitespace) || segment.ends_with(char::is_whitespace) {
        Some("has a space at the start or end of a segment")
    } else if segment.chars().any(is_invisible) {
        Some("has a control, bidirectional or zero-width character")
    } else {
        None
    }
}

/// Tells characters that a person cannot see, or that reorder what he sees.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
            | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// The first segment of paths, e.g. `secret`; never `sys`, `auth` or `agent`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mount(Arc<str>);

impl Mount {
    /// Returns the mount as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Mount {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        check_segments(text, 1)?;
        if text.contains('/') {
            return Err(
                Code::Path.because(format!("mount `{}` is more than one segment", clip(text)))
            );
        }
        if RESERVED.contains(&text) {
            return Err(Code::Path.because(format!("mount `{text}` is reserved")));
        }
        Ok(Self(text.into()))
    }
}

impl Borrow<str> for Mount {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretPath({:?})", self.0)
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mount({:?})", self.0)
    }
}

text_serde!(SecretPath, Mount);

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
            "a/b/c/d/e/f/g/h",
        ] {
            assert_eq!(good.parse::<SecretPath>().unwrap().as_str(), good);
        }
        let long = format!("secret/{}", "x".repeat(129));
        let whole = format!("secret/{}/{0}/{0}/{0}", "x".repeat(127));
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
            "a/b/c/d/e/f/g/h/i",
            &long,
            &whole,
        ] {
            assert_eq!(bad.parse::<SecretPath>().unwrap_err().code, Code::Path, "{bad:?}");
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
