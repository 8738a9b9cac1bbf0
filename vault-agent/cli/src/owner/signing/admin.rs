//! The admin key: an Ed25519 seed in an age passphrase file, `admin/NAME.age`. It is opened in the
//! process of the command line only, and signs for the one vault it was made for.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use anyhow::{Context as _, Result, bail};
use shared::keys::SignKey;
use shared::name::Name;
use shared::signed::VaultId;
use zeroize::Zeroizing;

use super::passphrase::Source;
use host::files;
use host::hint::hinted;
use machine::paths::Paths;

/// First line of the plaintext.
const FORMAT: &str = "vault-admin/v1";
/// Largest admin file in bytes.
const MOST: usize = 16 << 10;
/// Largest scrypt work factor that is opened: 2^22 takes 4 GiB of memory.
const MOST_WORK: u8 = 22;

/// How hard each guess at the passphrase is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// About a second on this machine: for passphrases that people think of.
    Second,
    /// As good as none: for passphrases with 128 random bits.
    Little,
}

/// An admin's key, for one vault.
#[derive(Debug)]
pub struct AdminKey {
    pub name: Name,
    /// The vault that the key belongs to; part of everything it signs.
    pub vault: VaultId,
    pub key: SignKey,
}

impl AdminKey {
    /// Encrypts the key with a passphrase: the content of an admin file.
    pub fn seal(&self, passphrase: &SecretString, work: Work) -> Result<Vec<u8>> {
        let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
        if work == Work::Little {
            recipient.set_work_factor(10);
        }
        let seed = self.key.to_text();
        let mut text = Zeroizing::new(String::with_capacity(256));
        for part in [
            FORMAT,
            "\nvault ",
            &self.vault.to_string(),
            "\nname ",
            self.name.as_str(),
            "\nseed ",
            &seed,
            "\n",
        ] {
            text.push_str(part);
        }
        age::encrypt(&recipient, text.as_bytes()).context("encrypting the admin key")
    }

    /// Opens the content of an admin file.
    pub fn open(sealed: &[u8], passphrase: &SecretString) -> Result<Self, OpenError> {
        let decryptor = age::Decryptor::new_buffered(sealed).map_err(|_| OpenError::NotAge)?;
        if !decryptor.is_scrypt() {
            return Err(OpenError::NotAge);
        }
        let mut identity = age::scrypt::Identity::new(passphrase.clone());
        identity.set_max_work_factor(MOST_WORK);
        let mut plain = match decryptor.decrypt(std::iter::once(&identity as _)) {
            Ok(plain) => plain,
            Err(age::DecryptError::ExcessiveWork { required, .. }) => {
                return Err(OpenError::Work(required));
            }
            Err(_) => return Err(OpenError::Passphrase),
        };
        // Room for all of it: growing would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        plain.by_ref().take(1024).read_to_string(&mut text).map_err(|_| OpenError::Content)?;
        parse(&text).ok_or(OpenError::Content)
    }
}

/// Why an admin file does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another kind of file, or a damaged one.
    #[error("is not an age file with a passphrase")]
    NotAge,
    /// The passphrase is wrong.
    #[error("does not open with this passphrase")]
    Passphrase,
    /// Opening would take more memory than any such file should ask for.
    #[error("asks for scrypt work 2^{0}, which is too much")]
    Work(u8),
    /// Age opened it, but it holds something else.
    #[error("does not hold an admin key")]
    Content,
}

impl OpenError {
    /// Returns the way out, as one sentence without a full stop.
    fn hint(self, name: &Name) -> String {
        let anew = format!("`vault recovery admin {name} --instead-of {name} --kit -` makes");
        match self {
            Self::Passphrase => {
                format!("if it is forgotten: {anew} a new key, by the recovery kit")
            }
            Self::NotAge | Self::Work(_) | Self::Content => {
                format!("restore the file from a copy; if there is none, {anew} a new one")
            }
        }
    }
}

fn parse(text: &str) -> Option<AdminKey> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (format, vault, name, seed) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    if format != FORMAT || lines.next().is_some() {
        return None;
    }
    Some(AdminKey {
        vault: vault.strip_prefix("vault ")?.parse().ok()?,
        name: name.strip_prefix("name ")?.parse().ok()?,
        key: SignKey::from_text(seed.strip_prefix("seed ")?).ok()?,
    })
}

