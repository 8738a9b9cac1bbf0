//! The machine's keys and pins on disk: `identity/{age.key,sign.key}` (0600 in 0700), or sealed
//! beside that and handed over by systemd; and `pins.json`. What they are used for lives elsewhere.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use host::files::{self, Access};
use host::hint::hinted;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::keys::{Identity, SignKey, VerifyKey};
use shared::log::Checkpoint;
use shared::name::Name;
use shared::signed::VaultId;
use shared::token::{MachineLine, PinLine};
use zeroize::Zeroizing;

use crate::paths::Paths;

const AGE: Key = Key("age.key");
const SIGN: Key = Key("sign.key");

/// One of the two keys, wherever it is.
#[derive(Clone, Copy, Debug)]
pub struct Key(&'static str);

impl Key {
    /// Both.
    pub const ALL: [Self; 2] = [AGE, SIGN];

    /// Returns the file that holds it.
    pub fn file(self, paths: &Paths) -> PathBuf {
        paths.identity().join(self.0)
    }

    /// Returns the file that holds it sealed, for systemd to open.
    pub fn sealed(self, paths: &Paths) -> PathBuf {
        paths.identity().join(format!("{}.sealed", self.0))
    }

    /// Returns its name as a credential of systemd.
    pub fn credential(self) -> String {
        format!("vault-agent.{}", self.0)
    }

    /// Returns the file in which systemd hands it over, where systemd does.
    fn given(self, paths: &Paths) -> Option<PathBuf> {
        Some(paths.given.as_ref()?.join(self.credential()))
    }

    fn is_there(self, paths: &Paths) -> bool {
        self.given(paths).is_some_and(|given| given.exists())
            || self.file(paths).exists()
            || self.sealed(paths).exists()
    }

    /// Reads it from systemd, or else from its file.
    fn read(self, paths: &Paths) -> Result<(PathBuf, Zeroizing<String>)> {
        if let Some(given) = self.given(paths)
            && let Some(text) = read_given(&given)?
        {
            return Ok((given, text));
        }
        let file = self.file(paths);
        if let Some(text) = read(&file)? {
            return Ok((file, text));
        }
        if self.sealed(paths).exists() {
            let place = paths.identity();
            let shown = place.display();
            return Err(hinted(
                format!(
                    "the keys in `{shown}` are sealed: only the agent that systemd starts gets them"
                ),
                "`systemctl start vault-agent`",
            ));
        }
        Err(hinted(
            format!("no key at `{}`", file.display()),
            "`vault setup` makes a vault here; `vault machine add` on its host adds this one to another",
        ))
    }
}

/// The machine's own keys.
#[derive(Debug)]
pub struct MachineKeys {
    /// Decrypts.
    pub age: Identity,
    /// Signs, and is the TLS key.
    pub sign: SignKey,
}

impl MachineKeys {
    /// Makes keys and writes them to disk; keys that are there already are never overwritten.
    pub fn create(paths: &Paths) -> Result<Self> {
        files::create_dir_private(&paths.state)?;
        files::create_dir_private(&paths.identity())?;
        let keys = Self { age: Identity::generate(), sign: SignKey::generate() };
        write_new(&AGE.file(paths), &keys.age.to_text())?;
        write_new(&SIGN.file(paths), &keys.sign.to_text())?;
        Ok(keys)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// If there are none, they are malformed, or others can read them.
    pub fn load(paths: &Paths) -> Result<Self> {
        files::check_private(&paths.state)?;
        files::check_private(&paths.identity())?;
        let damaged = |file: &Path| format!("`{}` is damaged", file.display());
        let (file, text) = AGE.read(paths)?;
        let age = Identity::from_text(&text).with_context(|| damaged(&file))?;
        let (file, text) = SIGN.read(paths)?;
        let sign = SignKey::from_text(&text).with_context(|| damaged(&file))?;
        Ok(Self { age, sign })
    }

    /// Reads the keys, or makes them if there are none.
    pub fn load_or_create(paths: &Paths) -> Result<Self> {
        if Self::exist(paths) {
            return Self::load(paths);
        }
        // Killed between the two: nobody has seen the line of these keys yet.
        if AGE.file(paths).exists() && !paths.pins().exists() {
            files::remove_trusted(&AGE.file(paths))?;
        }
        Self::create(paths)
    }

    /// Tells whether there are keys.
    pub fn exist(paths: &Paths) -> bool {
        SIGN.is_there(paths)
    }

    /// Returns the line that tells an admin this machine's public keys, and proves that they are
    /// one machine's.
    ///
    /// # Errors
    /// `E_PARSE` if the claim cannot be written as JSON.
    pub fn line(&self, name: Name) -> shared::error::Result<MachineLine> {
        MachineLine::new(name, self.age.recipient(), &self.sign)
    }
}

/// What this machine trusts from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// The vault.
    pub vault: VaultId,
    /// The server's TLS keys when the machine joined; the log may have replaced them since.
    pub server: Vec<VerifyKey>,
    /// This machine's name.
    pub name: Name,
    /// Where the server listened then; the configuration goes first.
    pub addresses: Vec<String>,
    /// What this machine may start from instead of the log's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
}

impl Pins {
    /// Reads `pins.json`; `None` before the machine has joined a vault.
    ///
    /// # Errors
    /// If it is malformed, or it or its folder is another user's or open to others: it decides whom
    /// this machine believes.
    pub fn load(paths: &Paths) -> Result<Option<Self>> {
        let pins = load_json(&paths.pins())?;
        if pins.is_some() {
            files::check_private(&paths.state)?;
        }
        Ok(pins)
    }

    /// Writes `pins.json` with the name that the vault calls this machine by now.
    pub fn rename(self, name: Name, paths: &Paths) -> Result<()> {
        Self { name, ..self }.write(paths)
    }

    /// Removes `pins.json`: the machine belongs to no vault after all.
    pub fn remove(paths: &Paths) -> Result<()> {
        files::remove_trusted(&paths.pins())?;
        Ok(())
    }

    /// Refuses to go on where this machine belongs to a vault, with the way out.
    ///
    /// # Errors
    /// If it does, or the pins cannot be read.
    pub fn refuse_any(paths: &Paths, hint: impl Into<String>) -> Result<()> {
        let Some(Self { name, vault, .. }) = Self::load(paths)? else { return Ok(()) };
        let vault = vault.short();
        Err(hinted(format!("this host is `{name}` of vault {vault} already"), hint))
    }

    /// Writes `pins.json`; pins of another vault are never overwritten.
    ///
    /// # Errors
    /// If this machine belongs to another vault, or the file cannot be written.
    pub fn store(&self, paths: &Paths) -> Result<()> {
        if let Some(old) = Self::load(paths)?
            && (old.vault != self.vault || old.name != self.name)
        {
            let text =
                format!("this machine is `{}` of vault {} already", old.name, old.vault.short());
            let state = paths.state.display();
            return Err(hinted(text, format!("use another `--state DIR`, or move `{state}` away")));
        }
        self.write(paths)
    }

    fn write(&self, paths: &Paths) -> Result<()> {
        files::create_dir_private(&paths.state)?;
        let text = serde_json::to_string_pretty(self).context("writing the pins as JSON")? + "\n";
        Ok(files::replace_trusted(&paths.pins(), text.as_bytes(), Access::PRIVATE)?)
    }
}

impl From<PinLine> for Pins {
    fn from(line: PinLine) -> Self {
        let PinLine { addresses, server, vault, name, checkpoint, at: _ } = line;
        Self { vault, server, name, addresses, checkpoint }
    }
}

/// Reads a private text file that need not be there.
fn read(file: &Path) -> Result<Option<Zeroizing<String>>> {
    let Some(bytes) = files::read_private(file)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes);
    let text = text.with_context(|| format!("`{}` is damaged: no text", file.display()))?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

/// Reads a key that systemd may have handed over: who may read that is systemd's to decide.
fn read_given(file: &Path) -> Result<Option<Zeroizing<String>>> {
    match files::settings(file) {
        Ok((_, text)) => Ok(Some(text)),
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault).with_context(|| format!("reading `{}`", file.display())),
    }
}

