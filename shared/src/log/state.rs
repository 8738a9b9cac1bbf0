//! What a log folds to: the tables, and questions about them. Changing them lives in `ops`.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::head::Head;
use crate::keys::{Recipient, VerifyKey};
use crate::limits;
use crate::name::{Actor, Name};
use crate::path::{Mount, SecretPath};
use crate::signed::VaultId;
use crate::time::Time;

use super::custom::Custom;
use super::entry::{Address, Checkpoint, DELETE_NEVER, Resume};
use super::roster::{Machine, Number, Roster};

/// The state after some entry. Serialized as a whole it is a snapshot of one's own, never sent;
/// what others may believe is [`State::rows`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(super) vault: VaultId,
    pub(super) name: Name,
    pub(super) created: Time,
    pub(super) seq: u64,
    pub(super) head: Hash,
    pub(super) time: Time,
    pub(super) root: VerifyKey,
    pub(super) recovery: Recipient,
    pub(super) recovery_number: u64,
    pub(super) admins: BTreeMap<Name, VerifyKey>,
    pub(super) server: Vec<VerifyKey>,
    pub(super) addresses: Vec<Address>,
    pub(super) format: u32,
    pub(super) resumed: Vec<Resumed>,
    pub(super) mounts: BTreeMap<Mount, MountConfig>,
    pub(super) machines: Roster,
    pub(super) secrets: BTreeMap<SecretPath, Secret>,
    /// The newest checkpoint.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Version counters of forgotten secrets.
    pub(super) forgotten: BTreeMap<SecretPath, u64>,
    /// The highest counter of those forgotten secrets whose own one a checkpoint has dropped, by
    /// [`floor`] of their path.
    pub(super) floors: BTreeMap<u16, u64>,
    pub(super) used_keys: BTreeSet<[u8; 32]>,
    /// Blobs of the kept versions, and all that came since the newest checkpoint.
    pub(super) used_blobs: HashSet<Hash>,
}

/// Returns which of 4,096 floors counts for `path`.
pub(super) fn floor(path: &SecretPath) -> u16 {
    let hash = Hash::of(&[path.as_str().as_bytes()]);
    let [high, low, ..] = *hash.as_bytes();
    u16::from_be_bytes([high, low]) >> 4
}

/// Defaults of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountConfig {
    /// Versions kept at least; 0 unset.
    pub max_versions: u64,
    /// Whether every write must say which version it replaces.
    pub cas_required: bool,
    /// Microseconds; 0 unset, -1 never.
    pub delete_after: i64,
}

/// Where a restored server went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The entry that resumed.
    pub seq: u64,
    /// What it went on from.
    pub from: Resume,
    /// Who resumed it.
    pub by: Actor,
    /// When, by the signer's clock.
    pub time: Time,
    /// Hash of that entry: the epoch since then.
    pub epoch: Hash,
}

/// A secret: its settings and the versions still kept, without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// When the first version or setting was written.
    pub created: Time,
    /// The entry that did.
    pub entry: u64,
    /// When the newest version or setting was written.
    pub updated: Time,
    /// Versions kept at least; 0 leaves it to the mount.
    pub max_versions: u64,
    /// Whether every write must say which version it replaces.
    pub cas_required: bool,
    /// Microseconds; 0 unset, -1 never.
    pub delete_after: i64,
    /// Free text by key.
    pub custom: Custom,
    /// Number of the last version ever written under this path, 0 if none.
    pub last: u64,
    /// The number before the secret's own first version: above 0 only after a `forget`.
    pub base: u64,
    pub(super) versions: VecDeque<Version>,
}

/// Whether and when a version is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deletion {
    /// Not deleted.
    No,
    /// Counts as deleted from this time on, by its age.
    At(Time),
    /// Was deleted at this time.
    Since(Time),
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// When it was written, by the writer's clock.
    pub created: Time,
    /// The entry that wrote it.
    pub entry: u64,
    /// Who wrote it.
    pub by: Actor,
    /// Whether it is deleted.
    pub deletion: Deletion,
    /// Whether its blob was dropped for good.
    pub destroyed: bool,
    /// SHA-256 of the age file.
    pub blob: Hash,
    /// Bytes of the age file.
    pub size: u64,
    /// Commitment to the content.
    pub commit: Hash,
    /// SHA-256 of the readers the age file is encrypted to.
    pub readers: Hash,
}

