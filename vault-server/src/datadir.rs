//! The data directory: making it, refusing one that others can read, the server key, the lock
//! that keeps a second server out.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use host::files::{self, Access};
use host::hint::hinted;
use host::systemd::Credential;
use shared::keys::{SignKey, VerifyKey};
use zeroize::Zeroizing;

use crate::store::headfile::{self, HeadFile};
use crate::store::{schema, segment};

const KEY: &str = "server.key";
/// The key that takes the other's place once the vault lists it.
const NEXT: &str = "server.key.next";
const LOCK: &str = "server.lock";

/// The one-time code to resume a vault whose database was set back.
const RESUME_CODE: &str = "resume-code";

/// The server key, sealed, for systemd to open.
const SEALED: &str = "server.key.sealed";

/// Its name as a credential of systemd.
const CREDENTIAL: &str = "vault-server.key";

/// A data directory that only its owner can read, locked for this program.
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

impl Drop for DataDir {
    /// Gives the directory free at once: closing the file alone does not while a process that is
    /// just being started holds a copy of it.
    fn drop(&mut self) {
        if let Err(why) = self.lock.unlock() {
            tracing::warn!(%why, "the data directory stays locked until this program ends");
        }
    }
}

/// Returns the process that has a data directory locked, as far as the kernel tells.
pub fn holder(path: &Path) -> Option<u32> {
    host::process::holder(&path.join(LOCK))
}

impl DataDir {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// If it is missing, readable by others, or in use by another server.
    pub fn open(path: &Path) -> Result<Self> {
        let dir = Self::open_without_database(path)?;
        check_private(&path.join(schema::FILE))?;
        Ok(dir)
    }

    /// As [`DataDir::open`], of a server whose database is elsewhere.
    pub fn open_without_database(path: &Path) -> Result<Self> {
        check_private(path)?;
        let key = credential(path);
        let sealed = key.is_sealed() && !key.is_open();
        check_private(if sealed { &key.sealed } else { &key.open })?;
        let head = path.join(headfile::FILE);
        if head.symlink_metadata().is_ok() {
            check_private(&head)?;
        }
        Self::lock(path)
    }

    /// Makes the directory if need be, for a new server: some of it may be there, as one leaves it
    /// that was stopped while it made it, or that no vault has been given to.
    ///
    /// # Errors
    /// If others can read it, another server uses it, or there is a server in it that has a vault,
    /// or had one.
    pub fn create(path: &Path) -> Result<Self> {
        files::create_dir_private(path)?;
        // Locked before the look: nobody makes a server in between.
        let dir = Self::lock(path)?;
        if let Some(file) = dir.traces()? {
            let why = format!("`{}` already holds a server (`{file}`)", path.display());
            let hint = "start it with `vault-server run`, or choose another --data directory";
            return Err(hinted(why, hint));
        }
        Ok(dir)
    }

