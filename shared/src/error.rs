//! The `E_…` codes: what each means in one sentence, and what to do about it.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $sentence:literal, $hint:literal;)*) => {
        /// One reason for which a record, a blob or a peer is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $sentence] $name,)* }

        impl Code {
            /// Every code, in the order of this file.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the code as shown and sent, e.g. `E_BADSIG`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Returns what the code means, as one sentence without a full stop.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }

            /// Returns the way out, as one sentence without a full stop.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

codes! {
    // The writer's fault: an entry or a report that no rule allows.
    Limits = "E_LIMITS", "a size or count is over its limit", "split the change into smaller ones";
    UnknownActor = "E_UNKNOWN_ACTOR",
        "the signer is not an active actor of this vault",
        "if this host has other keys in the vault, as after `vault machine rekey`, run that again: \
         it has them take over; if it was removed, `vault machine add` brings it back with new \
         keys, once its state is moved away; `vault admin list` names the admins";
    BadSig = "E_BADSIG",
        "the signature does not verify",
        "check that the key belongs to this vault and that nothing between the hosts rewrites \
         bytes";
    Parse = "E_PARSE",
        "the record is not in its one canonical form",
        "write records only with this program's own version";
    Actor = "E_ACTOR",
        "the signed actor differs from the envelope's",
        "somebody relabelled a record: look at the audit log";
    Seq = "E_SEQ", "the entry's number does not follow the last one", "sync and write again";
    Prev = "E_PREV", "the entry was built on another head", "sync and write again";
    Denied = "E_DENIED", "the actor has no right to this", "ask an admin for `vault access set`";
    Name = "E_NAME",
        "the name breaks the grammar",
        "use 1 to 32 of a to z, 0 to 9 and `-`, not starting with `-`, not digits only";
    Path = "E_PATH",
        "the path breaks the grammar",
        "use mount/name: 2 to 32 segments of 1 to 255 bytes, 1,024 bytes in all, in Unicode's \
         form NFC";
    Key = "E_KEY", "the key is malformed, weak, or was used before", "make a fresh key";
    Version = "E_VERSION", "the version is not the one that is due", "sync and write again";
    Readers = "E_READERS",
        "the blob was made for other readers than today's",
        "sync and write again";
    Commit = "E_COMMIT",
        "a re-encryption changed the content commitment",
        "re-encrypt the very content of that version";
    BlobReuse = "E_BLOB_REUSE",
        "the blob was used before",
        "encrypt anew: every version has its own blob";
    Exists = "E_EXISTS", "the name is taken", "choose another name, or remove the old one first";
    Moved = "E_MOVED",
        "somebody has changed it since it was looked at",
        "look again, then repeat the command if it is still wanted";
    Clock = "E_CLOCK",
        "the clocks of this machine and of the server are minutes apart",
        "mend the clock that is wrong, with `timedatectl set-ntp true` or chrony, then write again";
    Checkpoint = "E_CHECKPOINT",
        "a checkpoint names another state than the log leads to",
        "nothing was taken over; whoever signed or sent it shows another history: compare `vault log` \
         on two hosts, and look at that admin's host";
    Upgrade = "E_UPGRADE",
        "a newer program wrote this",
        "install the newer programs here, as a package, or with `vault machine add --ssh` on a \
         host that has them; until then files stay as they are, and reads are answered from the \
         cache";
    Missing = "E_MISSING",
        "the named thing does not exist",
        "check the spelling with `vault kv list` or `vault machine list`";

    Report = "E_REPORT",
        "the report names a head or an audit head that the server has not given out",
        "restart the agent; if it stays, look at that machine: another program may use its key";

    // The blob's fault: what a reader refuses to open.
    BlobAbsent = "E_BLOB_ABSENT",
        "the server does not hold the blob",
        "machines that have it cached still answer; run `vault heal` on each that reads it";
    BlobSize = "E_BLOB_SIZE",
        "the blob's size differs from the log's",
        "the last good content stays; look at the server's disk";
    BlobHash = "E_BLOB_HASH",
        "the blob's hash differs from the log's",
        "the last good content stays; look at the server's disk";
    BlobStanzas = "E_BLOB_STANZAS",
        "the blob is encrypted to another number of recipients than the log says",
        "the last good content stays; ask who wrote this version";
    BlobOpen = "E_BLOB_OPEN",
        "the blob does not open with this machine's key",
        "the last good content stays; ask an admin to re-encrypt with `vault access set`";
    NotAReader = "E_NOT_A_READER",
        "this machine could not read the secret yet when the version was written",
        "`vault kv get -version` on a machine that could shows it, and `vault kv rollback` there \
         makes it the newest, for all who may read it now";
    BlobContext = "E_BLOB_CONTEXT",
        "the blob was made for another vault, path or version",
        "the last good content stays; ask who wrote this version";
    BlobCommit = "E_BLOB_COMMIT",
        "the content does not match the commitment in the log",
        "the last good content stays; ask who wrote this version";
    BlobPadding = "E_BLOB_PADDING",
        "the blob's padding is malformed",
        "the last good content stays; ask who wrote this version";

    // The server's fault: found by comparing signed heads.
    ServerPin = "E_SERVER_PIN",
        "the server's key is not the pinned one",
        "check the address; if an admin has re-keyed or replaced the server, run `vault server rekey \
         --line NAME` on an admin's host and the `vault-agent join VLTP1-…` that it prints here; \
         else put back the `server.key` of the server that this machine joined";
    ServerBehind = "E_SERVER_BEHIND",
        "the server has lost entries this machine has seen",
        "files stay as they are; run `vault heal` on every machine, then `vault resume` if the \
         server still waits";
    Fork = "E_FORK",
        "the server has signed two different histories",
        "find out which history is true; then restore the server and run `vault resume`, or run \
         here the `vault-agent accept` line that an admin has confirmed";
    Frozen = "E_FROZEN",
        "the server withholds entries that it has signed",
        "check the server; the files stay as they are";
    Stale = "E_STALE",
        "a machine that should be there was not heard for a day of connection",
        "check that it and the server are up; if it sleeps at times, run `vault machine set NAME \
         --sleeps` on an admin's host";
    AuditRewritten = "E_AUDIT_REWRITTEN",
        "the audit log no longer contains a head it had shown",
        "unless you restored it from a backup, treat the server as taken over; `vault audit \
         verify` names the first bad record, `vault heal --clear E_AUDIT_REWRITTEN` ends the \
         alarm";
    JoinSubstituted = "E_JOIN_SUBSTITUTED",
        "the vault does not hold this machine's own keys",
        "on an admin's host remove that machine, then add this one anew and compare the six words";

    // A copied host's fault.
    Clone = "E_CLONE",
        "two processes use one machine's keys in turn",
        "one host is a copy of the other: `vault machine rekey NAME --ssh HOST` gives the right one \
         new keys, and the copy is out at once; if it is to be a machine, run `vault-agent \
         uninstall` there and add it under a name of its own";

    // Files that somebody else wrote: their owner decides.
    TargetForeign = "E_TARGET_FOREIGN",
        "a file holds what this agent did not write, and what would be written does not",
        "publish it with `vault import`, keep your lines with `layout = \"block\"`, or have a copy \
         kept with `existing = \"replace\"`";

    // The line's fault: what was pasted.
    Token = "E_TOKEN", "the line is malformed or was cut", "copy the whole line again";
    Claim = "E_CLAIM",
        "the one-time code is wrong or was used",
        "for a new vault, take another line from `vault-server init`, run again; to resume one, \
         take the code from the file `resume-code` in the server's data directory";
}

impl Code {
    /// Returns the code with the given text form, if there is one.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// Makes an error of this code; `detail` names the object, in lower case, without a full stop.
    pub fn because(self, detail: impl Into<String>) -> Error {
        Error { code: self, detail: detail.into() }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: its code and the object it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which rule was broken.
    pub code: Code,
    /// What broke it, without any secret.
    pub detail: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Error {}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_distinct_texts_that_read_back() {
        for code in Code::ALL {
            assert_eq!(Code::from_text(code.as_str()), Some(*code));
            assert!(code.as_str().starts_with("E_"));
            assert!(!code.sentence().ends_with('.') && !code.hint().ends_with('.'));
        }
    }
}
