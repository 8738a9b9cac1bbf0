//! Entries and their operations: shapes only; what they do lives in `ops`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::grant::Grants;
use crate::hash::Hash;
use crate::keys::{Recipient, Signature, VerifyKey};
use crate::limits;
use crate::name::{Actor, Name};
use crate::path::{Mount, SecretPath};
use crate::text::Text;
use crate::time::Time;

use super::roster::Number;

/// Body of an entry, signed under `vault-entry/v1 <vault id>`. All operations apply, in order, or
/// none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Position in the log; the first entry has 1.
    pub seq: u64,
    /// Hash of the entry before, or the vault id.
    pub prev: Hash,
    /// The writer's clock; never decides acceptance.
    pub time: Time,
    /// The signer.
    pub by: Actor,
    /// 1 to 1000 operations.
    pub ops: Vec<Op>,
}

/// One operation, externally tagged: `{"put":{…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Adds an admin; by root.
    AdminAdd {
        /// Free name.
        name: Name,
        /// Key never used before.
        key: VerifyKey,
    },
    /// Removes an admin; by root.
    AdminRemove {
        /// Existing name.
        name: Name,
    },
    /// Replaces the root key; by root.
    RootSet {
        /// Key never used before.
        key: VerifyKey,
    },
    /// Replaces the recovery recipient; by root. Every path becomes stale.
    RecoverySet {
        /// Recipient never used before.
        recipient: Recipient,
    },
    /// Replaces the list of server keys that clients pin; by an admin or root.
    ServerSet {
        /// One or two keys.
        keys: Vec<VerifyKey>,
        /// [`State::was_server`](super::State::was_server).
        was: Hash,
    },
    /// Replaces the addresses where agents look for the server; by an admin or root.
    AddressesSet {
        /// One to eight, `host:port`, in the order to try.
        addresses: Vec<Address>,
        /// [`State::was_addresses`](super::State::was_addresses).
        was: Hash,
    },
    /// Makes or configures a mount.
    MountSet(MountSet),
    /// Drops an empty mount; the version counters below it stay.
    MountDrop {
        /// Mount without secrets.
        mount: Mount,
    },
    /// Adds a machine; by an admin or root.
    MachineAdd(NewMachine),
    /// Gives a machine another name; by an admin or root.
    MachineRename {
        /// Active machine.
        number: Number,
        /// Name without an active machine.
        to: Name,
    },
    /// Gives a machine new keys and, with them, a new number; by an admin or root.
    MachineRekey(Rekey),
    /// Says whether a machine's silence is normal; by an admin or root.
    MachineSet {
        /// Active machine.
        number: Number,
        /// Whether it sleeps at times.
        sleeps: bool,
        /// [`State::was_machine`](super::State::was_machine).
        was: Hash,
    },
    /// Removes a machine; by an admin or root.
    MachineRemove {
        /// Active machine.
        number: Number,
        /// For people, 512 bytes at most.
        reason: Text<{ limits::REASON }>,
    },
    /// Replaces both access lists of a machine; by an admin or root.
    AccessSet(Access),
    /// Writes a version.
    Put(Put),
    /// Re-encrypts a live version to today's readers, content unchanged.
    Rewrap(Put),
    /// Marks versions deleted.
    Delete(Versions),
    /// Takes the mark off again.
    Undelete(Versions),
    /// Drops versions' blobs for good.
    Destroy(Versions),
    /// Replaces a secret's settings and custom metadata; makes a secret without versions if new.
    MetaSet(MetaSet),
    /// Drops a secret with all its versions and metadata; its version counter stays.
    Forget {
        /// Known path.
        path: SecretPath,
    },
    /// Goes on from where a restored server stands; by an admin or root, first in its entry.
    Resume(Resume),
    /// Vouches for what the log folds to up to here; by an admin or root, first in its entry.
    Checkpoint(Checkpoint),
    /// Raises the format of the state; by an admin or root.
    FormatSet {
        /// The present format plus 1.
        format: u32,
    },
}

impl Entry {
    /// Returns how many bytes the entry may at most leave, beside those of its body, in the memory
    /// of everybody who folds the log, about.
    pub const fn weight(&self) -> usize {
        OP_WEIGHT * self.ops.len()
    }
}

/// Bytes of memory that an operation may take beside its texts.
const OP_WEIGHT: usize = 448;

impl Op {
    /// Returns the path the operation is about, if it is about one.
    pub fn path(&self) -> Option<&SecretPath> {
        match self {
            Self::Put(put) | Self::Rewrap(put) => Some(&put.path),
            Self::Delete(at) | Self::Undelete(at) | Self::Destroy(at) => Some(&at.path),
            Self::MetaSet(meta) => Some(&meta.path),
            Self::Forget { path } => Some(path),
            Self::AdminAdd { .. }
            | Self::AdminRemove { .. }
            | Self::RootSet { .. }
            | Self::RecoverySet { .. }
            | Self::ServerSet { .. }
            | Self::MountSet(_)
            | Self::MountDrop { .. }
            | Self::AddressesSet { .. }
            | Self::MachineAdd(_)
            | Self::MachineRename { .. }
            | Self::MachineRekey(_)
            | Self::MachineSet { .. }
            | Self::MachineRemove { .. }
            | Self::AccessSet(_)
            | Self::Resume(_)
            | Self::Checkpoint(_)
            | Self::FormatSet { .. } => None,
        }
    }

