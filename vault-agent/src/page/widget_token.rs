//! The token of `/widget.json` and `/badge.svg`: made once, kept in the state folder for nobody but
//! the agent's user.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use shared::hash::Hash;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use host::files::{self, Access};
use host::hint::hinted;

use super::sessions::random;

/// Its name in the state folder.
const FILE: &str = "ui-widget-token";

/// What callers have to show.
pub(super) struct WidgetToken(Zeroizing<String>);

impl std::fmt::Debug for WidgetToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WidgetToken(..)")
    }
}

impl WidgetToken {
    /// Reads the token of a state folder, or makes it.
    ///
    /// # Errors
    /// If the file cannot be read or made, or holds none.
    pub(super) fn open(state: &Path) -> Result<Self> {
        let file = state.join(FILE);
        match fs::read_to_string(&file) {
            Ok(text) if text.trim().len() < 32 => {
                let text = format!("`{}` holds no token", file.display());
                bail!(hinted(text, "remove it: a new one is made"))
            }
            Ok(text) => Ok(Self(Zeroizing::new(text.trim().to_owned()))),
            Err(why) if why.kind() == ErrorKind::NotFound => {
                let token = random();
                let access = Access { uid: None, gid: None, mode: 0o600 };
                files::replace(&file, format!("{}\n", *token).as_bytes(), access)?;
                Ok(Self(token))
            }
            Err(why) => Err(why).with_context(|| format!("reading `{}`", file.display())),
        }
    }

    /// Tells whether a caller has shown it.
    pub(super) fn is(&self, shown: &str) -> bool {
        let hashed = |text: &str| Hash::of(&[text.as_bytes()]);
        hashed(shown).as_bytes().ct_eq(hashed(&self.0).as_bytes()).into()
    }

    /// Returns the token, for who may ask the agent.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_token_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let token = WidgetToken::open(dir.path()).unwrap();
        assert!(token.is(token.text()) && !token.is("") && !token.is("guess"));
        assert!(WidgetToken::open(dir.path()).unwrap().is(token.text()));
        let file = dir.path().join(FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(format!("{token:?}"), "WidgetToken(..)");
        files::replace(&file, b"short", Access { uid: None, gid: None, mode: 0o600 }).unwrap();
        assert!(WidgetToken::open(dir.path()).unwrap_err().to_string().contains("no token"));
    }
}
