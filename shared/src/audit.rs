//! Audit records and their hash chain. Keeping and filtering them lives in the server.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::time::Time;

const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

/// One audit record, as the server writes it. Absent fields are left out of the JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Position in the chain; the first record has 1.
    pub n: u64,
    /// 32 random bytes: a leaf tells nothing about its record.
    pub nonce: Hash,
    /// The server's clock.
    pub time: Time,
    /// The machine's clock, for local reads, as the machine tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<Time>,
    /// Active machine whose key made the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub machine: Option<String>,
    /// Key that made the request, when no active machine holds it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Process and user on the machine, for local reads, as the machine tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub who: Option<String>,
    /// Peer address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub addr: Option<String>,
    /// What was asked: an operation's name, `read`, `deliver`, `local_read`, `audit_read`, …
    pub op: String,
    /// The secret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ver: Option<u64>,
    /// Log entry that the request made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<u64>,
    /// How many alike requests the record stands for, if more than one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// [`OK`], [`MISSING`], [`DELETED`], or the code or reason of the refusal.
    pub result: String,
}

/// Result of what was done as asked.
pub const OK: &str = "ok";
/// Result of a local read that found nothing.
pub const MISSING: &str = "missing";
/// Result of a local read of a version that was deleted or destroyed.
pub const DELETED: &str = "deleted";

impl Record {
    /// Returns whether something was refused: to find nothing is an answer.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        !matches!(self.result.as_str(), OK | MISSING | DELETED)
    }
}

/// Hashes a record's JSON bytes.
#[must_use]
pub fn leaf(record: &[u8]) -> Hash {
    Hash::of(&[LEAF, record])
}

/// Links a leaf to the chain's value before it; the chain starts at zeros.
#[must_use]
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
        let parsed: Record = serde_json::from_slice(record)
            .map_err(|why| Code::Parse.because(format!("audit record {}: {why}", self.n + 1)))?;
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

    #[test]
    fn finding_nothing_is_no_refusal() {
        let record = |result: &str| {
            let text = format!(
                r#"{{"n":1,"nonce":"{}","time":0,"op":"local_read","result":"{result}"}}"#,
                "00".repeat(32)
            );
            serde_json::from_str::<Record>(&text).unwrap()
        };
        for result in [OK, MISSING, DELETED] {
            assert!(!record(result).is_refusal(), "{result}");
        }
        for result in ["denied", "E_DENIED", "conflict", "forbidden", ""] {
            assert!(record(result).is_refusal(), "{result}");
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
