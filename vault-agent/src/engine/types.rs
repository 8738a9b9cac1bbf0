//! What goes in and out of the engine, and what all of it knows: plain types.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use shared::blob::Kind;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::keys::{Recipient, VerifyKey, random};
use shared::log::{self, Number, State};
use shared::name::{Actor, Name};
use shared::path::{Mount, SecretPath};
use shared::plaintext::Plaintext;
use shared::time::Time;
use tokio::sync::watch;

use crate::state::Failure;
use machine::findings::is_refusal;
use machine::identity::{MachineKeys, Pins};

/// This machine as a member of its vault: its keys, which vault and server it believes. Nothing
/// here changes while the engine runs. Who it is in the vault is what the log says of its keys, so
/// that it goes on under another name.
pub(super) struct Own {
    pub(super) pins: Pins,
    pub(super) keys: MachineKeys,
    /// Tells this process from all others that hold the same keys, earlier ones among them.
    pub(super) run: Hash,
    sign: VerifyKey,
    recipient: Recipient,
}

impl Own {
    pub(super) fn new(pins: Pins, keys: MachineKeys) -> Self {
        let (sign, recipient) = (keys.sign.verify_key(), keys.age.recipient());
        Self { pins, keys, run: Hash::from_bytes(*random()), sign, recipient }
    }

    /// Finds this machine among the active ones: both keys must be its own.
    pub(super) fn find<'s>(&self, state: &'s State) -> Option<(Number, &'s log::Machine)> {
        self.signing(state).filter(|(_, machine)| machine.recipient == self.recipient)
    }

    /// Tells why not to go on if the vault knows the signing key beside another encryption key or,
    /// in a state that is `whole`, has never known it. One that it knew is a removed machine's, or
    /// one from before a rekey.
    ///
    /// # Errors
    /// `E_JOIN_SUBSTITUTED`.
    pub(super) fn check(&self, state: &State, whole: bool) -> Result<(), Error> {
        let why = match self.signing(state) {
            Some((_, machine)) if machine.recipient != self.recipient => {
                format!("machine `{}` has another encryption key there", machine.name)
            }
            None if whole && !self.was_member(state) => {
                "no machine there has this host's signing key".to_owned()
            }
            Some(_) | None => return Ok(()),
        };
        Err(Code::JoinSubstituted.because(why))
    }

    /// Tells whether a machine has had this one's signing key, one that was removed too.
    pub(super) fn was_member(&self, state: &State) -> bool {
        state.machines().values().any(|known| known.sign == self.sign)
    }

    fn signing<'s>(&self, state: &'s State) -> Option<(Number, &'s log::Machine)> {
        state.machine_by_key(self.sign.as_bytes())
    }

    /// Returns what this machine is called now; what it was called last if the vault knows it no
    /// more, and what it joined as if it never did.
    pub(super) fn name<'s>(&'s self, state: &'s State) -> &'s Name {
        let active = self.signing(state).map(|(_, machine)| machine);
        let last = || state.machines().values().rev().find(|machine| machine.sign == self.sign);
        active.or_else(last).map_or(&self.pins.name, |machine| &machine.name)
    }

    pub(super) fn actor(&self, state: &State) -> Actor {
        Actor::Machine(self.name(state).clone())
    }
}

/// Tells all who wait that something changed.
pub(super) type Ticks = watch::Sender<()>;

/// The commit of the newest records that were applied; clones tell of the same one.
#[derive(Clone, Debug, Default)]
pub struct Commit(Arc<OnceLock<bool>>);

impl Commit {
    pub(crate) fn ended(kept: bool) -> Self {
        Self(Arc::new(kept.into()))
    }

    /// Tells everybody who waits how it has ended.
    pub(super) fn end(&self, kept: bool) {
        let _ = self.0.set(kept);
    }

    /// Waits on this thread until it has ended; tells whether everything that was applied before is
    /// on disk. If not, memory has gone back.
    pub fn wait(&self) -> bool {
        *self.0.wait()
    }
}

/// How the log stands as a whole: contents of versions may be others once it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// How often this process has gone over to another branch of the log, or forgotten what it
    /// left.
    pub overs: u64,
    /// Whether a fork has stopped updates and writes.
    pub halted: bool,
}

/// The newest version of a path, as this machine sees it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latest {
    /// This machine has not heard from the server yet: nothing is known of any secret.
    Unknown,
    /// No such secret, or one without versions.
    Missing,
    /// The newest version is deleted or destroyed.
    Deleted { ver: u64 },
    /// This machine has no read grant for it.
    NotReadable,
    /// A live version; `ready` if its content is at hand without asking the server.
    Version { ver: u64, ready: bool },
}

/// Decrypted content of one version; cloning shares it, dropping the last clone wipes it.
#[derive(Clone)]
pub struct Content {
    pub ver: u64,
    pub kind: Kind,
    pub(crate) bytes: Arc<Plaintext>,
}