    /// Returns a file that only a server has which somebody uses.
    fn traces(&self) -> Result<Option<&'static str>> {
        if self.path.join(SEALED).symlink_metadata().is_ok() {
            return Ok(Some(SEALED));
        }
        if HeadFile::newest(&self.head())?.is_some() {
            return Ok(Some(headfile::FILE));
        }
        let is_there = self.database().symlink_metadata().is_ok();
        let is_used = is_there && !schema::is_new(&self.database())?;
        Ok(is_used.then_some(schema::FILE))
    }

    /// Makes the directory if need be, for a server that is brought back: some of it may be there.
    /// Root may do so for the user who owns the directory.
    ///
    /// # Errors
    /// If others can read it, or another server uses it.
    pub fn receive(path: &Path) -> Result<(Self, Owner)> {
        if path.symlink_metadata().is_ok() {
            let owner = Owner::of(path)?;
            if owner.0.is_none() {
                files::check_private(path)?;
            }
            return Ok((Self::lock(path)?, owner));
        }
        files::create_dir_private(path)?;
        Ok((Self::lock(path)?, Owner(None)))
    }

    fn lock(path: &Path) -> Result<Self> {
        let file = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&file)
            .with_context(|| format!("cannot open `{}`", file.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                let shown = path.display();
                let pid = holder(path).map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                let text =
                    format!("data directory `{shown}` is in use by another vault-server{pid}");
                Err(hinted(text, "stop the other one first"))
            }
            Err(std::fs::TryLockError::Error(why)) => {
                Err(why).with_context(|| format!("cannot lock `{}`", file.display()))
            }
        }
    }

    /// Returns where the database is.
    pub fn database(&self) -> PathBuf {
        self.path.join(schema::FILE)
    }

    /// Returns where the newest signed head is.
    pub fn head(&self) -> PathBuf {
        self.path.join(headfile::FILE)
    }

    /// Returns where the one-time code is shown while the database is set back.
    pub fn resume_code(&self) -> PathBuf {
        self.path.join(RESUME_CODE)
    }

    /// Returns where sealed audit records are; the folder is made for the first of them.
    pub fn archive(&self) -> PathBuf {
        self.path.join(segment::FOLDER)
    }

    /// Makes an empty database file that only its owner can read, unless there is one.
    ///
    /// # Errors
    /// If it cannot be made, or others can read the one that is there.
    pub fn database_or_new(&self) -> Result<()> {
        if self.database().symlink_metadata().is_ok() {
            return check_private(&self.database());
        }
        Ok(files::write_private(&self.database(), b"")?)
    }

    /// Makes the server key.
    pub fn create_key(&self) -> Result<SignKey> {
        let key = SignKey::generate();
        let text = Zeroizing::new(format!("{}\n", *key.to_text()));
        files::write_private(&self.path.join(KEY), text.as_bytes())?;
        Ok(key)
    }

    /// Takes the server key from a copy, unless it is there already; returns its public half.
    ///
    /// # Errors
    /// If the copy is malformed or cannot be read, or another key is there.
    pub fn take_key(&self, copy: &Path) -> Result<Option<VerifyKey>> {
        let shown = copy.display();
        let reading = || format!("copy `{shown}` of the server key");
        let text = std::fs::read_to_string(copy).map(Zeroizing::new).with_context(reading)?;
        let key = SignKey::from_text(&text).with_context(reading)?;
        let public = key.verify_key();
        let is_other = match public_key(&self.path)? {
            Some(found) => found != public,
            None => self.path.join(SEALED).exists(),
        };
        if is_other {
            let why = format!("`{}` holds another server key already", self.path.display());
            return Err(hinted(why, "move it away, or go without --key"));
        }
        if public_key(&self.path)?.is_none() {
            let text = Zeroizing::new(format!("{}\n", *key.to_text()));
            files::write_private(&self.path.join(KEY), text.as_bytes())?;
        }
        Ok(Some(public))
    }

    /// Returns the public half of the server key, which is made if there is none; `None` if it is
    /// sealed.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn key_or_new(&self) -> Result<Option<VerifyKey>> {
        match public_key(&self.path)? {
            None if self.path.join(SEALED).exists() => Ok(None),
            None => Ok(Some(self.create_key()?.verify_key())),
            found => Ok(found),
        }
    }

    /// Puts the next key into the other's place, if there is one that `listed` has; tells whether
    /// it did. Stopped in between, it does so again.
    ///
    /// # Errors
    /// If it is malformed, or a file cannot be written.
    pub fn take_next(&self, listed: impl FnOnce() -> Result<Vec<VerifyKey>>) -> Result<bool> {
        let next = self.path.join(NEXT);
        let Some(key) = read_key(&next)? else { return Ok(false) };
        if !listed()?.contains(&key.verify_key()) {
            return Ok(false);
        }
        let text = Zeroizing::new(format!("{}\n", *key.to_text()));
        files::replace_trusted(&self.path.join(KEY), text.as_bytes(), Access::PRIVATE)?;
        files::remove_trusted(&next)?;
        Ok(true)
    }

    /// Reads the server key, from `given` by systemd or else from its file.
    ///
    /// # Errors
    /// If it is missing or malformed.
    pub fn read_key(&self, given: Option<&Path>) -> Result<SignKey> {
        let given = given.map(|given| given.join(CREDENTIAL)).filter(|given| given.exists());
        if let Some(given) = given {
            // Who may read that is systemd's to decide.
            let shown = given.display();
            let (_, text) = files::settings(&given)
                .with_context(|| format!("cannot read server key `{shown}`"))?;
            return SignKey::from_text(&text).with_context(|| format!("server key `{shown}`"));
        }
        let file = self.path.join(KEY);
        let shown = file.display();
        if !file.exists() && self.path.join(SEALED).exists() {
            return Err(hinted(
                format!(
                    "the key in `{}` is sealed: only the server that systemd starts gets it",
                    self.path.display()
                ),
                "`systemctl start vault-server`",
            ));
        }
        let reading = || format!("server key `{shown}`");
        let bytes = files::read_private(&file)?.with_context(|| format!("no {}", reading()))?;
        let text = std::str::from_utf8(&bytes).with_context(reading)?;
        SignKey::from_text(text).with_context(reading)
    }
}

