//! Bodies of the agent's own local routes, `/v1/agent/…`: written by `api`, read by `cli`.
//!
//! Shapes only. Times are integers (microseconds since the epoch); who shows them turns them into
//! RFC 3339. Errors are Vault's: `{"errors":["…"]}`, a hint being a further line of the text.

mod admins;
mod branches;
mod checkpoint;
mod exposure;
mod forward;
mod headers;
mod hook;
mod kit;
mod past;
mod review;
mod row;
mod scan;
mod server;
mod shares;
mod standing;
mod ui;

use serde::{Deserialize, Serialize};
use shared::audit::AuditHead;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::head::Head as LogHead;
use shared::keys::VerifyKey;
use shared::log::{Address, Checkpoint, Number, Op};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::signed::Envelope;
use shared::time::Time;

pub use admins::{ADMINS, AdminRow, Admins};
pub use branches::{AcceptRequest, Accepted, LostEntry, SetAside};
pub use checkpoint::{CHECKPOINT, Compaction};
pub use exposure::{Borne, Copied, EXPOSURE, Exposed, ExposedKey, Exposure, KeyNow};
pub use forward::{FORWARD, FORWARDS, ForwardRow, ForwardTest, Forwards, Tested, TestedRow};
pub use headers::{AGENT, AI_AGENT, CACHE_AGE, NO_REASON, NO_WAIT, OFFLINE, REASON};
pub use hook::{HOOK, HookRequest, HookRun};
pub use kit::{
    ACTS, Act, Acts, ActsQuery, GIVEN, GiveRequest, KEPT, Kept, KeptVersion, SEALED, Sealed,
};
pub use past::{BLAST, Blast, KeysChanged, OlderKey, PAST, PastVersion, ReachedHost};
pub use review::{
    BadRecord, ENTRIES, Entries, EntriesQuery, EntryTold, Holder, Holders, KEYS, LOG, NAMES,
    OpTold, PATHS, REMOVED, Removed, ResumedAt, Unkept, VerifyFrom, VerifyQuery, VerifyResult,
    VerifyStep, Vouched, WRITERS, Writer,
};
pub use row::TargetRow;
pub use scan::{HostScan, HostScans, SCAN, ScanRequest, ScanWished};
pub use server::{ADOPT, AdoptRequest, SERVER, ServerView, Trust};
pub use shared::wire::v1::audit::{Archived, AuditPage, AuditQuery};
pub use shared::wire::v1::blob::Inline;
pub use shared::wire::v1::join::{JoinList, Waiting};
pub use shares::{NearShare, OverShare, Room, Share};
pub use standing::{Program, Standing};
pub use ui::{UI, UiLink, UiRequest, UiState, UiWidget};

/// `GET`: [`Status`].
pub const STATUS: &str = "agent/status";
/// `GET`: [`Machines`].
pub const MACHINES: &str = "agent/machines";
/// `GET`: [`JoinList`], unverified.
pub const JOIN: &str = "agent/join";
/// `GET` with an [`AuditQuery`] as query: [`AuditPage`].
pub const AUDIT: &str = "agent/audit";
/// `GET` with a [`VerifyQuery`]: [`VerifyStep`]; to be asked again, `from=here`, until that has a
/// result.
pub const AUDIT_VERIFY: &str = "agent/audit/verify";
/// `POST` a [`PrepareRequest`]: [`Prepared`].
pub const PREPARE: &str = "agent/prepare";
/// `POST` a [`SubmitRequest`]: [`Submitted`].
pub const SUBMIT: &str = "agent/submit";

/// `POST` a [`HealRequest`]: [`Healed`].
pub const HEAL: &str = "agent/heal";

/// `GET`: [`Restored`]; `POST` a [`ResumeRequest`]: [`Submitted`].
pub const RESUME: &str = "agent/resume";

/// `POST` an [`AcceptRequest`]: [`Accepted`].
pub const ACCEPT: &str = "agent/accept";

/// `GET`: [`SetAside`], or with `path=PATH` the newest version of that
/// path that was, its bare content; `DELETE`: 204, all is dropped.
pub const SET_ASIDE: &str = "agent/set-aside";

/// `POST`: 204 once this machine's report and the accesses recorded so far are with the server.
pub const SYNC: &str = "agent/sync";

