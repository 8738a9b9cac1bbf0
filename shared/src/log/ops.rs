//! What each operation requires and does (design/trust, *Records*, the list of operations); those
//! on machines live in `machines`, the checkpoint's in `checkpoint`.

use std::collections::BTreeMap;
use std::mem::{replace, swap};

use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::keys::VerifyKey;
use crate::limits;
use crate::name::{Actor, Name};
use crate::path::{Mount, SecretPath};
use crate::time::Time;

use super::custom::Custom;
use super::entry::{MetaSet, MountSet, Op, Put, Resume, Versions};
use super::readers::readers_hash;
use super::state::{Deletion, MountConfig, Secret, State, Version};
use super::undo::Undo;

/// Operations in progress: the state with those applied so far, and how to take them back.
pub(super) struct Change<'a> {
    pub(super) state: &'a mut State,
    pub(super) by: &'a Actor,
    pub(super) time: Time,
    pub(super) undo: Undo,
    /// Blobs that no version refers to any more.
    pub(super) dropped: Vec<Hash>,
}

impl Change<'_> {
    /// Runs one operation: right first, then grammar and table checks, then the change.
    pub(super) fn run(&mut self, index: usize, op: &Op) -> Result<()> {
        if !self.may(op) {
            return Err(Code::Denied.because(match op.path() {
                Some(path) => format!("`{}` may not {} `{path}`", self.by, op.name()),
                None => format!("`{}` may not {}", self.by, op.name()),
            }));
        }
        match op {
            Op::AdminAdd { name, key } => self.admin_add(name, key)?,
            Op::AdminRemove { name } => {
                if !self.state.admins.contains_key(name) {
                    return Err(Code::Missing.because(format!("admin `{name}`")));
                }
                self.put_row(|state| &mut state.admins, name, None);
            }
            Op::RootSet { key } => {
                self.use_key(key.as_bytes(), "root key")?;
                self.replace(|state| &mut state.root, key.clone());
            }
            Op::RecoverySet { recipient } => {
                self.use_key(recipient.as_bytes(), "recovery recipient")?;
                self.replace(|state| &mut state.recovery, recipient.clone());
                self.replace(|state| &mut state.recovery_number, self.state.recovery_number + 1);
            }
            Op::ServerSet { keys, was } => self.server_set(keys, *was)?,
            Op::AddressesSet { addresses, was } => {
                unmoved(*was, self.state.was_addresses(), || "the server's addresses".to_owned())?;
                if addresses.is_empty() || addresses.len() > limits::ADDRESSES {
                    return Err(Code::Limits.because(format!("{} addresses", addresses.len())));
                }
                self.replace(|state| &mut state.addresses, addresses.clone());
            }
            Op::MountSet(set) => self.mount_set(set)?,
            Op::MountDrop { mount } => self.mount_drop(mount)?,
            Op::MachineAdd(new) => self.machine_add(new)?,
            Op::MachineRename { number, to } => self.machine_rename(*number, to)?,
            Op::MachineRekey(rekey) => self.machine_rekey(rekey)?,
            Op::MachineSet { number, sleeps, was } => {
                self.machine_sleeps(*number, *sleeps, *was)?;
            }
            Op::MachineRemove { number, reason } => self.machine_remove(*number, reason)?,
            Op::AccessSet(access) => self.access_set(access)?,
            Op::Put(put) => self.put(put)?,
            Op::Rewrap(put) => self.rewrap(put)?,
            Op::Delete(at) => {
                let deletion = Deletion::Since(self.time);
                self.change_each(at, |version| &mut version.deletion, deletion)?;
            }
            Op::Undelete(at) => {
                let deletion = self.due_deletion(&at.path);
                self.change_each(at, |version| &mut version.deletion, deletion)?;
            }
            Op::Destroy(at) => self.destroy(at)?,
            Op::MetaSet(meta) => self.meta_set(meta)?,
            Op::Forget { path } => self.forget(path)?,
            Op::Resume(resume) => self.check_resume(index, resume)?,
            Op::Checkpoint(checkpoint) => self.checkpoint(index, checkpoint)?,
            Op::FormatSet { format } => self.format_set(*format)?,
        }
        Ok(())
    }

    fn may(&self, op: &Op) -> bool {
        match self.by {
            Actor::Root => true,
            Actor::Admin(_) => !matches!(
                op,
                Op::AdminAdd { .. }
                    | Op::AdminRemove { .. }
                    | Op::RootSet { .. }
                    | Op::RecoverySet { .. }
            ),
            Actor::Machine(name) => {
                let Some((_, machine)) = self.state.machine(name) else { return false };
                match op {
                    Op::MountSet(MountSet { mount, .. }) | Op::MountDrop { mount } => {
                        machine.write.cover_mount(mount.as_str())
                    }
                    other => other.path().is_some_and(|path| machine.write.cover(path)),
                }
            }
        }
    }

    /// Replaces a field of the state.
    pub(super) fn replace<T: Send + 'static>(&mut self, field: fn(&mut State) -> &mut T, new: T) {
        let old = replace(field(self.state), new);
        self.undo.push(move |state| *field(state) = old);
    }

    /// Puts a row into a table of the state, or takes it out.
    fn put_row<K: Ord + Clone + Send + 'static, V: Send + 'static>(
        &mut self,
        table: fn(&mut State) -> &mut BTreeMap<K, V>,
        key: &K,
        row: Option<V>,
    ) {
        let old = put_row(table(self.state), key.clone(), row);
        let key = key.clone();
        self.undo.push(move |state| drop(put_row(table(state), key, old)));
    }

    /// Notes how to take a change of one secret back.
    fn undo_in(&mut self, path: &SecretPath, back: impl FnOnce(&mut Secret) + Send + 'static) {
        let path = path.clone();
        self.undo.push(move |state| {
            if let Some(secret) = state.secrets.get_mut(&path) {
                back(secret);
            }
        });
    }

    pub(super) fn use_key(&mut self, key: &[u8; 32], what: &str) -> Result<()> {
        let key = *key;
        if !self.state.used_keys.insert(key) {
            return Err(Code::Key.because(format!("{what} was used before")));
        }
        self.undo.push(move |state| _ = state.used_keys.remove(&key));
        Ok(())
    }

    fn use_blob(&mut self, put: &Put) -> Result<()> {
        let Put { path, blob, .. } = put;
        if put.size == 0 || put.size > limits::BLOB as u64 {
            return Err(Code::Limits.because(format!("blob of {} bytes for `{path}`", put.size)));
        }
        if put.readers != readers_hash(self.state, path) {
            return Err(Code::Readers.because(format!("readers of `{path}`")));
        }
        let blob = *blob;
        if !self.state.used_blobs.insert(blob) {
            return Err(Code::BlobReuse.because(format!("blob {} for `{path}`", blob.short())));
        }
        self.undo.push(move |state| _ = state.used_blobs.remove(&blob));
        Ok(())
    }

    fn admin_add(&mut self, name: &Name, key: &VerifyKey) -> Result<()> {
        if self.state.admins.contains_key(name) {
            return Err(Code::Exists.because(format!("admin `{name}`")));
        }
        self.use_key(key.as_bytes(), "admin key")?;
        self.put_row(|state| &mut state.admins, name, Some(key.clone()));
        Ok(())
    }

    fn server_set(&mut self, keys: &[VerifyKey], was: Hash) -> Result<()> {
        unmoved(was, self.state.was_server(), || "the server keys".to_owned())?;
        if keys.is_empty() || keys.len() > 2 {
            return Err(Code::Limits.because(format!("{} server keys", keys.len())));
        }
        // A key that stays listed is no new use: `[old, new]` and then `[new]`.
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].contains(key) {
                return Err(Code::Key.because("one server key stands twice"));
            }
            if !self.state.server.contains(key) {
                self.use_key(key.as_bytes(), "server key")?;
            }
        }
        self.replace(|state| &mut state.server, keys.to_vec());
        Ok(())
    }

    fn mount_set(&mut self, set: &MountSet) -> Result<()> {
        let MountSet { mount, max_versions, cas_required, delete_after, was } = set;
        unmoved(*was, self.state.was_mount(mount), || format!("mount `{mount}`"))?;
        check_kept(*max_versions)?;
        let config = MountConfig {
            max_versions: *max_versions,
            cas_required: *cas_required,
            delete_after: *delete_after,
        };
        self.put_row(|state| &mut state.mounts, mount, Some(config));
        Ok(())
    }

    fn mount_drop(&mut self, mount: &Mount) -> Result<()> {
        if self.state.secrets_below(&format!("{mount}/")).next().is_some() {
            return Err(Code::Exists.because(format!("a secret below mount `{mount}`")));
        }
        if !self.state.mounts.contains_key(mount) {
            return Err(Code::Missing.because(format!("mount `{mount}`")));
        }
        self.put_row(|state| &mut state.mounts, mount, None);
        Ok(())
    }

    /// Returns the secret at `path`, made if new, and notes how to take that back.
    fn secret(&mut self, path: &SecretPath) -> Result<&mut Secret> {
        if !self.state.mounts.contains_key(path.mount()) {
            return Err(Code::Missing.because(format!("mount `{}`", path.mount())));
        }
        if !self.state.secrets.contains_key(path) {
            let base = self.state.last_before(path);
            self.put_row(|state| &mut state.forgotten, path, None);
            self.put_row(
                |state| &mut state.secrets,
                path,
                Some(Secret::new(self.time, self.state.seq + 1, base)),
            );
        }
        self.known(path)
    }

    fn known(&mut self, path: &SecretPath) -> Result<&mut Secret> {
        self.state
            .secrets
            .get_mut(path)
            .ok_or_else(|| Code::Missing.because(format!("secret `{path}`")))
    }

    /// Returns whether and when what is written to `path` now is deleted by its age.
    fn due_deletion(&self, path: &SecretPath) -> Deletion {
        let after = self.state.delete_after(path);
        after.map_or(Deletion::No, |micros| Deletion::At(self.time.plus(micros)))
    }

    fn put(&mut self, put: &Put) -> Result<()> {
        if put.ver != self.state.due_version(&put.path) {
            return Err(Code::Version.because(format!("version {} of `{}`", put.ver, put.path)));
        }
        self.use_blob(put)?;
        let version = Version {
            created: self.time,
            entry: self.state.seq + 1,
            by: self.by.clone(),
            deletion: self.due_deletion(&put.path),
            destroyed: false,
            blob: put.blob,
            size: put.size,
            commit: put.commit,
            readers: put.readers,
        };
        let kept = self.state.versions_kept(&put.path);
        let secret = self.secret(&put.path)?;
        let updated = replace(&mut secret.updated, version.created);
        secret.last = put.ver;
        secret.versions.push_back(version);
        self.undo_in(&put.path, move |secret| {
            secret.versions.pop_back();
            secret.last -= 1;
            secret.updated = updated;
        });
        self.prune(&put.path, put.ver.saturating_sub(kept));
        Ok(())
    }

    /// Drops the versions numbered `upto` and below.
    fn prune(&mut self, path: &SecretPath, upto: u64) {
        while let Some(secret) = self.state.secrets.get_mut(path)
            && secret.first().is_some_and(|first| first <= upto)
            && let Some(version) = secret.versions.pop_front()
        {
            if !version.destroyed {
                self.dropped.push(version.blob);
            }
            self.undo_in(path, move |secret| secret.versions.push_front(version));
        }
    }

    fn rewrap(&mut self, put: &Put) -> Result<()> {
        let Put { path, ver, .. } = put;
        let version = self.known(path)?.version(*ver);
        let live = version.filter(|v| !v.destroyed && !matches!(v.deletion, Deletion::Since(_)));
        let Some(old) = live else {
            return Err(Code::Version.because(format!("version {ver} of `{path}` is not live")));
        };
        if old.commit != put.commit {
            return Err(Code::Commit.because(format!("version {ver} of `{path}`")));
        }
        let (ver, old) = (*ver, old.clone());
        self.use_blob(put)?;
        self.dropped.push(old.blob);
        if let Some(version) = self.known(path)?.version_mut(ver) {
            version.blob = put.blob;
            version.size = put.size;
            version.readers = put.readers;
        }
        self.undo_in(path, move |secret| {
            if let Some(version) = secret.version_mut(ver) {
                *version = old;
            }
        });
        Ok(())
    }

    /// Sets a field of those of some versions whose blobs are not dropped; returns which they are.
    fn change_each<T: Copy + Send + 'static>(
        &mut self,
        at: &Versions,
        field: fn(&mut Version) -> &mut T,
        new: T,
    ) -> Result<Vec<Hash>> {
        let Versions { path, versions } = at;
        if versions.len() as u64 > limits::VERSIONS {
            let why = format!("{} versions of `{path}` at once", versions.len());
            return Err(Code::Limits.because(why));
        }
        if !versions.is_sorted_by(|one, next| one < next) {
            let why = format!("versions of `{path}` that do not increase strictly");
            return Err(Code::Limits.because(why));
        }
        let secret = self.known(path)?;
        let (mut old, mut blobs) = (Vec::with_capacity(versions.len()), Vec::new());
        for ver in versions {
            if let Some(version) = secret.version_mut(*ver).filter(|version| !version.destroyed) {
                old.push((*ver, replace(field(version), new)));
                blobs.push(version.blob);
            }
        }
        old.shrink_to_fit();
        self.undo_in(path, move |secret| {
            for (ver, old) in old {
                if let Some(version) = secret.version_mut(ver) {
                    *field(version) = old;
                }
            }
        });
        Ok(blobs)
    }

    fn destroy(&mut self, at: &Versions) -> Result<()> {
        let blobs = self.change_each(at, |version| &mut version.destroyed, true)?;
        self.dropped.extend(blobs);
        Ok(())
    }

    fn meta_set(&mut self, meta: &MetaSet) -> Result<()> {
        check_kept(meta.max_versions)?;
        check_custom(&meta.path, &meta.custom)?;
        let MetaSet { mut max_versions, mut cas_required, mut delete_after, .. } = *meta;
        let (mut custom, mut updated) = (Custom::of(&meta.custom), self.time);
        let mut exchange = move |secret: &mut Secret| {
            swap(&mut secret.max_versions, &mut max_versions);
            swap(&mut secret.cas_required, &mut cas_required);
            swap(&mut secret.delete_after, &mut delete_after);
            swap(&mut secret.custom, &mut custom);
            swap(&mut secret.updated, &mut updated);
        };
        exchange(self.secret(&meta.path)?);
        self.undo_in(&meta.path, exchange);
        Ok(())
    }

    fn forget(&mut self, path: &SecretPath) -> Result<()> {
        let secret = self.known(path)?;
        let last = secret.last;
        let blobs = secret.versions.iter().filter(|v| !v.destroyed).map(|v| v.blob);
        let blobs: Vec<Hash> = blobs.collect();
        self.dropped.extend(blobs);
        self.put_row(|state| &mut state.secrets, path, None);
        self.put_row(|state| &mut state.forgotten, path, Some(last));
        Ok(())
    }

    /// Checks a resumption; the entry's own hash, the new epoch, is known once all has run.
    fn check_resume(&self, index: usize, resume: &Resume) -> Result<()> {
        if index > 0 {
            return Err(Code::Limits.because("`resume` is not the first operation of its entry"));
        }
        if resume.seq != self.state.seq {
            let why = format!("resume from {} after {}", resume.seq, self.state.seq);
            return Err(Code::Seq.because(why));
        }
        if resume.head != self.state.head {
            return Err(Code::Prev.because(format!("resume from another head at {}", resume.seq)));
        }
        Ok(())
    }

    fn format_set(&mut self, format: u32) -> Result<()> {
        let now = self.state.format;
        if format != now + 1 {
            return Err(Code::Version.because(format!("format {format} after {now}")));
        }
        if format > limits::FORMAT {
            let why = format!("format {format}, this program knows {}", limits::FORMAT);
            return Err(Code::Upgrade.because(why));
        }
        self.replace(|state| &mut state.format, format);
        Ok(())
    }
}

