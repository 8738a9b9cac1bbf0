//! The words in audit records: what was asked or done, what that amounts to, and what came of it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Code;
use crate::log;
use crate::text::Text;

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
            /// The words that this program knows.
            pub const KNOWN: &'static [&'static str] = &[$($text,)*];

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
    Checkpoint = "checkpoint",
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
    /// A key of no machine asked to become one.
    Join = "join",
    /// A request that no rule has seen.
    Request = "request",
    /// Requests by a key that belongs to no active machine.
    Stranger = "stranger",
    LocalRead = "local_read",
    LocalList = "local_list",
    LocalMetadata = "local_metadata",
    LocalMetaSet = "local_meta_set",
    LocalSubkeys = "local_subkeys",
    LocalPut = "local_put",
    LocalPatch = "local_patch",
    LocalDelete = "local_delete",
    LocalUndelete = "local_undelete",
    LocalDestroy = "local_destroy",
    LocalForget = "local_forget",
    /// A target file has got another version.
    LocalApplied = "local_applied",
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
            "local_meta_set",
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
            "checkpoint",
            "format_set",
        ],
    ),
];

impl Op {
    /// Tells whether a machine tells this of itself, rather than the server having seen it.
    pub fn is_local(&self) -> bool {
        self.as_str().starts_with("local_")
    }

    /// Tells whether agents ask this all the time, whatever anybody does.
    pub fn is_machinery(&self) -> bool {
        const OPS: [Op; 7] = [
            Op::Log,
            Op::Follow,
            Op::BlobPut,
            Op::Report,
            Op::Targets,
            Op::AuditRead,
            Op::AuditLeaves,
        ];
        OPS.contains(self)
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
    /// An agent refused a caller who gave no reason.
    NoReason = "no_reason",
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

    /// Tells whether somebody was refused: to find nothing is an answer, and a race that was lost,
    /// a connection that ended, or a server that is away refuses nobody. What a newer program
    /// calls otherwise counts as refused, so that nobody overlooks it.
    pub fn is_refusal(&self) -> bool {
        !self.is_done() && !matches!(self, Self::Conflict | Self::Unavailable | Self::BrokeOff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (Op::LocalMetaSet, Kind::Write),
            (Op::LocalSubkeys, Kind::Other),
            (Op::from("of_tomorrow"), Kind::Other),
        ] {
            assert_eq!(op.kind(), kind, "{op}");
        }
    }
}
