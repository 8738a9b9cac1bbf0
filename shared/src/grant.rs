//! Access prefixes: what one covers. Who holds which lives in the log's state.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Result};
use crate::limits;
use crate::path::{SecretPath, check_segments};
use crate::text::{Checked, Grammar};

/// One prefix: `*`, an exact path, or a path with `/` at its end (the subtree below it).
pub type Grant = Checked<GrantGrammar>;

/// The grammar of [`Grant`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantGrammar;

impl Grant {
    /// Tells whether the prefix covers `path`.
    pub fn covers(&self, path: &SecretPath) -> bool {
        let (prefix, path) = (self.as_str(), path.as_str());
        prefix == "*" || path == prefix || (prefix.ends_with('/') && path.starts_with(prefix))
    }
}

impl Grammar for GrantGrammar {
    const KIND: &'static str = "Grant";

    fn check(text: &str) -> Result<()> {
        match text.strip_suffix('/') {
            None if text == "*" => Ok(()),
            Some(subtree) => check_segments(subtree, 1),
            None => check_segments(text, 2),
        }
    }
}

/// A list of prefixes, 64 at most; the empty list covers nothing. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(Arc<[Grant]>);

impl Grants {
    /// Parses each of `texts`.
    ///
    /// # Errors
    /// `E_PATH` for a malformed prefix, `E_LIMITS` past 64.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self> {
        let grants = texts.iter().map(|text| text.as_ref().parse()).collect::<Result<_>>();
        let grants = Self(grants?);
        grants.check()?;
        Ok(grants)
    }

    /// Checks the list's length, which parsing from JSON does not.
    ///
    /// # Errors
    /// `E_LIMITS` past 64 prefixes.
    pub fn check(&self) -> Result<()> {
        let count = self.0.len();
        if count <= limits::GRANTS {
            return Ok(());
        }
        Err(Code::Limits.because(format!("{count} prefixes in one access list")))
    }

    /// Tells whether a prefix of the list covers `path`.
    pub fn cover(&self, path: &SecretPath) -> bool {
        self.0.iter().any(|grant| grant.covers(path))
    }

    /// Tells whether a prefix of the list covers everything below `mount`.
    pub fn cover_mount(&self, mount: &str) -> bool {
        let whole = |text: &str| text == "*" || text.strip_suffix('/') == Some(mount);
        self.0.iter().any(|grant| whole(grant.as_str()))
    }

    /// Returns the prefixes.
    pub fn as_slice(&self) -> &[Grant] {
        &self.0
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.pad("-");
        }
        f.pad(&self.0.iter().map(Grant::as_str).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_its_subtree_and_no_sibling() {
        for (grant, path, covered) in [
            ("*", "secret/a", true),
            ("secret/", "secret/a/b", true),
            ("secret/vps/", "secret/vps/x", true),
            ("secret/vps/", "secret/vps", false),
            ("secret/vps/", "secret/vps-evil/x", false),
            ("secret/vps", "secret/vps", true),
            ("secret/vps", "secret/vps/x", false),
            ("sys/audit", "sys/audit", true),
        ] {
            let grants = Grants::parse(&[grant]).unwrap();
            assert_eq!(grants.cover(&path.parse().unwrap()), covered, "{grant} {path}");
        }
    }

    #[test]
    fn a_mount_is_covered_only_whole() {
        for (grant, covered) in
            [("*", true), ("secret/", true), ("secret/a/", false), ("secret2/", false)]
        {
            assert_eq!(Grants::parse(&[grant]).unwrap().cover_mount("secret"), covered, "{grant}");
        }
    }

    #[test]
    fn malformed_prefixes_and_long_lists_are_refused() {
        for bad in ["", "/", "**", "secret", "secret//", "secret/*/", "*/"] {
            let fault = Grants::parse(&[bad]);
            if bad == "secret/*/" || bad == "*/" {
                assert!(fault.is_ok(), "a star is an ordinary character inside a path");
            } else {
                assert_eq!(fault.unwrap_err().code, Code::Path, "{bad}");
            }
        }
        assert_eq!(Grants::parse(&["*"; 65]).unwrap_err().code, Code::Limits);
    }
}
