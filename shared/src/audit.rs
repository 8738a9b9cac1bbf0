//! Audit records and their hash chain. Keeping and filtering them lives in the server.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::log;
use crate::name::Name;
use crate::path::SecretPath;
use crate::text::Text;
use crate::time::Time;

const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

/// Longest word for what was asked or what came of it, in bytes.
const WORD: usize = 64;

/// Makes an enum whose values are words in JSON; a word that this program does not know is kept as
/// it is.
macro_rules! words {
    (
        $(#[$about:meta])* $name:ident:
        $($(#[$doc:meta])* $word:ident = $text:literal,)*
        $(| $(#[$more:meta])* $carrier:ident($carried:ty),)?
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $word,)*
            $($(#[$more])* $carrier($carried),)?
            /// A word of a newer program's: readers show it as it stands.
            Newer(Text<WORD>),
        }

        impl $name {
            /// Returns the word.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$word => $text,)*
                    $(Self::$carrier(carried) => carried.as_str(),)?
                    Self::Newer(text) => text.as_str(),
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$word,)*
                    other => {
                        $(if let Some(carried) = <$carried>::from_text(other) {
                            return Self::$carrier(carried);
                        })?
                        Self::Newer(Text::lossy(other))
                    }
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                Ok(Self::from(String::deserialize(deserializer)?.as_str()))
            }
        }
    };
}

words! {
    /// What was asked or done: the log's operations, requests to the server, and what agents say of
    /// local callers.
    #[expect(missing_docs, reason = "the words say it")]
    Op:
    AdminAdd = "admin_add",
    AdminRemove = "admin_remove",
    RootSet = "root_set",
    RecoverySet = "recovery_set",
    ServerSet = "server_set",
    AddressesSet = "addresses_set",
    MountSet = "mount_set",
    MountDrop = "mount_drop",
    MachineAdd = "machine_add",
    MachineRename = "machine_rename",
    MachineRekey = "machine_rekey",
    MachineSet = "machine_set",
    MachineRemove = "machine_remove",
    AccessSet = "access_set",
    Put = "put",
    Rewrap = "rewrap",
    Delete = "delete",
    Undelete = "undelete",
    Destroy = "destroy",
    MetaSet = "meta_set",
    Forget = "forget",
    Resume = "resume",
    FormatSet = "format_set",
    /// An entry that is not even JSON.
    Append = "append",
    Genesis = "genesis",
    /// A page of the log.
    Log = "log",
    /// The log, to be followed.
    Follow = "follow",
    Read = "read",
    /// A blob rode along with its entry.
    Deliver = "deliver",
    BlobPut = "blob_put",
    Report = "report",
    /// Everybody's latest report.
    Targets = "targets",
    /// The database was found to be set back: a caller, or the file beside it, held a signed head
    /// that it lacks.
    Restored = "restored",
    /// A batch of local accesses, if it was refused.
    Access = "access",
    AuditRead = "audit_read",
    AuditLeaves = "audit_leaves",
    /// What a server has lost was given back.
    Heal = "heal",
    /// Two processes used one machine's keys in turn: one record for each address.
    Clone = "clone",
    /// A request that no rule has seen.
    Request = "request",
    /// Requests by a key that belongs to no active machine.
    Stranger = "stranger",
    LocalRead = "local_read",
    LocalList = "local_list",
    LocalMetadata = "local_metadata",
    LocalSubkeys = "local_subkeys",
    LocalPut = "local_put",
    LocalPatch = "local_patch",
    LocalDelete = "local_delete",
    LocalUndelete = "local_undelete",
    LocalDestroy = "local_destroy",
    LocalForget = "local_forget",
}

/// What an operation amounts to, however it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Content reached a machine, or a process on it.
    Read,
    /// A secret was changed.
    Write,
    /// Something was done to the vault itself: machines, access, admins, mounts, keys.
    Act,
    /// All else: names, metadata, the log, the audit.
    Other,
}

/// The words of each kind, but for [`Kind::Other`].
const KINDS: [(Kind, &[&str]); 3] = [
    (Kind::Read, &["read", "deliver", "local_read"]),
    (
        Kind::Write,
        &[
            "put",
            "delete",
            "undelete",
            "destroy",
            "meta_set",
            "forget",
            "local_put",
            "local_patch",
            "local_delete",
            "local_undelete",
            "local_destroy",
            "local_forget",
        ],
    ),
    (
        Kind::Act,
        &[
            "genesis",
            "admin_add",
            "admin_remove",
            "root_set",
            "recovery_set",
            "server_set",
            "addresses_set",
            "mount_set",
            "mount_drop",
            "machine_add",
            "machine_rename",
            "machine_rekey",
            "machine_set",
            "machine_remove",
            "access_set",
            "resume",
            "format_set",
        ],
    ),
];

impl Op {
    /// Tells whether a machine tells this of itself, rather than the server having seen it.
    pub fn is_local(&self) -> bool {
        self.as_str().starts_with("local_")
    }

    /// Returns what it amounts to.
    pub fn kind(&self) -> Kind {
        let found = KINDS.iter().find(|(_, words)| words.contains(&self.as_str()));
        found.map_or(Kind::Other, |(kind, _)| *kind)
    }

    /// Returns the words of all operations that somebody means who asks for this one: for `read`
    /// every way in which content is delivered; for `write` and `act` all of that kind; else the
    /// operation itself, and what a machine tells of the same.
    pub fn meant(&self) -> Vec<String> {
        let kind = match self.as_str() {
            "read" => Kind::Read,
            "write" => Kind::Write,
            "act" => Kind::Act,
            own => return vec![own.to_owned(), format!("local_{own}")],
        };
        let words = KINDS.iter().filter(|(of, _)| *of == kind).flat_map(|(_, words)| *words);
        words.map(|word| (*word).to_owned()).collect()
    }
}

impl From<&log::Op> for Op {
    fn from(op: &log::Op) -> Self {
        Self::from(op.name())
    }
}

words! {
    /// What came of it.
    Outcome:
    /// It was done as asked.
    Ok = "ok",
    /// There is no such thing.
    Missing = "missing",
    /// The version was deleted or destroyed.
    Deleted = "deleted",
    /// The entry was built on an old head.
    Conflict = "conflict",
    /// An agent refused a local caller.
    Denied = "denied",
    /// An agent could not get the content.
    Unavailable = "unavailable",
    /// The key belongs to no active machine.
    Forbidden = "forbidden",
    /// There is no such route.
    NotFound = "not_found",
    /// The route does not know the method.
    MethodNotAllowed = "method_not_allowed",
    /// The request is malformed.
    BadRequest = "bad_request",
    /// The body is over the limit.
    TooLarge = "too_large",
    /// The body did not arrive in time.
    Timeout = "timeout",
    /// The connection ended before the request was whole.
    BrokeOff = "broke_off",
    /// A server that was set back does not do it.
    Restored = "restored",
    /// The machine is over its share.
    Limited = "over_share",
    |
    /// A rule refused it.
    Refused(Code),
}

impl Outcome {
    /// Tells whether it was answered as asked: to find nothing is an answer.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Ok | Self::Missing | Self::Deleted)
    }

    /// Tells whether somebody was refused: to find nothing is an answer, and a race that was lost, a
    /// connection that ended, or a server that is away refuses nobody. What a newer program calls
    /// otherwise counts as refused, so that nobody overlooks it.
    pub fn is_refusal(&self) -> bool {
        !self.is_done() && !matches!(self, Self::Conflict | Self::Unavailable | Self::BrokeOff)
    }
}

/// Process and user on a machine, as the machine tells, e.g. `python3[812] uid 1000`; or the signer
/// of an entry.
pub type Who = Text<256>;

/// One thing that was asked or done, wherever it is told: by an agent, on the wire, in a record.
/// Absent fields are left out of the JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// The machine's clock, for local accesses, as the machine tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<Time>,
    /// Active machine whose key made the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub machine: Option<Name>,
    /// Key that made the request, when no active machine holds it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<Text<64>>,
    /// Process and user, for local accesses; the signer, where it is not the machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub who: Option<Who>,
    /// Peer address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub addr: Option<Text<64>>,
    /// What was asked or done.
    pub op: Op,
    /// The secret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<SecretPath>,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ver: Option<u64>,
    /// Log entry that the request made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<u64>,
    /// How many alike requests this stands for, if more than one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// What came of it.
    pub result: Outcome,
}

