//! What each operation requires and does (design/trust, *Records*, the table of operations).

use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::keys::{Recipient, VerifyKey};
use crate::limits;
use crate::name::{Actor, Name};
use crate::path::{Mount, SecretPath};
use crate::time::Time;

use super::entry::{Access, MetaSet, MountSet, NewMachine, Op, Put, Versions};
use super::readers::readers_hash;
use super::state::{Deletion, Machine, MountConfig, Secret, State, Version};
use super::undo::{Step, Undo};

/// Operations in progress: the state with those applied so far, and how to take them back.
pub(super) struct Change<'a> {
    state: &'a mut State,
    by: &'a Actor,
    time: Time,
    undo: Undo,
    dropped: Vec<Hash>,
}

impl<'a> Change<'a> {
    pub(super) fn new(state: &'a mut State, by: &'a Actor, time: Time) -> Self {
        Self { state, by, time, undo: Undo::default(), dropped: Vec::new() }
    }

    pub(super) fn finish(self) -> (Undo, Vec<Hash>) {
        (self.undo, self.dropped)
    }

    /// Runs one operation: right first, then grammar and table checks, then the change.
    pub(super) fn run(&mut self, op: &Op) -> Result<()> {
        if !self.may(op) {
            return Err(Code::Denied.because(match op.path() {
                Some(path) => format!("`{}` may not {} `{path}`", self.by, op.name()),
                None => format!("`{}` may not {}", self.by, op.name()),
            }));
        }
        match op {
            Op::AdminAdd { name, key } => self.admin_add(name, key),
            Op::AdminRemove { name } => self.admin_remove(name),
            Op::RootSet { key } => self.root_set(key),
            Op::RecoverySet { recipient } => self.recovery_set(recipient),
            Op::ServerSet { keys } => self.server_set(keys),
            Op::MountSet(set) => self.mount_set(set),
            Op::MountDrop { mount } => self.mount_drop(mount),
            Op::MachineAdd(new) => self.machine_add(new),
            Op::MachineRemove { name, reason } => self.machine_remove(name, reason),
            Op::AccessSet(access) => self.access_set(access),
            Op::Put(put) => self.put(put),
            Op::Rewrap(put) => self.rewrap(put),
            Op::Delete(at) => self.delete(at),
            Op::Undelete(at) => self.undelete(at),
            Op::Destroy(at) => self.destroy(at),
            Op::MetaSet(meta) => self.meta_set(meta),
            Op::Forget { path } => self.forget(path),
        }
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
                let Some(machine) = self.state.machine(name) else { return false };
                match op {
                    Op::MountSet(MountSet { mount, .. }) | Op::MountDrop { mount } => {
                        machine.write.cover_mount(mount.as_str())
                    }
                    other => other.path().is_some_and(|path| machine.write.cover(path)),
                }
            }
        }
    }

    fn use_key(&mut self, key: &[u8; 32], what: &str) -> Result<()> {
        if !self.state.used_keys.insert(*key) {
            return Err(Code::Key.because(format!("{what} was used before")));
        }
        self.undo.0.push(Step::UsedKey(*key));
        Ok(())
    }

    fn use_blob(&mut self, put: &Put) -> Result<()> {
        if put.size == 0 || put.size > limits::BLOB as u64 {
            return Err(
                Code::Limits.because(format!("blob of {} bytes for `{}`", put.size, put.path))
            );
        }
        if put.readers != readers_hash(self.state, &put.path) {
            return Err(Code::Readers.because(format!("readers of `{}`", put.path)));
        }
        if !self.state.used_blobs.insert(put.blob) {
            return Err(Code::BlobReuse.because(format!(
                "blob {} for `{}`",
                put.blob.short(),
                put.path
            )));
        }
        self.undo.0.push(Step::UsedBlob(put.blob));
        Ok(())
    }

    fn admin_add(&mut self, name: &Name, key: &VerifyKey) -> Result<()> {
        if self.state.admins.contains_key(name) {
            return Err(Code::Exists.because(format!("admin `{name}`")));
        }
        self.use_key(key.as_bytes(), "admin key")?;
        self.state.admins.insert(name.clone(), key.clone());
        self.undo.0.push(Step::Admin(name.clone(), None));
        Ok(())
    }

    fn admin_remove(&mut self, name: &Name) -> Result<()> {
        let Some(key) = self.state.admins.remove(name) else {
            return Err(Code::Missing.because(format!("admin `{name}`")));
        };
        self.undo.0.push(Step::Admin(name.clone(), Some(key)));
        Ok(())
    }

    fn root_set(&mut self, key: &VerifyKey) -> Result<()> {
        self.use_key(key.as_bytes(), "root key")?;
        let old = std::mem::replace(&mut self.state.root, key.clone());
        self.undo.0.push(Step::Root(old));
        Ok(())
    }

    fn recovery_set(&mut self, recipient: &Recipient) -> Result<()> {
        self.use_key(recipient.as_bytes(), "recovery recipient")?;
        let old = std::mem::replace(&mut self.state.recovery, recipient.clone());
        self.state.recovery_number += 1;
        self.undo.0.push(Step::Recovery(old));
        Ok(())
    }

    fn server_set(&mut self, keys: &[VerifyKey]) -> Result<()> {
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
        let old = std::mem::replace(&mut self.state.server, keys.to_vec());
        self.undo.0.push(Step::Server(old));
        Ok(())
    }

    fn mount_set(&mut self, set: &MountSet) -> Result<()> {
        let config = MountConfig {
            max_versions: set.max_versions,
            cas_required: set.cas_required,
            delete_after: set.delete_after,
        };
        let old = self.state.mounts.insert(set.mount.clone(), config);
        self.undo.0.push(Step::Mount(set.mount.clone(), old));
        Ok(())
    }

    fn mount_drop(&mut self, mount: &Mount) -> Result<()> {
        if self.state.secrets_below(&format!("{mount}/")).next().is_some() {
            return Err(Code::Exists.because(format!("a secret below mount `{mount}`")));
        }
        let Some(old) = self.state.mounts.remove(mount) else {
            return Err(Code::Missing.because(format!("mount `{mount}`")));
        };
        self.undo.0.push(Step::Mount(mount.clone(), Some(old)));
        Ok(())
    }

    fn machine_add(&mut self, new: &NewMachine) -> Result<()> {
        let before = self.state.machines.get(&new.name);
        if before.is_some_and(|machine| machine.active) {
            return Err(Code::Exists.because(format!("machine `{}`", new.name)));
        }
        let incarnation = before.map_or(0, |machine| machine.incarnation) + 1;
        new.read.check()?;
        new.write.check()?;
        self.use_key(new.recipient.as_bytes(), "machine recipient")?;
        self.use_key(new.sign.as_bytes(), "machine signing key")?;
        let machine = Machine {
            incarnation,
            active: true,
            recipient: new.recipient.clone(),
            sign: new.sign.clone(),
            read: new.read.clone(),
            write: new.write.clone(),
            added: self.time,
        };
        let old = self.state.machines.insert(new.name.clone(), machine);
        self.undo.0.push(Step::Machine(new.name.clone(), old.map(Box::new)));
        Ok(())
    }

    fn machine_remove(&mut self, name: &Name, reason: &str) -> Result<()> {
        if reason.len() > limits::REASON {
            return Err(Code::Limits.because(format!("reason of {} bytes", reason.len())));
        }
        self.change_machine(name, |machine| machine.active = false)
    }

    fn access_set(&mut self, access: &Access) -> Result<()> {
        access.read.check()?;
        access.write.check()?;
        self.change_machine(&access.name, |machine| {
            machine.read = access.read.clone();
            machine.write = access.write.clone();
        })
    }

    fn change_machine(&mut self, name: &Name, change: impl FnOnce(&mut Machine)) -> Result<()> {
        let Some(machine) = self.state.machines.get_mut(name).filter(|machine| machine.active)
        else {
            return Err(Code::Missing.because(format!("machine `{name}`")));
        };
        self.undo.0.push(Step::Machine(name.clone(), Some(Box::new(machine.clone()))));
        change(machine);
        Ok(())
    }

    /// Returns the secret at `path`, made if new, and notes how to take that back.
    fn secret(&mut self, path: &SecretPath) -> Result<&mut Secret> {
        if !self.state.mounts.contains_key(path.mount()) {
            return Err(Code::Missing.because(format!("mount `{}`", path.mount())));
        }
        if !self.state.secrets.contains_key(path) {
            let base = self.state.forgotten.remove(path);
            self.undo.0.extend(base.map(|last| Step::Recalled(path.clone(), last)));
            self.undo.0.push(Step::Made(path.clone()));
            self.state.secrets.insert(path.clone(), Secret::new(self.time, base.unwrap_or(0)));
        }
        self.known(path)
    }

    fn known(&mut self, path: &SecretPath) -> Result<&mut Secret> {
        self.state
            .secrets
            .get_mut(path)
            .ok_or_else(|| Code::Missing.because(format!("secret `{path}`")))
    }

    fn put(&mut self, put: &Put) -> Result<()> {
        if put.ver != self.state.due_version(&put.path) {
            return Err(Code::Version.because(format!("version {} of `{}`", put.ver, put.path)));
        }
        self.use_blob(put)?;
        let (time, by) = (self.time, self.by.clone());
        let deletion = match self.state.delete_after(&put.path) {
            Some(micros) => Deletion::At(time.plus(micros)),
            None => Deletion::No,
        };
        let kept = self.state.versions_kept(&put.path);
        let secret = self.secret(&put.path)?;
        let updated = std::mem::replace(&mut secret.updated, time);
        secret.last = put.ver;
        secret.versions.push_back(Version {
            created: time,
            by,
            deletion,
            destroyed: false,
            blob: put.blob,
            size: put.size,
            commit: put.commit,
            readers: put.readers,
        });
        self.undo.0.push(Step::Pushed(put.path.clone(), updated));
        self.prune(&put.path, put.ver.saturating_sub(kept))
    }

    /// Drops the versions numbered `upto` and below.
    fn prune(&mut self, path: &SecretPath, upto: u64) -> Result<()> {
        while let Some(secret) = self.state.secrets.get_mut(path)
            && secret.first().is_some_and(|first| first <= upto)
            && let Some(version) = secret.versions.pop_front()
        {
            if !version.destroyed {
                self.dropped.push(version.blob);
            }
            self.undo.0.push(Step::Pruned(path.clone(), Box::new(version)));
        }
        Ok(())
    }

    fn rewrap(&mut self, put: &Put) -> Result<()> {
        let version = self.known(&put.path)?.version(put.ver);
        let live = version.filter(|v| !v.destroyed && !matches!(v.deletion, Deletion::Since(_)));
        let Some(old) = live.cloned() else {
            return Err(
                Code::Version.because(format!("version {} of `{}` is not live", put.ver, put.path))
            );
        };
        if old.commit != put.commit {
            return Err(Code::Commit.because(format!("version {} of `{}`", put.ver, put.path)));
        }
        self.use_blob(put)?;
        self.dropped.push(old.blob);
        self.change_version(&put.path, put.ver, |version| {
            version.blob = put.blob;
            version.size = put.size;
            version.readers = put.readers;
        })
    }

    fn change_version(
        &mut self,
        path: &SecretPath,
        ver: u64,
        change: impl FnOnce(&mut Version),
    ) -> Result<()> {
        if let Some(version) = self.known(path)?.version_mut(ver) {
            let old = Box::new(version.clone());
            change(version);
            self.undo.0.push(Step::Changed(path.clone(), ver, old));
        }
        Ok(())
    }

    fn delete(&mut self, at: &Versions) -> Result<()> {
        let time = self.time;
        self.known(&at.path)?;
        for ver in &at.versions {
            self.change_version(&at.path, *ver, |version| {
                if !version.destroyed {
                    version.deletion = Deletion::Since(time);
                }
            })?;
        }
        Ok(())
    }

    fn undelete(&mut self, at: &Versions) -> Result<()> {
        self.known(&at.path)?;
        let deletion = match self.state.delete_after(&at.path) {
            Some(micros) => Deletion::At(self.time.plus(micros)),
            None => Deletion::No,
        };
        for ver in &at.versions {
            self.change_version(&at.path, *ver, |version| {
                if !version.destroyed {
                    version.deletion = deletion;
                }
            })?;
        }
        Ok(())
    }

    fn destroy(&mut self, at: &Versions) -> Result<()> {
        self.known(&at.path)?;
        for ver in &at.versions {
            let mut dropped = None;
            self.change_version(&at.path, *ver, |version| {
                dropped = (!version.destroyed).then_some(version.blob);
                version.destroyed = true;
            })?;
            self.dropped.extend(dropped);
        }
        Ok(())
    }

    fn meta_set(&mut self, meta: &MetaSet) -> Result<()> {
        check_custom(meta)?;
        let time = self.time;
        let secret = self.secret(&meta.path)?;
        let old = MetaSet {
            path: meta.path.clone(),
            max_versions: std::mem::replace(&mut secret.max_versions, meta.max_versions),
            cas_required: std::mem::replace(&mut secret.cas_required, meta.cas_required),
            delete_after: std::mem::replace(&mut secret.delete_after, meta.delete_after),
            custom: std::mem::replace(&mut secret.custom, meta.custom.clone()),
        };
        let updated = std::mem::replace(&mut secret.updated, time);
        self.undo.0.push(Step::Meta(Box::new(old), updated));
        Ok(())
    }

    fn forget(&mut self, path: &SecretPath) -> Result<()> {
        let Some(secret) = self.state.secrets.remove(path) else {
            return Err(Code::Missing.because(format!("secret `{path}`")));
        };
        self.dropped.extend(secret.versions.iter().filter(|v| !v.destroyed).map(|v| v.blob));
        self.state.forgotten.insert(path.clone(), secret.last);
        self.undo.0.push(Step::Forgot(path.clone(), Box::new(secret)));
        Ok(())
    }
}

impl Secret {
    fn new(time: Time, base: u64) -> Self {
        Self {
            created: time,
            updated: time,
            max_versions: 0,
            cas_required: false,
            delete_after: 0,
            custom: std::collections::BTreeMap::new(),
            last: base,
            base,
            // Most secrets have one version: growing from nothing would take room for four.
            versions: std::collections::VecDeque::with_capacity(1),
        }
    }
}

/// Checks Vault's limits on custom metadata.
fn check_custom(meta: &MetaSet) -> Result<()> {
    let refuse = |why: String| {
        Err(Code::Limits.because(format!("custom metadata of `{}`: {why}", meta.path)))
    };
    if meta.custom.len() > limits::CUSTOM_KEYS {
        return refuse(format!("{} keys, 64 at most", meta.custom.len()));
    }
    for (key, value) in &meta.custom {
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