/// Whom the files in the data directory are to belong to, where root restores for another user.
pub struct Owner(Option<(u32, u32)>);

impl Owner {
    /// Finds the owner of a data directory.
    fn of(data: &Path) -> Result<Self> {
        let shown = data.display();
        let found = data.metadata().with_context(|| format!("cannot look at `{shown}`"))?;
        let is_root = rustix::process::geteuid().is_root();
        Ok(Self((is_root && found.uid() != 0).then(|| (found.uid(), found.gid()))))
    }

    /// Returns the access that new files are to have.
    pub fn access(&self) -> Access {
        let (uid, gid) = self.0.unzip();
        Access { uid, gid, ..Access::PRIVATE }
    }

    /// Gives what root has made in a folder, and the folder, to the owner.
    ///
    /// # Errors
    /// If something cannot be given.
    pub fn give_all(&self, folder: &Path) -> Result<()> {
        let Some((uid, gid)) = self.0 else { return Ok(()) };
        let entries = match std::fs::read_dir(folder) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(|| format!("cannot read `{}`", folder.display()))?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        for path in std::iter::once(Ok(folder.to_owned())).chain(paths) {
            let path = path?;
            let found = path.symlink_metadata();
            if found.is_ok_and(|found| found.uid() == 0 && (found.is_dir() || found.nlink() == 1)) {
                lchown(&path, Some(uid), Some(gid))
                    .with_context(|| format!("cannot give `{}` to its owner", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Returns the public half of the key in `data`; `None` if there is none, or it is sealed.
///
/// # Errors
/// If it is malformed or cannot be read.
pub fn public_key(data: &Path) -> Result<Option<VerifyKey>> {
    Ok(read_key(&data.join(KEY))?.map(|key| key.verify_key()))
}

fn read_key(file: &Path) -> Result<Option<SignKey>> {
    let reading = || format!("server key `{}`", file.display());
    let text = match std::fs::read_to_string(file).map(Zeroizing::new) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(reading)?,
    };
    Ok(Some(SignKey::from_text(&text).with_context(reading)?))
}

/// Returns the public half of the key that is to take the other's place, made if there is none.
///
/// # Errors
/// If there is no server in `data`, its key is sealed, or something cannot be read or written.
pub fn next_key(data: &Path) -> Result<VerifyKey> {
    files::check_private(data)?;
    if data.join(SEALED).exists() {
        let why = format!("the key in `{}` is sealed", data.display());
        return Err(hinted(
            why,
            "open it first, as the chapter on systemd says; seal the new one after",
        ));
    }
    let Some(now) = public_key(data)? else {
        return Err(hinted(
            format!("`{}` holds no server key", data.display()),
            "make a server with `vault-server init`, or name its directory with --data",
        ));
    };
    if let Some(next) = read_key(&data.join(NEXT))?.map(|key| key.verify_key()) {
        if next != now {
            return Ok(next);
        }
        files::remove_trusted(&data.join(NEXT))?;
    }
    let key = SignKey::generate();
    let text = Zeroizing::new(format!("{}\n", *key.to_text()));
    files::write_private(&data.join(NEXT), text.as_bytes())?;
    Ok(key.verify_key())
}

/// Returns the server key in `data` as systemd is to have it.
pub fn credential(data: &Path) -> Credential {
    Credential { name: CREDENTIAL.to_owned(), open: data.join(KEY), sealed: data.join(SEALED) }
}

/// Refuses what is missing, another user's, or open to others.
fn check_private(path: &Path) -> Result<()> {
    if path.try_exists().is_ok_and(|found| !found) {
        let hint = "put it back from a backup; for a new server run `vault-server init`, or name \
                    another directory with --data";
        return Err(hinted(format!("`{}` does not exist", path.display()), hint));
    }
    Ok(files::check_private(path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

    use shared::hash::Hash;
    use shared::head::Head;

    use super::*;
    use crate::store::NONE;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let dir = DataDir::create(&path).unwrap();
        dir.create_key().unwrap();
        dir.database_or_new().unwrap();
        (root, path)
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_it_makes_only_its_owner_reads() {
        let (_root, path) = fresh();
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!((mode(&path.join(KEY)), mode(&path.join(schema::FILE))), (0o600, 0o600));
        DataDir::open(&path).unwrap().read_key(None).unwrap();
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let (_root, path) = fresh();
        for (name, open, closed) in
            [("", 0o750, 0o700), (KEY, 0o604, 0o600), (schema::FILE, 0o640, 0o600)]
        {
            let at = path.join(name);
            chmod(&at, open);
            let fault = DataDir::open(&path).err().unwrap();
            assert!(fault.to_string().contains("is open to others"), "{fault}");
            chmod(&at, closed);
        }
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            // Only root can give files away; `host::files` shows the rule to everybody.
            return;
        }
        let (_root, path) = fresh();
        let give = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
        for name in ["", KEY, schema::FILE] {
            let at = path.join(name);
            give(&at, 54_321);
            let fault = DataDir::open(&path).err().unwrap().to_string();
            assert!(fault.ends_with("belongs to user 54321, not to user 0"), "{fault}");
            give(&at, 0);
        }
        DataDir::open(&path).unwrap().read_key(None).unwrap();
    }

    #[test]
    fn a_sealed_key_comes_from_systemd_alone() {
        let (root, path) = fresh();
        let given = root.path().join("given");
        std::fs::create_dir(&given).unwrap();
        let key = DataDir::open(&path).unwrap().read_key(Some(&given)).unwrap().verify_key();
        std::fs::copy(path.join(KEY), given.join(CREDENTIAL)).unwrap();
        files::write_private(&path.join(SEALED), b"sealed").unwrap();
        std::fs::remove_file(path.join(KEY)).unwrap();
        let dir = DataDir::open(&path).unwrap();
        assert_eq!(dir.read_key(Some(&given)).unwrap().verify_key(), key);
        assert!(dir.read_key(None).unwrap_err().to_string().contains("is sealed: only the server"));
        drop(dir);
        let fault = DataDir::create(&path).err().unwrap();
        assert!(fault.to_string().contains("already holds a server"));
    }

    #[test]
    fn a_second_server_is_kept_out() {
        let (_root, path) = fresh();
        let first = DataDir::open(&path).unwrap();
        let fault = DataDir::open(&path).err().unwrap();
        let pid = std::process::id();
        let text = format!("is in use by another vault-server (pid {pid})");
        assert!(fault.to_string().ends_with(&text), "{fault}");
        assert_eq!(holder(&path), Some(pid));
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_server_that_has_or_had_a_vault_is_not_made_anew() {
        let (_root, path) = fresh();
        let key = DataDir::create(&path).unwrap().read_key(None).unwrap().verify_key();
        let database = schema::open(&path.join(schema::FILE)).unwrap();
        let made_anew = || {
            let fault = DataDir::create(&path).err()?.to_string();
            assert!(fault.contains("already holds a server"), "{fault}");
            Some(fault)
        };
        assert_eq!(made_anew(), None, "a database without a vault");
        let record = "INSERT INTO log VALUES (0, x'00', 'root', x'00', x'00')";
        database.execute(record, NONE).unwrap();
        assert!(made_anew().unwrap().ends_with("(`vault.db`)"));
        drop(database);
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(path.join(format!("{}{end}", schema::FILE)));
        }
        assert_eq!(made_anew(), None, "a key alone");
        let mut heads = HeadFile::open(&path.join(headfile::FILE)).unwrap();
        assert_eq!(made_anew(), None, "a file without a head");
        let head = Head { epoch: Hash::ZERO, seq: 1, head: Hash::ZERO };
        heads.write(head.sign(&SignKey::generate(), Hash::ZERO).unwrap()).unwrap();
        assert!(made_anew().unwrap().ends_with("(`head`)"), "its database is lost");
        assert_eq!(public_key(&path).unwrap(), Some(key));
    }
}