impl Content {
    /// Returns the content: a JSON object's text for [`Kind::Kv`].
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
    #[error("no such secret or version")]
    Missing,
    #[error("version {ver} is deleted")]
    Deleted { ver: u64 },
    #[error("version {ver} is destroyed")]
    Destroyed { ver: u64 },
    #[error("this machine has no read grant for it")]
    Denied,
    #[error("version {ver} is not in the cache and the server cannot be asked: {reason}")]
    Offline { ver: u64, reason: String },
    /// The blob was refused.
    #[error("{0}")]
    Blob(Error),
    #[error("{0}")]
    Local(#[from] Failure),
}

/// What a put writes.
#[derive(Clone, Debug)]
pub enum PutContent {
    /// All of it; for [`Kind::Kv`] the text of a JSON object.
    Whole(Plaintext),
    /// A JSON merge patch (RFC 7396) on the newest version.
    Merge(serde_json::Value),
}

/// One change that a local caller wants. Versions that are not there are passed over.
#[derive(Clone, Debug)]
pub enum Change {
    /// Writes a new version.
    Put {
        path: SecretPath,
        /// What the content is; a merge is always [`Kind::Kv`].
        kind: Kind,
        content: PutContent,
        /// The version it must replace; 0 for none.
        cas: Option<u64>,
    },
    /// Marks versions deleted, the newest if none is named.
    Delete { path: SecretPath, versions: Option<Vec<u64>> },
    /// Takes the mark off.
    Undelete { path: SecretPath, versions: Vec<u64> },
    /// Drops the blobs for good.
    Destroy { path: SecretPath, versions: Vec<u64> },
    /// Changes some settings and custom metadata.
    MetaMerge(MetaMerge),
    /// Drops the secret with all versions; nothing if it is not there.
    Forget { path: SecretPath },
    /// Makes a mount, or changes some of its settings.
    Mount(Mount, Settings),
    /// Drops a mount that is empty.
    MountDrop(Mount),
}

/// Settings of a secret or a mount to change; absent ones stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Versions kept.
    pub max_versions: Option<u64>,
    /// Whether every write must say which version it replaces.
    pub cas_required: Option<bool>,
    /// Microseconds after which a version counts as deleted; 0 unset, -1 never.
    pub delete_after: Option<i64>,
}

/// What changes of a secret beside its versions.
#[derive(Clone, Debug)]
pub struct MetaMerge {
    pub path: SecretPath,
    /// Whether the secret must exist already; otherwise it is made.
    pub must_exist: bool,
    pub settings: Settings,
    pub custom: CustomChange,
}

/// What happens to custom metadata.
#[derive(Clone, Debug)]
pub enum CustomChange {
    Keep,
    /// All of it is replaced.
    Replace(BTreeMap<String, String>),
    /// Keys are set, or taken away where `None`.
    Merge(BTreeMap<String, Option<String>>),
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
    Cas { current: u64 },
    #[error("the version to replace must be named")]
    CasRequired,
    #[error("this machine has no write grant for it")]
    Denied,
    /// There is nothing to merge into, or no such mount.
    #[error("no such secret")]
    Missing,
    /// What is to be merged into is deleted or destroyed.
    #[error("version {ver} is deleted")]
    Deleted { ver: u64 },
    /// Nothing was written.
    #[error("{}", unfollowed(reason))]
    Offline { reason: String },
    /// Nothing was written: a fork has stopped writes.
    #[error("{}: {}; writes are stopped", Code::Fork, Code::Fork.sentence())]
    Halted,
    /// Nothing was written.
    #[error("the server's disk is full")]
    Full,
    #[error("the entry was sent but no answer came; it is kept and will be sent again")]
    Unresolved,
    /// The server takes no changes now, and says so; the entry is sent again after `again`.
    #[error("{reason}; the entry is kept and will be sent again")]
    Postponed { reason: String, again: Duration },
    /// A rule of the log forbids it.
    #[error("{0}")]
    Refused(Error),
    #[error("the content is too large")]
    TooLarge,
    /// The entry must be prepared and signed again.
    #[error("the log moved on since this was prepared")]
    Moved,
    /// What is to be merged into cannot be read now.
    #[error("{0}")]
    Unreadable(ReadError),
    /// The agent's own database failed; nothing was written, unless the text says otherwise.
    #[error("{0}")]
    Local(String),
}

/// Says why the server is of no use now: one that answers, but is not followed, was reached.
pub fn unfollowed(reason: &str) -> String {
    let what = if is_refusal(reason) {
        "the server answers, but its log is not followed"
    } else {
        "the server cannot be reached"
    };
    format!("{what}: {reason}")
}

impl From<Failure> for WriteError {
    fn from(fault: Failure) -> Self {
        Self::Local(fault.to_string())
    }
}