/// An admin file that has been chosen but not opened.
#[derive(Debug)]
pub struct AdminFile {
    /// Who, by the file's name.
    pub name: Name,
    path: PathBuf,
}

/// Tells whether a passphrase that is given in a file opens the content of an admin file; nobody is
/// asked for one, and then it is not known to be wrong.
///
/// # Errors
/// If there is no passphrase in that file, or something else is wrong with the admin file.
pub fn opens(sealed: &[u8], source: &Source, name: &Name) -> Result<bool> {
    if *source == Source::Terminal {
        return Ok(true);
    }
    match AdminKey::open(sealed, &source.existing(name, false)?) {
        Ok(_) => Ok(true),
        Err(OpenError::Passphrase) => Ok(false),
        Err(fault) => {
            bail!(hinted(format!("the admin file of `{name}` {fault}"), fault.hint(name)))
        }
    }
}

/// Returns where the admin file of `name` is.
pub fn place(paths: &Paths, name: &Name) -> PathBuf {
    paths.admin().join(format!("{name}.age"))
}

impl AdminFile {
    /// Tells whether this host holds an admin key.
    pub fn any(paths: &Paths) -> Result<bool> {
        Ok(!list(&paths.admin())?.is_empty())
    }

    /// Chooses the file of `wanted`, or the only one there is.
    ///
    /// # Errors
    /// If there is none, or nobody said which of several.
    pub fn find(paths: &Paths, wanted: Option<&Name>) -> Result<Self> {
        let folder = paths.admin();
        let mut all = list(&folder)?;
        let shown = folder.display();
        if let Some(name) = wanted {
            return all.into_iter().find(|file| file.name == *name).ok_or_else(|| {
                hinted(
                    format!("no admin key `{name}` in `{shown}`"),
                    "owner acts are for the machine that holds the admin key",
                )
            });
        }
        if all.len() > 1 {
            let names = all.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
            bail!(hinted(format!("several admin keys: {names}"), "say which with `--admin NAME`"));
        }
        all.pop().ok_or_else(|| {
            hinted(
                format!("no admin key in `{shown}`"),
                "run this on the machine where the vault was made, or name its state with \
                 `--state DIR`",
            )
        })
    }

    /// Asks for the passphrase and opens the file; a slip on the terminal may be made good.
    ///
    /// # Errors
    /// If it cannot be read or opened, is another user's or open to others, or holds the key of
    /// another admin or vault.
    pub fn unlock(&self, source: &Source, vault: VaultId) -> Result<AdminKey> {
        let shown = self.path.display();
        if let Some(folder) = self.path.parent() {
            files::check_private(folder)?;
        }
        let sealed = files::read_private(&self.path)?;
        let sealed = sealed.with_context(|| format!("`{shown}` is gone"))?;
        if sealed.len() > MOST {
            let text = format!("`{shown}` has {} bytes", sealed.len());
            bail!(hinted(text, OpenError::NotAge.hint(&self.name)));
        }
        let mut missed = 0;
        let key = loop {
            let passphrase = source.existing(&self.name, missed > 0)?;
            missed += 1;
            match AdminKey::open(&sealed, &passphrase) {
                Ok(key) => break key,
                Err(OpenError::Passphrase) if missed < source.tries() => {}
                Err(fault) => bail!(hinted(format!("`{shown}` {fault}"), fault.hint(&self.name))),
            }
        };
        if key.name != self.name {
            let text = format!("`{shown}` holds the key of `{}`", key.name);
            bail!(hinted(text, "files bear their admin's name"));
        }
        if key.vault != vault {
            let (of, here) = (key.vault.short(), vault.short());
            bail!(hinted(
                format!("`{shown}` is for vault {of}, this machine belongs to {here}"),
                "use the admin key that was made with this vault"
            ));
        }
        Ok(key)
    }
}

