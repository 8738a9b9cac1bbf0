//! The data folder of `vault dev`: what is where, made private and kept to one run at a time.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use shared::hash::Hash;
use shared::keys::random;

use host::files;
use host::hint::Failure;

/// The folder; absolute, without links.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Holds other runs off until dropped; the system drops it with this process.
    _lock: File,
}

impl Folder {
    /// Makes the folder, or opens the one of an earlier run.
    ///
    /// # Errors
    /// If it cannot be made, others may read it, or another run is using it.
    pub fn open(path: &Path) -> Result<Self> {
        let whole = std::path::absolute(path)
            .with_context(|| format!("finding out where `{}` is", path.display()))?;
        if let Err(fault) = files::create_dir_private(&whole) {
            bail!(Failure::local(fault.to_string()).hint(fault.hint()));
        }
        let whole = whole
            .canonicalize()
            .with_context(|| format!("finding out where `{}` is", path.display()))?;
        if whole.to_str().is_none() {
            bail!(
                Failure::local(format!("the name of `{}` is not UTF-8", whole.display()))
                    .hint("choose another `--data DIR`")
            );
        }
        let lock = lock(&whole)?;
        let ignore = whole.join(".gitignore");
        files::replace(&ignore, b"# Made by `vault dev`.\n*\n", files::Access::PRIVATE)?;
        Ok(Self { path: whole, _lock: lock })
    }

    /// Returns where something in it is.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The server's data.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.at("server")
    }

    /// The agent's state.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.at("agent")
    }

    /// The token of the agent's TCP listener.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.at("agent/token")
    }

    /// The passphrase of the admin key.
    #[must_use]
    pub fn passphrase(&self) -> PathBuf {
        self.at("admin.passphrase")
    }

    /// What shells source.
    #[must_use]
    pub fn env(&self) -> PathBuf {
        self.at("env")
    }

    /// The setup line, from the server's making until the vault's.
    #[must_use]
    pub fn setup_line(&self) -> PathBuf {
        self.at("setup-line")
    }

    /// Makes a passphrase that nobody can guess, unless there is one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn make_passphrase(&self) -> Result<()> {
        let passphrase = format!("{}\n", Hash::from_bytes(*random()));
        match files::write_private(&self.passphrase(), passphrase.as_bytes()) {
            Ok(()) | Err(files::FileError::Exists(_)) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("opening `{}`", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => bail!(
            Failure::local(format!("another `vault dev` is using `{}`", folder.display()))
                .hint("stop it, or choose another `--data DIR` and `--listen`")
        ),
        Err(errno) => Err(errno).context(format!("locking `{}`", path.display())),
    }
}

/// The environment of the shells that try things out.
#[derive(Debug)]
pub struct Environment<'a> {
    /// The agent's TCP address.
    pub listen: &'a str,
    /// Its token.
    pub token: &'a str,
    /// The folder.
    pub folder: &'a Folder,
}

impl Environment<'_> {
    /// Returns the text of the file `env`, for any POSIX shell.
    #[must_use]
    pub fn text(&self) -> String {
        let shown = |path: PathBuf| quoted(&path.display().to_string());
        format!(
            "# Made by `vault dev`; use it with `. {}`.\n\
             export VAULT_ADDR={}\n\
             export VAULT_TOKEN={}\n\
             export VAULT_STATE_DIR={}\n\
             export VAULT_PASSPHRASE_FILE={}\n",
            self.folder.env().display(),
            quoted(&format!("http://{}", self.listen)),
            quoted(self.token),
            shown(self.folder.agent()),
            shown(self.folder.passphrase()),
        )
    }

    /// Writes it, readable by its owner only.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self) -> Result<()> {
        files::replace(&self.folder.env(), self.text().as_bytes(), files::Access::PRIVATE)?;
        Ok(())
    }
}

/// Quotes for a POSIX shell; plain words stay as they are.
#[must_use]
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Reads a small text file and takes the line end off; `None` if there is none.
///
/// # Errors
/// If it is there but cannot be read.
pub fn read_line(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault).context(format!("reading `{}`", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn the_folder_is_private_ignored_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/.vault-dev");
        let folder = Folder::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        folder.make_passphrase().unwrap();
        let read = || std::fs::read_to_string(folder.passphrase()).unwrap();
        let first = read();
        folder.make_passphrase().unwrap();
        assert_eq!((first.len(), read()), (65, first));
        assert!(std::fs::read_to_string(folder.at(".gitignore")).unwrap().contains("\n*\n"));
    }

    #[test]
    fn a_second_run_and_an_open_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev");
        let first = Folder::open(&path).unwrap();
        let fault = Folder::open(&path).unwrap_err().to_string();
        assert!(fault.starts_with("another `vault dev` is using"), "{fault}");
        drop(first);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Folder::open(&path).unwrap_err().to_string().contains("is open to others"));
    }

    #[test]
    fn the_environment_is_read_back_by_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("it's here")).unwrap();
        let env = Environment { listen: "127.0.0.1:8200", token: "t'o$k", folder: &folder };
        env.write().unwrap();
        let script = format!(
            ". {}; printf '%s\\n' \"$VAULT_ADDR\" \"$VAULT_TOKEN\" \"$VAULT_STATE_DIR\" \"$VAULT_PASSPHRASE_FILE\"",
            quoted(&folder.env().display().to_string())
        );
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let expected = format!(
            "http://127.0.0.1:8200\nt'o$k\n{}\n{}\n",
            folder.agent().display(),
            folder.passphrase().display()
        );
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
