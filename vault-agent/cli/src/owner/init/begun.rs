//! What an attempt leaves behind before there is anything to go on with: the names that it chose,
//! and a recovery kit that was shown and not confirmed. No secret.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use shared::hash::Hash;
use shared::name::Name;
use shared::time::Time;

use crate::owner::resumable::Resumable;
use host::files;
use host::hint::parsed;
use host::term::Term;
use machine::joining::host_name;
use machine::paths::Paths;

/// Names as they were asked for; `None` for those that were not.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// This machine.
    pub host: Option<String>,
    /// The vault, for people.
    pub vault: Option<String>,
    /// The first admin.
    pub admin: Option<String>,
}

/// The names of a vault to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    pub host: Name,
    pub vault: Name,
    pub admin: Name,
}

impl Resumable for Names {
    const FILE: &'static str = "names.json";
}

impl Names {
    /// Takes each name as it was asked for, else as an earlier attempt chose it, else the usual
    /// one.
    ///
    /// # Errors
    /// A name that breaks the grammar.
    pub fn choose(asked: Asked, paths: &Paths) -> Result<Self> {
        let earlier: Option<Self> = Self::load(paths)?;
        let known = |of: fn(&Self) -> &Name| earlier.as_ref().map(|names| of(names).to_string());
        let host = asked.host.or_else(|| known(|names| &names.host));
        let vault = asked.vault.or_else(|| known(|names| &names.vault));
        let admin = asked.admin.or_else(|| known(|names| &names.admin));
        Ok(Self {
            host: parsed(host.map_or_else(host_name, Ok)?.parse())?,
            vault: parsed(vault.as_deref().unwrap_or("home").parse())?,
            admin: parsed(admin.as_deref().unwrap_or("admin").parse())?,
        })
    }
}

/// A kit that has been shown, or written to a file, before anybody has confirmed that it is kept.
#[derive(Debug, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShownKit {
    at: Time,
    /// Where it was written to.
    file: Option<PathBuf>,
    /// Of the page; its secrets are too long to be guessed at.
    print: Hash,
}

impl Resumable for ShownKit {
    const FILE: &'static str = "kit-shown.json";
}

impl ShownKit {
    /// Notes, before the page is shown, that it will be.
    pub fn note(page: &str, file: Option<PathBuf>, at: Time, paths: &Paths) -> Result<()> {
        Self { at, file, print: print(page.as_bytes()) }.store(paths)
    }

    /// Says, once, that the kit of an attempt that was interrupted opens nothing, and removes the
    /// file that it was written to, if that still holds it.
    pub fn void(paths: &Paths, term: &Term) -> Result<()> {
        let Some(shown) = Self::load(paths)? else { return Ok(()) };
        term.say(format!(
            "the recovery kit shown at {} was never confirmed: it opens nothing; destroy any page \
             written so far, a new one follows",
            shown.at
        ));
        if let Some(file) = shown.file
            && files::read_private_named(&file)?.is_some_and(|text| print(&text) == shown.print)
        {
            files::remove_trusted(&file)?;
            term.say(format!("removed: `{}`, which held it", file.display()));
        }
        Self::remove(paths)
    }
}

fn print(page: &[u8]) -> Hash {
    Hash::of(&[b"vault-kit-page\0", page])
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{self, Write, empty, sink};
    use std::rc::Rc;

    use super::*;

    fn paths(dir: &tempfile::TempDir) -> Paths {
        let paths = Paths::resolve(Some(dir.path().join("state")), None).unwrap();
        files::create_dir_private(&paths.state).unwrap();
        paths
    }

    #[test]
    fn names_of_an_earlier_attempt_hold_until_others_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let asked =
            |host: Option<&str>| Asked { host: host.map(str::to_owned), ..Asked::default() };
        let first = Names::choose(asked(Some("rtx1080")), &paths).unwrap();
        assert_eq!((first.vault.as_str(), first.admin.as_str()), ("home", "admin"));
        first.store(&paths).unwrap();
        assert_eq!(Names::choose(asked(None), &paths).unwrap(), first);
        assert_eq!(Names::choose(asked(Some("nas")), &paths).unwrap().host.as_str(), "nas");
        assert!(Names::choose(asked(Some("4770")), &paths).is_err());
        Names::remove(&paths).unwrap();
        let admin = Asked { host: Some("nas".to_owned()), ..Asked::default() };
        assert_eq!(Names::choose(admin, &paths).unwrap().host.as_str(), "nas");
    }

    #[derive(Clone, Default)]
    struct Said(Rc<RefCell<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_kit_that_nobody_confirmed_is_void_and_only_its_own_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let file = dir.path().join("kit.txt");
        let said = || {
            let said = Said::default();
            ShownKit::void(&paths, &Term::piped(empty(), sink(), said.clone())).unwrap();
            String::from_utf8(said.0.take()).unwrap()
        };
        assert_eq!(said(), "");
        files::write_private(&file, b"the page").unwrap();
        ShownKit::note("another page", Some(file.clone()), Time::from_micros(0), &paths).unwrap();
        assert!(said().contains("was never confirmed: it opens nothing"));
        assert!(file.exists(), "what it does not hold is somebody else's");
        ShownKit::note("the page", Some(file.clone()), Time::from_micros(0), &paths).unwrap();
        assert!(said().contains("removed: `"));
        assert!(!file.exists());
        assert_eq!(said(), "");
    }
}
