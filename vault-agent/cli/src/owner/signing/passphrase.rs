//! Where the passphrase of an admin key comes from: a private file, or a terminal without echo.

use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret as _, SecretString};
use anyhow::{Context as _, Result, bail};
use host::files;
use host::hint::{hint, hinted, shown, with_hint};
use host::shown::Shown;
use shared::name::Name;

/// Fewest characters of a new passphrase: the admin file may be stolen and guessed at.
const LEAST: usize = 10;
/// Most bytes of a passphrase file.
const MOST: usize = 4096;

/// Where the passphrase comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The first line of a file that only its owner may read.
    File(PathBuf),
    /// The terminal, whatever stdin is.
    Terminal,
}

impl Source {
    /// Returns how often a passphrase may be asked for: what a file holds does not get better.
    pub const fn tries(&self) -> u32 {
        match self {
            Self::File(_) => 1,
            Self::Terminal => 3,
        }
    }

    /// Returns the passphrase of a key that exists; `missed` says that the last one was wrong.
    pub fn existing(&self, admin: &Name, missed: bool) -> Result<SecretString> {
        let not_it = if missed { "That is not it. " } else { "" };
        match self {
            Self::File(path) => read(path),
            Self::Terminal => ask(format!("{not_it}Passphrase of admin `{admin}`: ")),
        }
    }

    /// Returns the passphrase for a new key; a terminal is asked twice, and again after a slip.
    pub fn fresh(&self, admin: &Name) -> Result<SecretString> {
        let (mut left, mut slip) = (self.tries(), Shown::default());
        loop {
            let passphrase = match self {
                Self::File(path) => read(path)?,
                Self::Terminal => {
                    ask(slip + format!("New passphrase for admin `{admin}`: ").into())?
                }
            };
            let fault = match self.check(&passphrase) {
                Ok(()) => return Ok(passphrase),
                Err(fault) if left == 1 => return Err(fault),
                Err(fault) => fault,
            };
            slip = with_hint(shown(&fault), hint(&fault).unwrap_or_default()).ended();
            left -= 1;
        }
    }

    /// Refuses a short passphrase, and has a terminal's typed once more.
    fn check(&self, passphrase: &SecretString) -> Result<()> {
        let length = passphrase.expose_secret().chars().count();
        if length < LEAST {
            bail!(hinted(
                format!("the passphrase has {length} characters, {LEAST} are needed"),
                "take four or more random words; it protects a file that grants access to \
                 everything"
            ));
        }
        if *self == Self::Terminal
            && ask("The same once more: ")?.expose_secret() != passphrase.expose_secret()
        {
            bail!(hinted(
                "the two passphrases differ",
                "nothing was made; type the same one twice"
            ));
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<SecretString> {
    let shown = path.display();
    let Some(bytes) = files::read_private_named(path)? else {
        let text = format!("passphrase file `{shown}` does not exist");
        bail!(hinted(text, "its first line is the passphrase"));
    };
    if bytes.len() > MOST {
        let text = format!("passphrase file `{shown}` has {} bytes", bytes.len());
        bail!(hinted(text, "one line is read, name its file"));
    }
    let text = std::str::from_utf8(&bytes);
    let text = text.with_context(|| format!("passphrase file `{shown}` is not UTF-8"))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        let text = format!("passphrase file `{shown}` is empty");
        bail!(hinted(text, "its first line is the passphrase"));
    }
    Ok(SecretString::from(line.to_owned()))
}

fn ask(prompt: impl Into<Shown>) -> Result<SecretString> {
    rpassword::prompt_password(&*prompt.into()).map(SecretString::from).map_err(|fault| {
        hinted(
            format!("cannot ask for the passphrase: {fault}"),
            "without a terminal pass `--passphrase-file FILE` or set VAULT_PASSPHRASE_FILE",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(dir: &tempfile::TempDir, text: &str, mode: u32) -> Source {
        let path = dir.path().join("pass");
        let _ = std::fs::remove_file(&path);
        files::write_private(&path, text.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Source::File(path)
    }

    #[test]
    fn the_first_line_of_a_private_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let admin: Name = "jonas".parse().unwrap();
        let source = file(&dir, "correct horse battery\nsecond line\n", 0o600);
        for found in [source.existing(&admin, false), source.fresh(&admin)] {
            assert_eq!(found.unwrap().expose_secret(), "correct horse battery");
        }
    }

    #[test]
    fn open_empty_short_and_absent_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let admin: Name = "jonas".parse().unwrap();
        let fault = |source: &Source| source.fresh(&admin).unwrap_err().to_string();
        assert!(fault(&file(&dir, "correct horse battery\n", 0o640)).contains("is open to others"));
        assert!(fault(&file(&dir, "\n", 0o600)).contains("is empty"));
        assert!(fault(&file(&dir, "tiny\n", 0o600)).contains("has 4 characters, 10 are needed"));
        let none = Source::File(dir.path().join("none"));
        assert!(fault(&none).contains("does not exist"));
    }
}
