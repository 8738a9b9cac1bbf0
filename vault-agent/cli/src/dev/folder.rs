//! The data folder of `vault dev`: what is where, made private and kept to one run at a time.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use shared::hash::Hash;
use shared::keys::random;

use host::files;
use host::hint::hinted;
use host::shown::quoted;

/// The server's data.
pub const SERVER: &str = "server";
/// The agent's state.
pub const AGENT: &str = "agent";
/// The token of the agent's TCP listener.
pub const TOKEN: &str = "agent/token";
/// The passphrase of the admin key.
pub const PASSPHRASE: &str = "admin.passphrase";
/// What shells source.
pub const ENV: &str = "env";
/// The setup line, from the server's making until the vault's.
pub const SETUP_LINE: &str = "setup-line";

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
        let unknown = || format!("finding out where `{}` is", path.display());
        let whole = std::path::absolute(path).with_context(unknown)?;
        files::create_dir_private(&whole)?;
        let whole = whole.canonicalize().with_context(unknown)?;
        if whole.to_str().is_none() {
            return Err(hinted(
                format!("the name of `{}` is not UTF-8", whole.display()),
                "choose another `--data DIR`",
            ));
        }
        let lock = lock(&whole)?;
        let ignore = whole.join(".gitignore");
        files::replace(&ignore, b"# Made by `vault dev`.\n*\n", files::Access::PRIVATE)?;
        Ok(Self { path: whole, _lock: lock })
    }

    /// Returns where something in it is.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a passphrase that nobody can guess, unless there is one.
    pub fn make_passphrase(&self) -> Result<()> {
        let passphrase = format!("{}\n", Hash::from_bytes(*random()));
        match files::write_private(&self.at(PASSPHRASE), passphrase.as_bytes()) {
            Ok(()) | Err(files::FileError::Exists(_)) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Writes the file `env`, for any POSIX shell: how to reach the agent at `listen`.
    pub fn write_env(&self, listen: &str, token: &str) -> Result<()> {
        let env = self.at(ENV);
        let shown = |name| quoted(&self.at(name).display().to_string());
        let text = format!(
            "# Made by `vault dev`; use it with `. {}`.\n\
             export VAULT_ADDR={}\n\
             export VAULT_TOKEN={}\n\
             export VAULT_STATE_DIR={}\n\
             export VAULT_PASSPHRASE_FILE={}\n",
            env.display(),
            quoted(&format!("http://{listen}")),
            quoted(token),
            shown(AGENT),
            shown(PASSPHRASE),
        );
        files::replace(&env, text.as_bytes(), files::Access::PRIVATE)?;
        Ok(())
    }
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("opening `{}`", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(hinted(
            format!("another `vault dev` is using `{}`", folder.display()),
            "stop it, or choose another `--data DIR` and `--listen`",
        )),
        Err(errno) => Err(errno).context(format!("locking `{}`", path.display())),
    }
}

/// Reads a text file, if it is there.
pub fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault).context(format!("reading `{}`", path.display())),
    }
}

/// As [`read`], without the line end.
pub fn read_line(path: &Path) -> Result<Option<String>> {
    Ok(read(path)?.map(|text| text.trim_end().to_owned()))
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
        let read = || std::fs::read_to_string(folder.at(PASSPHRASE)).unwrap();
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
        folder.write_env("127.0.0.1:8200", "t'o$k").unwrap();
        let script = format!(
            ". {}; printf '%s\\n' \"$VAULT_ADDR\" \"$VAULT_TOKEN\" \"$VAULT_STATE_DIR\" \"$VAULT_PASSPHRASE_FILE\"",
            quoted(&folder.at(ENV).display().to_string())
        );
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let expected = format!(
            "http://127.0.0.1:8200\nt'o$k\n{}\n{}\n",
            folder.at(AGENT).display(),
            folder.at(PASSPHRASE).display()
        );
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