impl Fact {
    /// Starts a fact of which nothing else is known, done as asked.
    pub const fn new(op: Op) -> Self {
        Self {
            at: None,
            machine: None,
            key: None,
            who: None,
            addr: None,
            op,
            path: None,
            ver: None,
            seq: None,
            count: None,
            result: Outcome::Ok,
        }
    }

    /// Tells whether somebody was refused, as far as a result and what was asked tell.
    pub fn is_refusal(&self) -> bool {
        let is_innocent = match (&self.op, &self.result) {
            // A report that a later one has overtaken, as when a connection was lost between them.
            (Op::Report, Outcome::Refused(Code::Seq)) => true,
            // There is no such blob: the version was destroyed, or replaced long ago.
            (Op::Read, Outcome::Refused(Code::BlobAbsent)) => true,
            (_, result) => !result.is_refusal(),
        };
        !is_innocent
    }
}

/// One audit record: a fact and its place in the chain, as the server writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Position in the chain; the first record has 1.
    pub n: u64,
    /// 32 random bytes: a leaf tells nothing about its record.
    pub nonce: Hash,
    /// The server's clock.
    pub time: Time,
    /// What it says.
    #[serde(flatten)]
    pub fact: Fact,
}

impl Record {
    /// Reads a record's JSON bytes; fields of a newer program's are passed over.
    ///
    /// # Errors
    /// `E_PARSE`.
    pub fn parse(json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Place {
            n: u64,
            nonce: Hash,
            time: Time,
        }
        let malformed =
            |why: serde_json::Error| Code::Parse.because(format!("audit record: {why}"));
        // Two passes: numbers of any precision do not go through serde's `flatten`.
        let Place { n, nonce, time } = serde_json::from_slice(json).map_err(malformed)?;
        let fact = serde_json::from_slice(json).map_err(malformed)?;
        Ok(Self { n, nonce, time, fact })
    }
}

