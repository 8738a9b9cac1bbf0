//! Audit records and their hash chain; the words in them live in `words`, what hosts tell of their
//! target files in `applied`. Keeping and filtering them lives in the server.

mod applied;
mod words;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::name::Name;
use crate::path::SecretPath;
use crate::text::{Text, is_invisible};
use crate::time::Time;

pub use applied::{Applied, HookRun};
pub use words::{Kind, Op, Outcome};

const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

/// Process and user on a machine, as the machine tells, e.g. `python3[812] uid 1000`; or the signer
/// of an entry.
pub type Who = Text<256>;

/// The AI agent that a process on a machine works for, as the machine tells, e.g. `claude-code`.
pub type Agent = Text<64>;

/// Most characters of a reason.
pub const REASON: usize = 200;

/// Why somebody wanted a secret, in their own words, on one line; [`reason`] makes it.
pub type Reason = Text<{ 4 * REASON }>;

/// Reads a reason; spaces around it do not count.
///
/// # Errors
/// `E_LIMITS` for more than [`REASON`] characters, `E_PARSE` for none, and for a character that
/// cannot be seen, such as a line's end.
pub fn reason(text: &str) -> Result<Reason> {
    let text = text.trim();
    let count = text.chars().count();
    if count == 0 {
        return Err(Code::Parse.because("a reason without a word"));
    }
    if count > REASON {
        let why = format!("a reason of {count} characters, {REASON} at most");
        return Err(Code::Limits.because(why));
    }
    if text.chars().any(is_invisible) {
        let why = "a reason with a line's end, or another character that cannot be seen";
        return Err(Code::Parse.because(why));
    }
    text.parse()
}

/// Who asked on a machine, as the machine tells, and why, as they told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Process and user.
    pub who: Who,
    /// The AI agent that the process works for, if that shows.
    pub agent: Option<Agent>,
    /// Why, if they said so.
    pub reason: Option<Reason>,
}

impl From<Who> for Asker {
    fn from(who: Who) -> Self {
        Self { who, agent: None, reason: None }
    }
}

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
    /// The AI agent that the process works for, for local accesses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<Agent>,
    /// Why, in the caller's words, for local accesses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
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
    /// The target file that has the version, for [`Op::LocalApplied`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub applied: Option<Applied>,
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
            agent: None,
            reason: None,
            addr: None,
            op,
            path: None,
            ver: None,
            seq: None,
            count: None,
            applied: None,
            result: Outcome::Ok,
        }
    }

    /// Says who asked, and why.
    #[must_use]
    pub fn by(self, asker: &Asker) -> Self {
        let Asker { who, agent, reason } = asker.clone();
        Self { who: Some(who), agent, reason, ..self }
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
    fn a_reason_is_one_line_that_can_be_seen() {
        for (text, expected) in [
            (" deploy of Ghost ", "deploy of Ghost"),
            ("größer: 日本", "größer: 日本"),
            (&"ü".repeat(REASON), &"ü".repeat(REASON)),
        ] {
            assert_eq!(reason(text).unwrap().as_str(), expected);
        }
        for (text, code) in [
            ("", Code::Parse),
            (" \t", Code::Parse),
            ("a\nop=put", Code::Parse),
            ("a\u{1b}[2J", Code::Parse),
            ("a\u{202E}b", Code::Parse),
            (&"ü".repeat(REASON + 1), Code::Limits),
        ] {
            assert_eq!(reason(text).unwrap_err().code, code, "{text:?}");
        }
    }

    #[test]
    fn who_asked_is_told_with_agent_and_reason_or_left_out() {
        let asker = Asker {
            who: "vault[7] uid 1000".parse().unwrap(),
            agent: Some("claude-code".parse().unwrap()),
            reason: Some(reason("deploy").unwrap()),
        };
        let fact = Fact::new(Op::LocalRead).by(&asker);
        let text = serde_json::to_string(&fact).unwrap();
        let expected = concat!(
            r#"{"who":"vault[7] uid 1000","agent":"claude-code","reason":"deploy","#,
            r#""op":"local_read","result":"ok"}"#,
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact);
        let plain = Fact::new(Op::LocalRead).by(&Asker::from(asker.who));
        assert_eq!((plain.agent, plain.reason), (None, None));
    }

    #[test]
    fn a_record_out_of_place_is_named() {
        let record = concat!(
            r#"{"n":3,"#,
            r#""nonce":"0000000000000000000000000000000000000000000000000000000000000000","#,
            r#""time":0,"op":"read","result":"ok"}"#,
        )
        .as_bytes();
        let fault = AuditHead::EMPTY.follow(record).unwrap_err();
        assert_eq!(
            (fault.code, fault.detail.as_str()),
            (Code::AuditRewritten, "audit record 3 stands where 1 is due")
        );
    }
}