/// Refuses an act that was made for another state than today's.
pub(super) fn unmoved(was: Hash, is: Hash, what: impl FnOnce() -> String) -> Result<()> {
    if was == is { Ok(()) } else { Err(Code::Moved.because(what())) }
}

pub(super) fn check_kept(max_versions: u64) -> Result<()> {
    if max_versions > limits::VERSIONS {
        let why = format!("{max_versions} versions kept, {} at most", limits::VERSIONS);
        return Err(Code::Limits.because(why));
    }
    Ok(())
}

fn put_row<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, row: Option<V>) -> Option<V> {
    match row {
        Some(row) => table.insert(key, row),
        None => table.remove(&key),
    }
}

impl Secret {
    fn new(time: Time, entry: u64, base: u64) -> Self {
        Self {
            created: time,
            entry,
            updated: time,
            max_versions: 0,
            cas_required: false,
            delete_after: 0,
            custom: Custom::default(),
            last: base,
            base,
            // Most secrets have one version: growing from nothing would take room for four.
            versions: std::collections::VecDeque::with_capacity(1),
        }
    }
}

/// Checks Vault's limits on custom metadata.
pub(super) fn check_custom(path: &SecretPath, custom: &BTreeMap<String, String>) -> Result<()> {
    let refuse =
        |why: String| Err(Code::Limits.because(format!("custom metadata of `{path}`: {why}")));
    if custom.len() > limits::CUSTOM_KEYS {
        return refuse(format!("{} keys, 64 at most", custom.len()));
    }
    for (key, value) in custom {
        if key.is_empty() || key.len() > limits::CUSTOM_KEY {
            return refuse(format!("a key of {} bytes, 1 to 128", key.len()));
        }
        if value.is_empty() || value.len() > limits::CUSTOM_VALUE {
            return refuse(format!("a value of {} bytes, 1 to 512", value.len()));
        }
        if key.chars().chain(value.chars()).any(char::is_control) {
            return refuse("an unprintable character".to_owned());
        }
    }
    Ok(())
}
