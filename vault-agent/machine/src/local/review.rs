//! What a review asks of an agent beside audit records: entries of the log in words, who wrote
//! which version, which machines are out, which secrets hold a key, and whether the chain is whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::audit::{AuditHead, Fact, Op};
use shared::hash::Hash;
use shared::keys::VerifyKey;
use shared::log::Number;
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::time::Time;

/// `GET` with an [`EntriesQuery`] as query: [`Entries`].
pub const LOG: &str = "agent/log";
/// `GET` with `name=NAME`, in which `*` stands for any text: [`Holders`].
pub const KEYS: &str = "agent/keys";
/// `GET` with `machine=NAME`, or its number: each name that the machine bore, as a list of
/// [`Borne`](super::Borne), oldest first.
pub const NAMES: &str = "agent/names";
/// `GET`: the path of every secret that is or was there, as a list.
pub const PATHS: &str = "agent/paths";
/// `GET` with `path=PATH`: a [`Writer`] for each version of the secret that is not forgotten, as a
/// list, oldest first.
pub const WRITERS: &str = "agent/writers";
/// `GET`: a [`Removed`] for each machine that is in the vault no more, as a list, oldest first.
pub const REMOVED: &str = "agent/removed";

/// Most entries in one answer.
pub const ENTRIES: u64 = 500;

/// Which entries are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntriesQuery {
    /// These alone: their numbers, with commas between them; 0 is the genesis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// The newest before this one, unless `only` names some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// How many of the newest, [`ENTRIES`] at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// All operations of each, re-encryptions too; else some of them, and counts.
    pub whole: bool,
}

impl EntriesQuery {
    /// Returns the parameters that say something, by name; values are still to be encoded.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let Self { only, before, limit, whole } = self;
        let all = [
            ("only", only.clone()),
            ("before", before.map(|n| n.to_string())),
            ("limit", limit.map(|n| n.to_string())),
            ("whole", whole.then(|| true.to_string())),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Entries of the verified log, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// Those that are there.
    pub entries: Vec<EntryTold>,
    /// Number of the newest entry of the log.
    pub last: u64,
    /// The last entry that a checkpoint stands for, if one does: nothing is told of those up to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<u64>,
}

/// One entry in words, with the names that machines bore then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryTold {
    /// Its number.
    pub seq: u64,
    /// Its hash: the head that it made.
    pub hash: Hash,
    /// Hash of the entry before.
    pub prev: Hash,
    /// When it was made, by its signer's clock.
    pub time: Time,
    /// Who signed it.
    pub by: Actor,
    /// The key that its signature verifies with, the signer's at that time.
    pub key: Option<VerifyKey>,
    /// What it does.
    pub ops: Vec<OpTold>,
    /// Versions that it re-encrypts.
    pub rewraps: u64,
    /// Operations that are not told.
    pub more: u64,
}

/// One operation in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpTold {
    /// Its name in the entry, e.g. `machine_remove`.
    pub op: String,
    /// What it did, e.g. `removed vps: stolen`.
    pub what: String,
    /// The secret that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<SecretPath>,
    /// The version that it brings, if it brings one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ver: Option<u64>,
}

/// Who wrote a version, as the verified log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// The version.
    pub ver: u64,
    /// Who signed it, by the name that they bore then.
    pub by: Actor,
}

/// How a machine went, as the verified log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Its number.
    pub number: Number,
    /// The entry that took it out.
    pub entry: u64,
    /// When that was, by the signer's clock.
    pub time: Time,
    /// Who signed it.
    pub by: Actor,
    /// Why, if anybody said so.
    pub reason: String,
    /// The number under which it goes on, if it got other keys.
    pub goes_on: Option<Number>,
}

/// Which secrets hold a key, as far as what lies on this machine tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holders {
    /// By path.
    pub secrets: Vec<Holder>,
    /// Secrets whose newest version was looked into.
    pub searched: u64,
    /// Secrets whose newest version is not on this machine, or does not open.
    pub unread: u64,
    /// Earlier versions that are not on this machine.
    pub earlier: u64,
    /// Keys that look alike, if no secret holds the one.
    pub alike: Vec<String>,
}

/// A secret that holds the key, or held it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The secret.
    pub path: SecretPath,
    /// Versions that hold the key.
    pub holds: Vec<u64>,
    /// Versions that do not. Of others this machine does not know.
    pub lacks: Vec<u64>,
}

impl Holder {
    /// Tells whether a record is about a version that holds the key, as far as one knows.
    #[must_use]
    pub fn concerns(&self, fact: &Fact) -> bool {
        // What was looked at to find the secrets is no news.
        let is_look = fact.op == Op::LocalSubkeys;
        let lacks = fact.ver.is_some_and(|ver| self.lacks.contains(&ver));
        fact.path.as_ref() == Some(&self.path) && !is_look && !lacks
    }
}

/// Query of a verify.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct VerifyQuery {
    /// Where it begins.
    #[serde(default)]
    pub from: VerifyFrom,
}

/// Where a piece of a verify begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyFrom {
    /// Where a stopped one was, if all that is claimed now can still be met; else at the first
    /// record.
    #[default]
    Stopped,
    /// At the first record.
    Anew,
    /// Where the piece before has ended.
    Here,
}

impl VerifyFrom {
    /// Returns the parameters of the query.
    pub fn parameters(self) -> Vec<(&'static str, String)> {
        match self {
            Self::Stopped => Vec::new(),
            Self::Anew => vec![("from", "anew".to_owned())],
            Self::Here => vec![("from", "here".to_owned())],
        }
    }
}

/// How far a verify of the audit chain is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyStep {
    /// When it began: a stopped one is gone on with.
    pub begun: Time,
    /// Records so far.
    pub checked: u64,
    /// The last record that is to be checked.
    pub goal: u64,
    /// What came of it, at the end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<VerifyResult>,
}

/// How far the audit chain is vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// This machine.
    pub own: Name,
    /// The record that it has followed the chain to, 0 for none.
    pub followed: u64,
    /// The newest record whose head each of the others has signed, as far as is known here.
    pub signed: BTreeMap<Name, u64>,
}

/// What a check of the whole audit chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyResult {
    /// Records that are whole; with a bad one, those up to the last signed head that agreed.
    pub checked: u64,
    /// The chain after the last good record.
    pub head: AuditHead,
    /// Signed audit heads that the chain was compared with.
    pub anchors: u64,
    /// Where the server was restored, oldest first.
    #[serde(default)]
    pub restored: Vec<ResumedAt>,
    /// The first record that does not fit, if any.
    pub bad: Option<BadRecord>,
    /// The records that the server has no longer, if any: they could not be checked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unkept: Option<Unkept>,
}

/// The records up to one that the server has no longer: past the bound of its archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unkept {
    /// The last of them.
    pub last: u64,
    /// When it was written, as the server says.
    pub until: Time,
    /// The chain after it, where the check began.
    pub hash: Hash,
}

/// Where an owner has resumed a server that was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumedAt {
    /// The last audit record before the restore.
    pub n: u64,
    /// When it was resumed, by the owner's clock.
    pub time: Time,
    /// Who resumed it.
    pub by: Actor,
}

/// The first record that breaks the audit chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRecord {
    /// Its number.
    pub n: u64,
    /// What is wrong, in lower case.
    pub reason: String,
}