/// Reads a JSON file of this program; `None` if there is none.
///
/// # Errors
/// If it is malformed, another user's, open to others, or cannot be read.
pub fn load_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = read(path)? else { return Ok(None) };
    let value = serde_json::from_str(&text);
    Ok(Some(value.with_context(|| format!("`{}` is damaged", path.display()))?))
}

/// Writes a new text file that only this user can read.
fn write_new(file: &Path, text: &str) -> Result<()> {
    let line = Zeroizing::new([text, "\n"].concat());
    Ok(files::write_private(file, line.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use shared::hash::Hash;

    use std::fs;

    use super::*;

    fn paths(dir: &tempfile::TempDir) -> Paths {
        Paths::resolve(Some(dir.path().join("state")), None).unwrap()
    }

    fn pins(vault: Hash) -> Pins {
        let server = vec![SignKey::generate().verify_key()];
        let (name, addresses) = ("vps".parse().unwrap(), vec!["a:1".into()]);
        Pins { vault, server, name, addresses, checkpoint: None }
    }

    #[test]
    fn keys_read_back_and_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let made = MachineKeys::create(&paths).unwrap();
        let read = MachineKeys::load(&paths).unwrap();
        let name: Name = "vps".parse().unwrap();
        assert_eq!(made.line(name.clone()).unwrap(), read.line(name).unwrap());
        assert!(MachineKeys::create(&paths).is_err());
        let mode = fs::metadata(SIGN.file(&paths)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn half_made_keys_are_made_anew_unless_the_machine_has_joined() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        MachineKeys::create(&paths).unwrap();
        let old = fs::read(AGE.file(&paths)).unwrap();
        fs::remove_file(SIGN.file(&paths)).unwrap();
        MachineKeys::load_or_create(&paths).unwrap();
        assert_ne!(fs::read(AGE.file(&paths)).unwrap(), old);
        pins(Hash::of(&[b"vault"])).store(&paths).unwrap();
        fs::remove_file(SIGN.file(&paths)).unwrap();
        assert!(MachineKeys::load_or_create(&paths).is_err());
    }

    #[test]
    fn keys_that_systemd_gives_go_before_those_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = paths(&dir);
        let name = || "vps".parse::<Name>().unwrap();
        let line = MachineKeys::create(&paths).unwrap().line(name()).unwrap();
        let given = dir.path().join("given");
        fs::create_dir(&given).unwrap();
        paths.given = Some(given.clone());
        // Another unit's credentials are no reason to look away from the disk.
        assert_eq!(MachineKeys::load(&paths).unwrap().line(name()).unwrap(), line);
        for key in Key::ALL {
            fs::rename(key.file(&paths), given.join(key.credential())).unwrap();
            write_new(&key.sealed(&paths), "sealed").unwrap();
        }
        assert_eq!(MachineKeys::load(&paths).unwrap().line(name()).unwrap(), line);
        write_new(&SIGN.file(&paths), "another").unwrap();
        assert_eq!(MachineKeys::load(&paths).unwrap().line(name()).unwrap(), line);
        fs::remove_file(SIGN.file(&paths)).unwrap();
        paths.given = None;
        assert!(MachineKeys::exist(&paths));
        let fault = MachineKeys::load_or_create(&paths).unwrap_err().to_string();
        assert!(fault.contains("are sealed: only the agent that systemd starts"), "{fault}");
    }

    #[test]
    fn a_directory_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        MachineKeys::create(&paths).unwrap();
        fs::set_permissions(&paths.state, fs::Permissions::from_mode(0o755)).unwrap();
        let fault = MachineKeys::load(&paths).unwrap_err().to_string();
        assert!(fault.contains("is open to others (mode 755)"), "{fault}");
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            // Only root can give files away; `host::files` shows the rule to everybody.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        MachineKeys::create(&paths).unwrap();
        pins(Hash::of(&[b"a"])).store(&paths).unwrap();
        let give = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
        for place in [paths.state.clone(), paths.identity(), AGE.file(&paths), SIGN.file(&paths)] {
            give(&place, 54_321);
            let fault = MachineKeys::load(&paths).unwrap_err().to_string();
            let expected = format!("`{}` belongs to user 54321, not to user 0", place.display());
            assert_eq!(fault, expected);
            give(&place, 0);
        }
        MachineKeys::load(&paths).unwrap();
        for place in [paths.state.clone(), paths.pins()] {
            give(&place, 54_321);
            let fault = Pins::load(&paths).unwrap_err().to_string();
            assert!(fault.contains("belongs to user 54321"), "{fault}");
            give(&place, 0);
        }
        assert!(Pins::load(&paths).unwrap().is_some());
    }

    #[test]
    fn a_key_behind_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        MachineKeys::create(&paths).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(SIGN.file(&paths), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, SIGN.file(&paths)).unwrap();
        let fault = MachineKeys::load(&paths).unwrap_err().to_string();
        assert!(fault.ends_with("is a symbolic link"), "{fault}");
    }

    #[test]
    fn pins_of_another_vault_stay() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        assert_eq!(Pins::load(&paths).unwrap(), None);
        let ours = pins(Hash::of(&[b"a"]));
        ours.store(&paths).unwrap();
        ours.store(&paths).unwrap();
        assert!(pins(Hash::of(&[b"b"])).store(&paths).is_err());
        assert_eq!(Pins::load(&paths).unwrap(), Some(ours));
    }
}
