//! Bodies of the agent's own local routes, `/v1/agent/…`: written by `api`, read by `cli`.
//!
//! Shapes only. Times are integers (microseconds since the epoch); who shows them turns them into
//! RFC 3339. Errors are Vault's: `{"errors":["…"]}`, a hint being a further line of the text.

mod review;
mod shares;

use serde::{Deserialize, Serialize};
use shared::audit::AuditHead;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::head::Head as LogHead;
use shared::keys::{Recipient, VerifyKey};
use shared::log::{Number, Op};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::report::{HookResult, TargetState};
use shared::signed::Envelope;
use shared::time::Time;

pub use review::{
    BadRecord, ENTRIES, Entries, EntriesQuery, EntryTold, Holder, Holders, KEYS, LOG, OpTold,
    PATHS, ResumedAt, Unkept, VerifyResult,
};
pub use shared::wire::v1::audit::{Archived, AuditPage, AuditQuery};
pub use shared::wire::v1::blob::Inline;
pub use shares::{OverShare, Room, Share};

/// `GET`: [`Status`].
pub const STATUS: &str = "agent/status";
/// `GET`: [`Machines`].
pub const MACHINES: &str = "agent/machines";
/// `GET` with `machine=NAME` or `machine=NUMBER` as query: [`Exposure`].
pub const EXPOSURE: &str = "agent/exposure";
/// `GET` with an [`AuditQuery`] as query: [`AuditPage`].
pub const AUDIT: &str = "agent/audit";
/// `GET`: [`VerifyResult`].
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

/// `GET`: [`Sample`].
pub const SAMPLE: &str = "agent/sample";

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
}

/// Where a restored server stands, and what is lost if an owner resumes it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Whether it waits for that.
    pub restored: bool,
    /// Where its log ends.
    pub head: LogHead,
    /// The last audit head known here that its audit log still leads to.
    pub audit: AuditHead,
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

/// An entry that the vault has gone on without, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEntry {
    /// Its number.
    pub seq: u64,
    /// When it was made, by its signer's clock.
    pub time: Time,
    /// Who signed it.
    pub by: Actor,
    /// Whether this machine did.
    pub own: bool,
    /// Its operations in words, e.g. `put secret/a version 3`; some of them.
    pub what: Vec<String>,
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

/// Ends `E_FORK`: the history that holds this head is the true one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// The head, as an admin has confirmed it.
    pub head: LogHead,
}

/// What became of an accepted head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Entries that were set aside for it.
    pub set_aside: u64,
    /// Last verified entry now.
    pub seq: u64,
}

/// What this machine has set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// All of the entries.
    pub count: u64,
    /// Some of the newest, in the order in which they stood.
    pub entries: Vec<LostEntry>,
}

/// What a recovery kit must match, and a secret that it must open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The vault.
    pub vault: Hash,
    /// Root's key.
    pub root: VerifyKey,
    /// The recovery recipient.
    pub recovery: Recipient,
    /// A secret, if this machine reads one.
    pub secret: Option<SampleSecret>,
}

/// A version of a secret, encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleSecret {
    /// The secret.
    pub path: SecretPath,
    /// The version.
    pub ver: u64,
    /// The blob's hash.
    pub blob: Hash,
    /// Its size.
    pub size: u64,
    /// The commitment to the content.
    pub commit: Hash,
    /// How many it is encrypted to.
    pub readers: u64,
    /// The age file.
    pub bytes: Inline,
}

/// Request header, any value: the server is not asked, what this machine holds must do.
pub const OFFLINE: &str = "x-vault-offline";
/// Largest body of a request: the largest secret with every byte escaped, and room for the rest.
pub const BODY: usize = 8 << 20;
/// Response header: seconds since the content was last known to be the newest; only while the
/// server is away.
pub const CACHE_AGE: &str = "x-vault-cache-age";

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
    /// Whether the server was restored and waits for its lost entries, or for an owner to resume
    /// it.
    #[serde(default)]
    pub restored: bool,
    /// Whether there are other machines but none whose silence would be noticed, as all sleep at
    /// times.
    #[serde(default)]
    pub unwatched: bool,
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
    /// The room on the server's disk, as it says, while it is low.
    #[serde(default)]
    pub room: Option<Room>,
    /// Secrets that this machine reads and whose custom metadata has `rotate_after`.
    #[serde(default)]
    pub rotations: Vec<Rotation>,
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
}

/// What one machine's report says about one secret of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRow {
    /// The machine.
    pub machine: Name,
    /// The file, as the machine names it.
    pub target: String,
    /// The secret.
    pub secret: SecretPath,
    /// Newest version in the log.
    pub wanted: u64,
    /// Whether that was written some seconds ago: nobody is late for it yet.
    #[serde(default)]
    pub fresh: bool,
    /// Version in the file, 0 for none.
    pub applied: u64,
    /// What became of the hook's last run.
    pub hook: HookResult,
    /// When the machine's report came in, as the server says.
    pub seen_at: Option<Time>,
    /// Whether the machine follows the log now, as the server says.
    pub awake: bool,
    /// Whether the machine has signed other targets since, which the server has not handed out.
    #[serde(default)]
    pub outdated: bool,
    /// How the file stands.
    pub state: TargetState,
    /// What is the matter with file or hook; nothing if all is well.
    #[serde(default)]
    pub detail: String,
}

impl TargetRow {
    /// Tells whether the file holds another version than the newest, and has had the time for it.
    pub const fn lags(&self) -> bool {
        self.applied != self.wanted && !self.fresh
    }

    /// Tells whether its machine has an alarm about it: its hook has failed, or the file cannot be
    /// written, is not what it should be, or is too old.
    pub const fn fails(&self) -> bool {
        self.hook.is_trouble() || self.state.is_trouble()
    }

    /// Tells whether the file is as its machine wants it.
    pub fn is_right(&self) -> bool {
        self.state == TargetState::Ok
    }

    /// Returns what people should know of it, in one line; nothing if all is well.
    pub fn remark(&self) -> Option<String> {
        let hook = !matches!(self.hook, HookResult::None | HookResult::Ok);
        let file = !self.is_right() || (!hook && !self.detail.is_empty());
        let words = match (file, hook) {
            (false, false) => return None,
            (true, false) => self.state.to_string(),
            (false, true) => format!("hook {}", self.hook),
            (true, true) => format!("{}, hook {}", self.state, self.hook),
        };
        Some(if self.detail.is_empty() { words } else { format!("{words}: {}", self.detail) })
    }
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

/// Everything that was ever encrypted to a machine as it is now in the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// By path.
    pub secrets: Vec<Exposed>,
}

/// One secret that a machine could read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// The secret.
    pub path: SecretPath,
    /// The versions, in order.
    pub versions: Vec<u64>,
    /// Whether the newest version of the secret is among them.
    pub current: bool,
}

/// Asks the agent to build an entry for an owner to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareRequest {
    /// What is to be done; re-encryptions that follow from it are added by the agent.
    pub ops: Vec<Op>,
    /// Who will sign.
    pub actor: Actor,
}

/// An owner's act on today's head, ready to be signed. The signer checks the bodies and nothing
/// else of this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The entries' very bytes, base64 in JSON, in the order to sign and submit them: one, unless
    /// it were too large. The agent holds the blobs that they name until they are submitted.
    pub bodies: Vec<Inline>,
    /// Versions whose readers change but which this machine cannot re-encrypt.
    pub unreadable: Vec<Unreadable>,
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