impl Version {
    /// Tells whether the content may be read at `now`.
    pub fn is_live(&self, now: Time) -> bool {
        !self.destroyed
            && match self.deletion {
                Deletion::No => true,
                Deletion::At(time) => now < time,
                Deletion::Since(_) => false,
            }
    }

    /// Returns the time of deletion that clients are shown, past or to come.
    pub const fn deletion_time(&self) -> Option<Time> {
        match self.deletion {
            Deletion::No => None,
            Deletion::At(time) | Deletion::Since(time) => Some(time),
        }
    }
}

impl Secret {
    /// Returns version `ver` if it is still kept.
    pub fn version(&self, ver: u64) -> Option<&Version> {
        self.versions.get(self.index(ver)?)
    }

    /// Returns how many versions are kept.
    pub(super) fn kept(&self) -> usize {
        self.versions.len()
    }

    pub(super) fn version_mut(&mut self, ver: u64) -> Option<&mut Version> {
        let index = self.index(ver)?;
        self.versions.get_mut(index)
    }

    fn index(&self, ver: u64) -> Option<usize> {
        usize::try_from(ver.checked_sub(self.first()?)?).ok()
    }

    /// Returns the number of the oldest version kept, if any is kept.
    pub fn first(&self) -> Option<u64> {
        let kept = u64::try_from(self.versions.len()).ok()?;
        (kept > 0).then(|| self.last + 1 - kept)
    }

    /// Returns the newest version, if the secret has one of its own.
    pub fn current(&self) -> Option<(u64, &Version)> {
        Some((self.last, self.versions.back()?))
    }

    /// Returns the kept versions with their numbers, oldest first.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = (u64, &Version)> {
        let first = self.first().unwrap_or(1);
        self.versions.iter().enumerate().map(move |(n, version)| (first + n as u64, version))
    }
}

impl State {
    /// Returns the vault id.
    pub const fn vault(&self) -> VaultId {
        self.vault
    }

    /// Returns the vault's name.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Returns when the vault was made.
    pub const fn created(&self) -> Time {
        self.created
    }

    /// Returns the number of the last entry, 0 after the genesis.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the hash of the last entry, or the vault id.
    pub const fn head(&self) -> Hash {
        self.head
    }

    /// Returns when the last entry was written, or the vault made, by the signer's clock.
    pub const fn time(&self) -> Time {
        self.time
    }

    /// Returns the server keys that clients pin.
    pub fn server(&self) -> &[VerifyKey] {
        &self.server
    }

    /// Returns where agents look for the server; empty until an owner says so in the log.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns where restored servers went on, oldest first.
    pub fn resumed(&self) -> &[Resumed] {
        &self.resumed
    }

    /// Returns the present epoch: the hash of the last entry that resumed, or the vault id.
    pub fn epoch(&self) -> Hash {
        self.resumed.last().map_or(self.vault, |resumed| resumed.epoch)
    }

    /// Returns the epoch of entry `seq`: the hash of the last entry up to it that resumed, or the
    /// vault id.
    pub fn epoch_at(&self, seq: u64) -> Hash {
        let until = self.resumed.iter().rev().find(|resumed| resumed.seq <= seq);
        until.map_or(self.vault, |resumed| resumed.epoch)
    }

