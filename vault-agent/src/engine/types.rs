//! What goes in and out of the engine: plain types, no behaviour beyond showing themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use shared::audit::AuditHead;
use shared::blob::Kind;
use shared::error::Error;
use shared::hash::Hash;
use shared::log::{MetaSet, MountSet, Op};
use shared::name::Name;
use shared::path::{Mount, SecretPath};
use shared::plaintext::Plaintext;
use shared::report::Report;
use shared::signed::VaultId;
use shared::time::Time;

/// The newest version of a path, as this machine sees it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latest {
    /// No such secret, or one without versions.
    Missing,
    /// The newest version is deleted or destroyed.
    Deleted {
        /// Its number.
        ver: u64,
    },
    /// This machine has no read grant for it.
    NotReadable,
    /// A live version.
    Version {
        /// Its number.
        ver: u64,
        /// Whether its content is at hand without asking the server.
        ready: bool,
    },
}

/// Decrypted content of one version; cloning shares it, dropping the last clone wipes it.
#[derive(Clone)]
pub struct Content {
    /// The version.
    pub ver: u64,
    /// What the bytes are.
    pub kind: Kind,
    pub(crate) bytes: Arc<Plaintext>,
}

impl Content {
    /// Returns the content: a JSON object's text for [`Kind::Kv`].
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content(v{}, ..)", self.ver)
    }
}

/// Why a version cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No such secret or version, or one no longer kept.
    #[error("no such secret or version")]
    Missing,
    /// The version is deleted.
    #[error("version {ver} is deleted")]
    Deleted {
        /// The version.
        ver: u64,
    },
    /// The version is destroyed.
    #[error("version {ver} is destroyed")]
    Destroyed {
        /// The version.
        ver: u64,
    },
    /// This machine has no read grant for the path.
    #[error("this machine has no read grant for it")]
    Denied,
    /// The version is not in the cache and the server cannot be asked.
    #[error("version {ver} is not in the cache and the server cannot be asked: {reason}")]
    Offline {
        /// The version.
        ver: u64,
        /// Why the server cannot be asked.
        reason: String,
    },
    /// The blob was refused.
    #[error("{0}")]
    Blob(Error),
    /// The agent's own database failed.
    #[error("{0}")]
    Local(String),
}

/// What a put writes.
#[derive(Clone, Debug)]
pub enum PutContent {
    /// All of it; for [`Kind::Kv`] the text of a JSON object.
    Whole(Plaintext),
    /// A JSON merge patch (RFC 7396) on the newest version.
    Merge(serde_json::Value),
}

/// One change that a local caller wants.
#[derive(Clone, Debug)]
pub enum Change {
    /// Writes a new version.
    Put {
        /// The secret.
        path: SecretPath,
        /// What the content is; a merge is always [`Kind::Kv`].
        kind: Kind,
        /// The content.
        content: PutContent,
        /// The version it must replace; 0 for none.
        cas: Option<u64>,
    },
    /// Marks versions deleted, the newest if none is named; what is not there is passed over.
    Delete {
        /// The secret.
        path: SecretPath,
        /// The versions.
        versions: Option<Vec<u64>>,
    },
    /// Takes the mark off; what is not there is passed over.
    Undelete {
        /// The secret.
        path: SecretPath,
        /// The versions.
        versions: Vec<u64>,
    },
    /// Drops the blobs for good; what is not there is passed over.
    Destroy {
        /// The secret.
        path: SecretPath,
        /// The versions.
        versions: Vec<u64>,
    },
    /// Replaces settings and custom metadata.
    MetaSet(MetaSet),
    /// Changes some settings and custom metadata.
    MetaMerge(MetaMerge),
    /// Drops the secret with all versions; nothing if it is not there.
    Forget {
        /// The secret.
        path: SecretPath,
    },
    /// Makes or configures a mount.
    MountSet(MountSet),
    /// Drops a mount that is empty.
    MountDrop(Mount),
    /// Changes some settings of a mount.
    MountMerge(MountMerge),
}

/// Settings of a secret to change; absent ones stay.
#[derive(Clone, Debug)]
pub struct MetaMerge {
    /// The secret.
    pub path: SecretPath,
    /// Whether the secret must exist already; otherwise it is made.
    pub must_exist: bool,
    /// Versions kept.
    pub max_versions: Option<u64>,
    /// Whether every write must say which version it replaces.
    pub cas_required: Option<bool>,
    /// Microseconds after which a version counts as deleted; 0 unset, -1 never.
    pub delete_after: Option<i64>,
    /// Custom metadata.
    pub custom: CustomChange,
}

/// What happens to custom metadata.
#[derive(Clone, Debug, Default)]
pub enum CustomChange {
    /// It stays.
    #[default]
    Keep,
    /// All of it is replaced.
    Replace(BTreeMap<String, String>),
    /// Keys are set, or taken away where `None`.
    Merge(BTreeMap<String, Option<String>>),
}