/// Hashes a record's JSON bytes.
pub fn leaf(record: &[u8]) -> Hash {
    Hash::of(&[LEAF, record])
}

/// Links a leaf to the chain's value before it; the chain starts at zeros.
pub fn link(before: Hash, leaf: Hash) -> Hash {
    Hash::of(&[NODE, before.as_bytes(), leaf.as_bytes()])
}

/// A position in the chain and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// Number of records.
    pub n: u64,
    /// Chain value after the last.
    pub hash: Hash,
}

impl AuditHead {
    /// The head of an empty chain.
    pub const EMPTY: Self = Self { n: 0, hash: Hash::ZERO };

    /// Returns the head after one more leaf.
    #[must_use]
    pub fn then(self, leaf: Hash) -> Self {
        Self { n: self.n + 1, hash: link(self.hash, leaf) }
    }

    /// Checks the next record of the chain and returns the head after it.
    ///
    /// # Errors
    /// `E_PARSE` for a record that is not JSON, `E_AUDIT_REWRITTEN` for one out of place.
    pub fn follow(self, record: &[u8]) -> Result<(Self, Record)> {
        let parsed = Record::parse(record)?;
        if parsed.n != self.n + 1 {
            let why = format!("audit record {} stands where {} is due", parsed.n, self.n + 1);
            return Err(Code::AuditRewritten.because(why));
        }
        Ok((self.then(leaf(record)), parsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_what_the_specification_says() {
        let record = br#"{"n":1}"#;
        let first = Hash::of(&[&[1], &[0; 32], Hash::of(&[&[0], record]).as_bytes()]);
        assert_eq!(AuditHead::EMPTY.then(leaf(record)), AuditHead { n: 1, hash: first });
    }

    fn record(op: &str, result: &str, more: &str) -> Record {
        let nonce = "00".repeat(32);
        let text = format!(
            r#"{{"n":1,"nonce":"{nonce}","time":0,"op":"{op}"{more},"result":"{result}"}}"#
        );
        let record = Record::parse(text.as_bytes()).unwrap();
        if more.is_empty() {
            assert_eq!(serde_json::to_string(&record).unwrap(), text);
        }
        record
    }

    #[test]
    fn neither_finding_nothing_nor_bad_luck_is_a_refusal() {
        for result in ["ok", "missing", "deleted", "conflict", "unavailable", "broke_off"] {
            assert!(!record("local_read", result, "").fact.result.is_refusal(), "{result}");
        }
        for result in ["denied", "E_DENIED", "forbidden", "timeout", "", "of_tomorrow"] {
            assert!(record("local_read", result, "").fact.result.is_refusal(), "{result}");
        }
    }

    #[test]
    fn a_race_on_reconnecting_refuses_nobody() {
        for (op, result, expected) in [
            ("report", "E_SEQ", false),
            ("report", "E_BADSIG", true),
            ("read", "E_BLOB_ABSENT", false),
            ("read", "E_DENIED", true),
            ("put", "E_BLOB_ABSENT", true),
            ("put", "conflict", false),
            ("request", "broke_off", false),
        ] {
            assert_eq!(record(op, result, "").fact.is_refusal(), expected, "{op} {result}");
        }
    }

    #[test]
    fn a_record_of_a_newer_server_is_read_and_shown_as_it_stands() {
        let Fact { op, result, ver, .. } =
            record("machine_rekey", "E_TOMORROW", r#","epoch":{"n":1},"ver":7"#).fact;
        assert_eq!((op.as_str(), result.as_str(), ver), ("machine_rekey", "E_TOMORROW", Some(7)));
        let known = record("put", "E_DENIED", "").fact;
        assert_eq!((known.op, known.result), (Op::Put, Outcome::Refused(Code::Denied)));
        let steering = record(r"read\u001b[2J", "ok", r#","x":1"#).fact.op;
        assert_eq!(steering.as_str(), r"read\u001b[2J");
    }

    #[test]
    fn a_read_is_a_read_however_it_was_delivered() {
        let check = |asked: &str, expected: &[&str]| {
            assert_eq!(Op::from(asked).meant(), expected);
        };
        check("read", &["read", "deliver", "local_read"]);
        check("deliver", &["deliver", "local_deliver"]);
        check("put", &["put", "local_put"]);
        check("local_read", &["local_read", "local_local_read"]);
        assert!(Op::from("write").meant().contains(&"local_patch".to_owned()));
        assert!(Op::from("act").meant().contains(&"machine_remove".to_owned()));
        let known = KINDS.iter().flat_map(|(_, words)| *words).map(|word| Op::from(*word));
        assert!(known.into_iter().all(|op| !matches!(op, Op::Newer(_))), "{KINDS:?}");
        for (op, kind) in [
            (Op::Deliver, Kind::Read),
            (Op::LocalPatch, Kind::Write),
            (Op::AccessSet, Kind::Act),
            (Op::LocalSubkeys, Kind::Other),
            (Op::from("of_tomorrow"), Kind::Other),
        ] {
            assert_eq!(op.kind(), kind, "{op}");
        }
    }

    #[test]
    fn a_record_out_of_place_is_named() {
        let record = br#"{"n":3,"nonce":"0000000000000000000000000000000000000000000000000000000000000000","time":0,"op":"read","result":"ok"}"#;
        let fault = AuditHead::EMPTY.follow(record).unwrap_err();
        assert_eq!(
            (fault.code, fault.detail.as_str()),
            (Code::AuditRewritten, "audit record 3 stands where 1 is due")
        );
    }
}