    /// Returns the newest checkpoint.
    pub const fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint
    }

    /// Returns where the log ends.
    pub fn place(&self) -> Head {
        Head { epoch: self.epoch(), seq: self.seq, head: self.head }
    }

    /// Returns the format of the state.
    pub const fn format(&self) -> u32 {
        self.format
    }

    /// Returns the key of `actor` if it may act now.
    pub fn key(&self, actor: &Actor) -> Option<&VerifyKey> {
        match actor {
            Actor::Root => Some(&self.root),
            Actor::Admin(name) => self.admins.get(name),
            Actor::Machine(name) => self.machine(name).map(|(_, machine)| &machine.sign),
        }
    }

    /// Returns the admins and their keys.
    pub const fn admins(&self) -> &BTreeMap<Name, VerifyKey> {
        &self.admins
    }

    /// Returns the active machine `name` and its number.
    pub fn machine(&self, name: &Name) -> Option<(Number, &Machine)> {
        self.machines.named(name)
    }

    /// Returns the active machine that bears `number`.
    pub fn machine_numbered(&self, number: Number) -> Option<&Machine> {
        self.machines.active(number)
    }

    /// Returns the active machine that holds the signing key.
    pub fn machine_by_key(&self, key: &[u8; 32]) -> Option<(Number, &Machine)> {
        self.machines.signing(key)
    }

    /// Returns every machine that ever was, by number.
    pub const fn machines(&self) -> &BTreeMap<Number, Machine> {
        self.machines.all()
    }

    /// Returns the number that the next machine must bear.
    pub fn due_machine(&self) -> Number {
        self.machines.due()
    }

    /// Returns the mounts and their defaults.
    pub const fn mounts(&self) -> &BTreeMap<Mount, MountConfig> {
        &self.mounts
    }

    /// Returns the secret at `path`.
    pub fn secret(&self, path: &SecretPath) -> Option<&Secret> {
        self.secrets.get(path)
    }

    /// Returns all secrets in byte order of their paths.
    pub const fn secrets(&self) -> &BTreeMap<SecretPath, Secret> {
        &self.secrets
    }

    /// Returns the paths of all secrets, and then of those that were dropped.
    pub fn paths(&self) -> impl Iterator<Item = &SecretPath> {
        self.secrets.keys().chain(self.forgotten.keys())
    }

    /// Returns the secrets whose path starts with `prefix`, in byte order.
    pub fn secrets_below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a SecretPath, &'a Secret)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.secrets
            .range::<str, _>(from)
            .take_while(move |(path, _)| path.as_str().starts_with(prefix))
    }

    /// Returns the number that the next version of `path` must bear.
    pub fn due_version(&self, path: &SecretPath) -> u64 {
        let last = match self.secrets.get(path) {
            Some(secret) => secret.last,
            None => self.last_before(path),
        };
        last + 1
    }

    /// Returns the last number that a version of `path` may have had before the path was forgotten.
    pub(super) fn last_before(&self, path: &SecretPath) -> u64 {
        let own = self.forgotten.get(path).copied();
        own.or_else(|| self.floors.get(&floor(path)).copied()).unwrap_or(0)
    }

    /// Returns how many versions of a secret are kept: the larger of its own and its mount's
    /// setting, 10 if neither is set.
    pub fn versions_kept(&self, path: &SecretPath) -> u64 {
        let mount = self.mounts.get(path.mount()).map_or(0, |mount| mount.max_versions);
        let own = self.secrets.get(path).map_or(0, |secret| secret.max_versions);
        match mount.max(own) {
            0 => limits::DEFAULT_MAX_VERSIONS,
            kept => kept,
        }
    }

    /// Returns after how many microseconds a version of `path` counts as deleted: the smaller of
    /// the secret's and its mount's setting; a negative one switches it off.
    pub fn delete_after(&self, path: &SecretPath) -> Option<u64> {
        let mount = self.mounts.get(path.mount()).map_or(0, |mount| mount.delete_after);
        let own = self.secrets.get(path).map_or(0, |secret| secret.delete_after);
        if mount <= DELETE_NEVER || own <= DELETE_NEVER {
            return None;
        }
        [mount, own]
            .into_iter()
            .filter_map(|micros| u64::try_from(micros).ok())
            .filter(|m| *m > 0)
            .min()
    }

    /// Tells whether a write to `path` must say which version it replaces.
    pub fn cas_required(&self, path: &SecretPath) -> bool {
        self.mounts.get(path.mount()).is_some_and(|mount| mount.cas_required)
            || self.secrets.get(path).is_some_and(|secret| secret.cas_required)
    }
}