/// `GET` with `after=N`: the [`Head`], once it is behind N, or after some seconds as it is.
pub const WAIT: &str = "agent/wait";

/// Asks the agent to give the server back what it has lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealRequest {
    /// The alarm to end instead: `E_AUDIT_REWRITTEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<String>,
    /// The one-time code that the server's host shows, for one that was made anew: it vouches for
    /// heads by keys that such a server does not know yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Hash>,
}

/// What was given back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// Entries.
    pub entries: u64,
    /// Blobs.
    pub blobs: u64,
    /// Versions whose blobs the server still lacks.
    pub absent: Vec<Unreadable>,
    /// Whether the server still waits for an owner to resume it.
    #[serde(default)]
    pub restored: bool,
    /// Whether the audit log lacks what this machine was shown of it: `E_AUDIT_REWRITTEN` stands.
    #[serde(default)]
    pub rewritten: bool,
}

/// Where a restored server stands, and what is lost if an owner resumes it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Whether it waits for that.
    pub restored: bool,
    /// Where its log ends.
    pub head: LogHead,
    /// The key that it runs with, if its log does not list that.
    #[serde(default)]
    pub unlisted: Option<VerifyKey>,
    /// What an act on its keys replaces.
    #[serde(default = "zeros")]
    pub was_server: Hash,
    /// Where its log says that it is.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// What an act on them replaces.
    #[serde(default = "zeros")]
    pub was_addresses: Hash,
    /// The last audit head known here that its audit log still leads to.
    pub audit: AuditHead,
    /// Root's key in its state.
    #[serde(default)]
    pub root: Option<VerifyKey>,
    /// The admins in its state.
    pub admins: Vec<Name>,
    /// The machines that are active in its state, by name.
    pub machines: Vec<MachineRow>,
    /// This machine's number there, while it is active.
    pub own: Option<Number>,
    /// Entries after its last one in common with this machine's log, as far as this machine or a
    /// verified report knows.
    pub lost: u64,
    /// What they are, as far as this machine holds them: some of the newest.
    pub entries: Vec<LostEntry>,
    /// Machines that have reported entries past this machine's last one, and how far they are.
    pub ahead: Vec<(Name, u64)>,
}

const fn zeros() -> Hash {
    Hash::ZERO
}

/// Hands over the signed entry that resumes, with the one-time code of the server's host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// The entry.
    pub envelope: Envelope,
    /// The code.
    pub code: Hash,
}

/// Largest body of a request: the largest secret with every byte escaped, and room for the rest.
pub const BODY: usize = 8 << 20;

/// How far this machine has verified the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Last verified entry.
    pub seq: u64,
}

/// The fleet as this machine sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This machine.
    pub machine: Name,
    /// The vault's id.
    pub vault: Hash,
    /// Last verified entry.
    pub seq: u64,
    /// Its hash.
    pub head: Hash,
    /// Whether the log is followed now.
    pub online: bool,
    /// Address of the server in use, or the one tried last.
    pub server: Option<String>,
    /// When this machine last knew to be up to date.
    pub synced_at: Option<Time>,
    /// Why the log is not followed, if it is not.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Whether the server has said how the other machines stand now.
    #[serde(default)]
    pub told: bool,
    /// The active machines, by name.
    #[serde(default)]
    pub machines: Vec<Standing>,
    /// Whether the server was restored and waits for its lost entries, or for an owner to resume
    /// it.
    #[serde(default)]
    pub restored: bool,
    /// Whether there are other machines but none whose silence would be noticed, as all sleep at
    /// times.
    #[serde(default)]
    pub unwatched: bool,
    /// How many keys of the server the log lists: two while it is being re-keyed.
    #[serde(default)]
    pub server_keys: usize,
    /// What needs a person, the oldest first.
    pub alarms: Vec<Alarm>,
    /// One row for each secret of each target of each machine.
    pub targets: Vec<TargetRow>,
    /// Machines whose newest signed record names other targets than the server has handed out.
    #[serde(default)]
    pub outdated: Vec<Outdated>,
    /// Machines that the server has refused something over their share in the last day, as it says.
    #[serde(default)]
    pub over: Vec<OverShare>,
    /// Machines that have taken most of a share of a day, as the server says.
    #[serde(default)]
    pub near: Vec<NearShare>,
    /// The room on the server's disk, as it says, while it is low.
    #[serde(default)]
    pub room: Option<Room>,
    /// Since when the server's own backups fail, as it says, if they do.
    #[serde(default)]
    pub backup_failing: Option<Time>,
    /// What an owner's act has left encrypted to its readers of before, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
    /// The program that the server runs, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_program: Option<Program>,
    /// Secrets that this machine reads and whose custom metadata has `rotate_after`.
    #[serde(default)]
    pub rotations: Vec<Rotation>,
}