/// Lists the admin files of a folder by name.
fn list(folder: &Path) -> Result<Vec<AdminFile>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(fault) => return Err(fault).context(format!("reading `{}`", folder.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("reading `{}`", folder.display()))?.path();
        let stem = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".age"));
        if let Some(name) = stem.and_then(|stem| stem.parse().ok()) {
            found.push(AdminFile { name, path });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;

    use super::*;
    use host::hint::with_hint;

    fn pass(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    fn key(name: &str) -> AdminKey {
        let (name, vault) = (name.parse().unwrap(), Hash::of(&[b"vault"]));
        AdminKey { name, vault, key: SignKey::generate() }
    }

    fn paths(dir: &tempfile::TempDir) -> Paths {
        Paths::resolve(Some(dir.path().join("state")), None).unwrap()
    }

    fn store(paths: &Paths, key: &AdminKey, as_name: &str) {
        files::create_dir_private(&paths.admin()).unwrap();
        let sealed = key.seal(&pass("open sesame"), Work::Little).unwrap();
        files::write_private(&place(paths, &as_name.parse().unwrap()), &sealed).unwrap();
    }

    fn source(dir: &tempfile::TempDir) -> Source {
        let path = dir.path().join("pass");
        files::write_private(&path, b"open sesame\n").unwrap();
        Source::File(path)
    }

    #[test]
    fn a_key_opens_with_its_passphrase_only() {
        let made = key("jonas");
        let sealed = made.seal(&pass("open sesame"), Work::Little).unwrap();
        let opened = AdminKey::open(&sealed, &pass("open sesame")).unwrap();
        assert_eq!((&opened.name, opened.vault), (&made.name, made.vault));
        assert_eq!(opened.key.verify_key(), made.key.verify_key());
        let wrong = AdminKey::open(&sealed, &pass("open sesame!")).unwrap_err();
        assert_eq!(wrong, OpenError::Passphrase);
        assert!(!format!("{made:?}").contains(&*made.key.to_text()));
    }

    #[test]
    fn damaged_and_foreign_files_are_told_apart() {
        let passphrase = pass("open sesame");
        assert_eq!(AdminKey::open(b"hello", &passphrase).unwrap_err(), OpenError::NotAge);
        let to_key = age::x25519::Identity::generate().to_public();
        let to_key = age::encrypt(&to_key, b"x").unwrap();
        assert_eq!(AdminKey::open(&to_key, &passphrase).unwrap_err(), OpenError::NotAge);
        let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
        recipient.set_work_factor(10);
        let other = age::encrypt(&recipient, b"vault-admin/v1\nname x\n").unwrap();
        assert_eq!(AdminKey::open(&other, &passphrase).unwrap_err(), OpenError::Content);
    }

    #[test]
    fn the_only_file_is_found_and_several_must_be_named() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let fault = |wanted: Option<&Name>| {
            let fault = AdminFile::find(&paths, wanted).unwrap_err();
            let fault = with_hint(host::hint::shown(&fault), host::hint::hint(&fault).unwrap());
            fault.replace(&dir.path().display().to_string(), "DIR")
        };
        insta::assert_snapshot!(fault(None), @r"
        no admin key in `DIR/state/admin`
        hint: run this on the machine where the vault was made, or name its state with `--state DIR`
        ");
        store(&paths, &key("jonas"), "jonas");
        assert_eq!(AdminFile::find(&paths, None).unwrap().name.as_str(), "jonas");
        store(&paths, &key("anna"), "anna");
        insta::assert_snapshot!(fault(None), @r"
        several admin keys: anna, jonas
        hint: say which with `--admin NAME`
        ");
        let anna: Name = "anna".parse().unwrap();
        assert_eq!(AdminFile::find(&paths, Some(&anna)).unwrap().name, anna);
    }

    #[test]
    fn a_file_unlocks_for_its_own_vault_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, source) = (paths(&dir), source(&dir));
        let made = key("jonas");
        store(&paths, &made, "jonas");
        let file = AdminFile::find(&paths, None).unwrap();
        let opened = file.unlock(&source, made.vault).unwrap();
        assert_eq!(opened.key.verify_key(), made.key.verify_key());
        let slip = dir.path().join("slip");
        files::write_private(&slip, b"open sesame!\n").unwrap();
        let fault = file.unlock(&Source::File(slip), made.vault).unwrap_err();
        let hint = host::hint::hint(&fault).unwrap();
        assert!(hint.contains("`vault recovery admin jonas --instead-of jonas --kit -`"), "{hint}");
        let fault = file.unlock(&source, Hash::of(&[b"other"])).unwrap_err();
        assert!(fault.to_string().contains("this machine belongs to"), "{fault}");
        store(&paths, &made, "renamed");
        let renamed: Name = "renamed".parse().unwrap();
        let fault = AdminFile::find(&paths, Some(&renamed)).unwrap();
        let fault = fault.unlock(&source, made.vault).unwrap_err();
        assert!(fault.to_string().contains("holds the key of `jonas`"), "{fault}");
    }
}