    /// Returns the blob the operation brings, if it brings one.
    pub fn blob(&self) -> Option<Hash> {
        match self {
            Self::Put(put) | Self::Rewrap(put) => Some(put.blob),
            _ => None,
        }
    }

    /// Returns the operation's name as it stands in the entry, e.g. `machine_add`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AdminAdd { .. } => "admin_add",
            Self::AdminRemove { .. } => "admin_remove",
            Self::RootSet { .. } => "root_set",
            Self::RecoverySet { .. } => "recovery_set",
            Self::ServerSet { .. } => "server_set",
            Self::AddressesSet { .. } => "addresses_set",
            Self::MountSet(_) => "mount_set",
            Self::MountDrop { .. } => "mount_drop",
            Self::MachineAdd(_) => "machine_add",
            Self::MachineRename { .. } => "machine_rename",
            Self::MachineRekey(_) => "machine_rekey",
            Self::MachineSet { .. } => "machine_set",
            Self::MachineRemove { .. } => "machine_remove",
            Self::AccessSet(_) => "access_set",
            Self::Put(_) => "put",
            Self::Rewrap(_) => "rewrap",
            Self::Delete(_) => "delete",
            Self::Undelete(_) => "undelete",
            Self::Destroy(_) => "destroy",
            Self::MetaSet(_) => "meta_set",
            Self::Forget { .. } => "forget",
            Self::Resume(_) => "resume",
            Self::Checkpoint(_) => "checkpoint",
            Self::FormatSet { .. } => "format_set",
        }
    }
}

/// Where a server listens: `host:port`.
pub type Address = Text<{ limits::ADDRESS }>;

/// Value of `delete_after` that switches deletion by age off.
pub const DELETE_NEVER: i64 = -1;

/// A mount and its defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountSet {
    /// The mount.
    pub mount: Mount,
    /// Versions kept per secret at least, 1,000 at most; 0 leaves it to the secret, 10 if that is 0
    /// too.
    pub max_versions: u64,
    /// Whether every write must say which version it replaces.
    pub cas_required: bool,
    /// Microseconds after which a version counts as deleted; 0 unset, -1 never.
    pub delete_after: i64,
    /// [`State::was_mount`](super::State::was_mount).
    pub was: Hash,
}

/// A machine to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMachine {
    /// Name without an active machine.
    pub name: Name,
    /// [`State::due_machine`](super::State::due_machine).
    pub number: Number,
    /// Encryption key never used before.
    pub recipient: Recipient,
    /// Signing and TLS key never used before.
    pub sign: VerifyKey,
    /// [`Claim`](crate::claim::Claim) of name and keys, proved by the machine itself.
    pub proof: Signature,
    /// What it may read.
    pub read: Grants,
    /// What it may write.
    pub write: Grants,
}

/// New access lists of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Active machine.
    pub number: Number,
    /// [`State::was_access`](super::State::was_access).
    pub was: Hash,
    /// What it may read.
    pub read: Grants,
    /// What it may write.
    pub write: Grants,
}

/// New keys of a machine; its name and access lists stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rekey {
    /// Active machine.
    pub number: Number,
    /// [`State::due_machine`](super::State::due_machine).
    pub new_number: Number,
    /// Encryption key never used before.
    pub recipient: Recipient,
    /// Signing and TLS key never used before.
    pub sign: VerifyKey,
    /// [`Claim`](crate::claim::Claim) of name and keys, proved by the machine itself.
    pub proof: Signature,
}

/// Where a vault goes on after a restore: what its server had, and its audit chain had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Last entry before the restore.
    pub seq: u64,
    /// Its hash.
    pub head: Hash,
    /// Last audit record before the restore.
    pub audit_n: u64,
    /// Audit chain value after it.
    pub audit_head: Hash,
}

/// What the log folds to after some entry: whoever believes it needs no entry up to that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The last entry that the state holds.
    pub seq: u64,
    /// SHA-256 of the state after it, as [`State::rows`](super::State::rows) writes it.
    pub state: Hash,
    /// Bytes of that.
    pub size: u64,
}

/// One encrypted version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// The secret.
    pub path: SecretPath,
    /// Version number: the last one ever given to this path, plus 1; in a rewrap, the version.
    pub ver: u64,
    /// SHA-256 of the age file.
    pub blob: Hash,
    /// Bytes of the age file.
    pub size: u64,
    /// Commitment to the content, see [`crate::blob`].
    pub commit: Hash,
    /// SHA-256 of the readers the age file is encrypted to.
    pub readers: Hash,
}

/// Some versions of a secret, 1,000 at most; numbers that do not exist are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// The secret.
    pub path: SecretPath,
    /// Version numbers, strictly increasing.
    pub versions: Vec<u64>,
}

/// Settings and custom metadata of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaSet {
    /// The secret.
    pub path: SecretPath,
    /// Versions kept at least, 1,000 at most; 0 leaves it to the mount.
    pub max_versions: u64,
    /// Whether every write must say which version it replaces.
    pub cas_required: bool,
    /// Microseconds after which a version counts as deleted; 0 unset, -1 never.
    pub delete_after: i64,
    /// Free text by key, Vault's limits.
    pub custom: BTreeMap<String, String>,
}