/// Newest versions that are encrypted to other readers than today's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// How many.
    pub versions: u64,
    /// How many of them this machine may not read, and so not re-encrypt.
    pub unreadable: u64,
    /// The machine that was put out last, if its name is nobody's by now.
    pub out: Option<Name>,
}

/// A machine whose targets are not known as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outdated {
    /// The machine.
    pub machine: Name,
    /// When the report came in that its rows are of; `None` where there are none.
    pub of: Option<Time>,
    /// Whether the machine follows the log now.
    pub awake: bool,
}

/// What a secret's custom metadata says about its rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The secret.
    pub path: SecretPath,
    /// A duration since the newest version was written, or a date; as somebody wrote it.
    pub rotate_after: String,
    /// Who issues it.
    pub issuer: Option<String>,
    /// Who changes it.
    pub owner: Option<String>,
    /// When the newest version was written; `None` if its content is gone.
    pub created: Option<Time>,
}

/// A standing alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// An `E_…` code, or a lower-case word such as `config`.
    pub code: String,
    /// One sentence that names the object.
    pub text: String,
    /// When it arose.
    pub since: Time,
    /// What tells it from others of its code; nothing if there is one at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
}

/// Every machine that ever was in the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machines {
    /// By name, those of one name by number.
    pub machines: Vec<MachineRow>,
    /// The number that the next machine bears.
    pub next: Number,
    /// This machine's number, while it is active.
    pub own: Option<Number>,
    /// TLS keys that a new machine has to pin.
    pub server: Vec<VerifyKey>,
    /// What it may start from: the newest checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRow {
    /// The name; a removed one's last.
    pub name: Name,
    /// The number, which no other machine ever bears.
    pub number: Number,
    /// False once it is removed, or goes on with other keys under another number.
    pub active: bool,
    /// Whether its silence is normal.
    pub sleeps: bool,
    /// Its signing key.
    pub sign: VerifyKey,
    /// What it reads.
    pub read: Grants,
    /// What it writes.
    pub write: Grants,
    /// When its latest report came in.
    pub seen_at: Option<Time>,
    /// Version of its agent, as reported.
    pub agent: Option<String>,
}

/// Asks the agent to build an entry for an owner to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareRequest {
    /// What is to be done; re-encryptions that follow from it are added by the agent.
    pub ops: Vec<Op>,
    /// Who will sign.
    pub actor: Actor,
    /// Whether earlier versions that are kept are re-encrypted, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
}

/// An owner's act on today's head, to be signed. The signer checks the bodies alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The entries' very bytes, base64 in JSON, in the order to sign and submit them: one, unless
    /// it were too large. The agent holds the blobs that they name until they are submitted.
    pub bodies: Vec<Inline>,
    /// Versions whose readers change but which this machine cannot re-encrypt.
    pub unreadable: Vec<Unreadable>,
    /// Whether more re-encryptions follow, to be prepared without operations.
    pub left: bool,
    /// How many re-encryptions are due in all, those prepared here among them.
    #[serde(default)]
    pub due: u64,
    /// How many earlier versions a machine that gets new keys could read, and cannot any more.
    #[serde(default)]
    pub behind: u64,
}

/// A version that stays as it is because the preparing machine cannot read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// The secret.
    pub path: SecretPath,
    /// The version.
    pub ver: u64,
}

/// Where an entry stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its number.
    pub seq: u64,
    /// Its hash: the head that it made.
    pub head: Hash,
}

/// Hands a signed entry over. Answered [`Submitted`], or 409 when the log moved on: prepare again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// A prepared body, signed.
    pub envelope: Envelope,
}