/// Settings of a mount to change; absent ones stay.
#[derive(Clone, Debug)]
pub struct MountMerge {
    /// The mount.
    pub mount: Mount,
    /// Versions kept.
    pub max_versions: Option<u64>,
    /// Whether every write must say which version it replaces.
    pub cas_required: Option<bool>,
    /// Microseconds after which a version counts as deleted; 0 unset, -1 never.
    pub delete_after: Option<i64>,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The log entry that holds it; the current one if there was nothing to do.
    pub seq: u64,
    /// That entry's time.
    pub time: Time,
    /// The version each put made, in the order of the changes.
    pub versions: Vec<(SecretPath, u64)>,
}

/// Why a write was not done, or is not known to be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The newest version is another than the caller said.
    #[error("the current version is {current}")]
    Cas {
        /// The newest version.
        current: u64,
    },
    /// This secret wants to be told which version is replaced.
    #[error("the version to replace must be named")]
    CasRequired,
    /// This machine has no write grant for it.
    #[error("this machine has no write grant for it")]
    Denied,
    /// There is nothing to merge into, or no such mount.
    #[error("no such secret")]
    Missing,
    /// What is to be merged into is deleted or destroyed.
    #[error("version {ver} is deleted")]
    Deleted {
        /// The version.
        ver: u64,
    },
    /// The server cannot be reached; nothing was written.
    #[error("the server cannot be reached: {reason}")]
    Offline {
        /// Why.
        reason: String,
    },
    /// The server's disk is full; nothing was written.
    #[error("the server's disk is full")]
    Full,
    /// The entry was sent and no answer came: it is kept and sent again until one comes.
    #[error("the entry was sent but no answer came; it is kept and will be sent again")]
    Unresolved,
    /// A rule of the log forbids it.
    #[error("{0}")]
    Refused(Error),
    /// The content or the change is over its limit.
    #[error("the content is too large")]
    TooLarge,
    /// The log moved on since the entry was prepared: prepare and sign again.
    #[error("the log moved on since this was prepared")]
    Moved,
    /// What is to be merged into cannot be read now.
    #[error("{0}")]
    Unreadable(ReadError),
    /// The agent's own database failed; nothing was written, unless the text says otherwise.
    #[error("{0}")]
    Local(String),
}

/// An owner's act, ready to be signed: entries that follow each other.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The entries, in the order to submit them; one, unless it is too large.
    pub entries: Vec<PreparedEntry>,
    /// Re-encryptions among the operations.
    pub rewraps: usize,
    /// Versions whose readers change but which this machine cannot read.
    pub unreadable: Vec<(SecretPath, u64)>,
}

/// One entry to be signed.
#[derive(Clone, Debug)]
pub struct PreparedEntry {
    /// Its position.
    pub seq: u64,
    /// What it will hash to.
    pub head: Hash,
    /// The very bytes to sign.
    pub body: Vec<u8>,
    /// What it says.
    pub ops: Vec<Op>,
}

/// A lasting trouble that people should see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// An `E_…` code, or the daemon's own in the same form.
    pub code: String,
    /// Names the object.
    pub detail: String,
    /// When it came up.
    pub since: Time,
}

/// Another machine, by its latest verified report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its report.
    pub report: Report,
    /// When the server got it.
    pub at: Time,
    /// Whether it followed the log when the server was last asked.
    pub online: bool,
}

/// How the engine is.
#[derive(Clone, Debug)]
pub struct Status {
    /// This machine.
    pub machine: Name,
    /// The pinned vault.
    pub vault: VaultId,
    /// The vault's name; empty before the first sync.
    pub vault_name: String,
    /// Whether a connection stands and has caught up.
    pub online: bool,
    /// Address of that connection, or of the last one tried.
    pub server: Option<String>,
    /// Why there is no connection.
    pub trouble: Option<String>,
    /// When this machine last knew to be at the server's head.
    pub synced_at: Option<Time>,
    /// Last entry.
    pub seq: u64,
    /// Its hash.
    pub head: Hash,
    /// The audit chain as last seen.
    pub audit: AuditHead,
    /// Current versions that are encrypted to other readers than today's.
    pub stale: usize,
    /// Whether a signed entry waits for an answer.
    pub pending: bool,
    /// Troubles, by code.
    pub alarms: Vec<Alarm>,
    /// Every machine that reported, this one included, by name.
    pub peers: Vec<Peer>,
}

/// What verifying the audit chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyResult {
    /// Records in the chain; with a fault, those up to the last head that agreed.
    pub records: u64,
    /// The chain's head, recomputed.
    pub head: AuditHead,
    /// Whether the records themselves were read and hashed, or, without a read grant on
    /// `sys/audit`, their leaves only.
    pub read_records: bool,
    /// Heads anchored in verified reports that were compared.
    pub anchors: usize,
    /// The first thing that is wrong.
    pub fault: Option<AuditFault>,
}

/// Where the audit chain is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFault {
    /// The first record that is known bad, or the anchor that does not match.
    pub n: u64,
    /// What is wrong with it.
    pub detail: String,
}
