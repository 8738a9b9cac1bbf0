//! What a host's own scan has found, sealed to those who review, and the wish for a scan
//! (design/trust, *Scans*). Both travel in reports, which are signed. No value is in here, nor a
//! hash of one.

use serde::{Deserialize, Serialize};

use crate::blob::{self, Blob, Expected, Kind, Place};
use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::keys::{Identity, Recipient};
use crate::limits;
use crate::log::Number;
use crate::path::SecretPath;
use crate::signed::{VaultId, base64_text, parse_strict};
use crate::text::Text;
use crate::time::Time;

/// Who reads this reviews: findings are sealed to those machines, and they alone ask for scans.
pub const REVIEWERS: &str = "sys/audit";

/// Most machines that one wish may name.
pub const WISHED: usize = 64;

/// What sealing adds to a text: the frame of the age file, the payload's head, its padding.
const FRAME: usize = 1_536;
/// What it adds for each recipient.
const STANZA: usize = 160;

/// How a machine's scans stand, in its report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// Since when one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Time>,
    /// What the last one has found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedFindings>,
}

/// [`Findings`] that only those who review can open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedFindings {
    /// Commitment to nonce and text.
    pub commit: Hash,
    /// The age file, at most [`limits::SCAN`] bytes; base64 in JSON.
    #[serde(with = "base64_text")]
    pub age: Vec<u8>,
}

/// What a scan has found, and what it has looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// When it began, by the host's clock.
    pub begun: Time,
    /// When it ended.
    pub ended: Time,
    /// Seconds from one scan to the next; `None` where scans are made when asked for only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Files, units and containers that were read.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Secrets whose values were looked for.
    pub secrets: u64,
    /// Values that were looked for.
    pub values: u64,
    /// Values that were not, as they are too short or easy to guess.
    pub left_out: u64,
    /// What was to be searched and was not, and why: some of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<Text<256>>,
    /// What was found, the newest values first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finds: Vec<Find>,
    /// Finds that there was no room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

/// A value in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Find {
    /// A file, `journal unit X` or `container X`; names that hold a value are masked.
    pub place: Text<512>,
    /// The secret.
    pub secret: SecretPath,
    /// The key whose value it is.
    pub key: Text<256>,
    /// The newest version that holds it.
    pub ver: u64,
    /// Whether the secret's newest version had another value for the key by then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub old: bool,
    /// How it is written there: `plain`, `base64`, …
    pub form: Text<16>,
    /// In how many lines.
    pub count: u64,
    /// The first of them, from 1; 0 for the name of the file itself.
    pub line: u64,
    /// Since when it was found there, by the host's clock.
    pub since: Time,
    /// Owner and mode of the file, where others may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readable: Option<Text<64>>,
}

/// A reviewer's wish that hosts scan at once, in its signed seen-record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// When it was made, by the reviewer's clock; tells it from others.
    pub at: Time,
    /// Whose scans are wished for; nobody's means everybody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<Number>,
}

impl Wish {
    /// Tells whether it is meant for a machine.
    pub fn is_for(&self, machine: Number) -> bool {
        self.machines.is_empty() || self.machines.contains(&machine)
    }
}

impl Findings {
    /// Encrypts them to those who review; finds that do not fit are counted instead, from the end.
    /// They open in the report of `machine` alone.
    ///
    /// # Errors
    /// `E_LIMITS` where so many review that nothing fits; `E_KEY` for an unusable recipient.
    pub fn seal(
        mut self,
        vault: &VaultId,
        machine: Number,
        reviewers: &[Recipient],
    ) -> Result<SealedFindings> {
        let finds = std::mem::take(&mut self.finds);
        let frame = FRAME + STANZA * reviewers.len() + self.write()?.len();
        let mut room = limits::SCAN.saturating_sub(frame);
        let all = finds.len() as u64;
        for find in finds {
            let size = serde_json::to_string(&find).map_or(usize::MAX, |text| text.len() + 1);
            let Some(left) = room.checked_sub(size) else { break };
            room = left;
            self.finds.push(find);
        }
        self.more += all - self.finds.len() as u64;
        let text = self.write()?;
        let sealed = blob::seal(place(vault, machine, &path()?), Kind::Kv, &text, reviewers)?;
        if sealed.bytes.len() > limits::SCAN {
            let why = format!("findings for {} machines that review", reviewers.len());
            return Err(Code::Limits.because(why));
        }
        Ok(SealedFindings { commit: sealed.commit, age: sealed.bytes })
    }

    fn write(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|why| Code::Parse.because(why.to_string()))
    }
}

impl SealedFindings {
    /// Decrypts what the report of `machine` holds.
    ///
    /// # Errors
    /// `E_LIMITS`, `E_BLOB_OPEN` for who is no reader, other codes of blobs, `E_PARSE`.
    pub fn open(&self, vault: &VaultId, machine: Number, identity: &Identity) -> Result<Findings> {
        if self.age.len() > limits::SCAN {
            return Err(Code::Limits.because(format!("findings of {} bytes", self.age.len())));
        }
        let (path, blob) = (path()?, Blob::new(self.age.clone()));
        let expected = Expected {
            place: place(vault, machine, &path),
            blob: blob.id(),
            size: self.age.len() as u64,
            commit: self.commit,
            readers: blob::stanzas(&self.age),
            position: 0,
        };
        let opened = blob::open(identity, &expected, &blob)?;
        parse_strict(opened.content.expose())
    }
}

/// Returns the path whose readers review.
///
/// # Errors
/// None: it is one.
pub fn path() -> Result<SecretPath> {
    REVIEWERS.parse()
}

/// No secret is there: a machine's number stands where a version would.
const fn place<'a>(vault: &'a VaultId, machine: Number, path: &'a SecretPath) -> Place<'a> {
    Place { vault, path, ver: machine }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(n: u64) -> Find {
        Find {
            place: format!("/home/jonas/.bash_history-{n}").parse().unwrap(),
            secret: "secret/stripe".parse().unwrap(),
            key: "API_KEY".parse().unwrap(),
            ver: n,
            old: n > 1,
            form: "plain".parse().unwrap(),
            count: 2,
            line: 7,
            since: Time::from_micros(5),
            readable: Some("jonas 0644".parse().unwrap()),
        }
    }

    #[test]
    fn findings_open_for_those_who_review_and_in_their_machines_report_alone() {
        let (reviewer, other) = (Identity::generate(), Identity::generate());
        let vault = Hash::of(&[b"vault"]);
        let findings = Findings { finds: vec![find(1)], files: 3, ..Findings::default() };
        let sealed = findings.clone().seal(&vault, 7, &[reviewer.recipient()]).unwrap();
        assert_eq!(sealed.open(&vault, 7, &reviewer).unwrap(), findings);
        let code = |vault: &VaultId, machine, key: &Identity| {
            sealed.open(vault, machine, key).unwrap_err().code
        };
        assert_eq!(code(&vault, 7, &other), Code::BlobOpen);
        assert_eq!(code(&vault, 8, &reviewer), Code::BlobContext);
        assert_eq!(code(&Hash::ZERO, 7, &reviewer), Code::BlobContext);
        let mut changed = sealed.clone();
        *changed.age.last_mut().unwrap() ^= 1;
        assert_eq!(changed.open(&vault, 7, &reviewer).unwrap_err().code, Code::BlobOpen);
    }

    #[test]
    fn findings_are_bounded_and_what_is_cut_off_is_counted() {
        let key = Identity::generate();
        let readers = vec![key.recipient(); 20];
        let finds: Vec<Find> = (1..=2_000).map(find).collect();
        let findings = Findings { finds, ..Findings::default() };
        let sealed = findings.seal(&Hash::ZERO, 1, &readers).unwrap();
        assert!(sealed.age.len() <= limits::SCAN);
        let read = sealed.open(&Hash::ZERO, 1, &key).unwrap();
        assert!(read.finds.len() > 100 && read.finds[0] == find(1), "{}", read.finds.len());
        assert_eq!(read.finds.len() as u64 + read.more, 2_000);
        let many = vec![key.recipient(); 500];
        let refused = Findings::default().seal(&Hash::ZERO, 1, &many).unwrap_err();
        assert_eq!(refused.code, Code::Limits);
    }

    #[test]
    fn a_member_that_lies_steers_no_terminal() {
        let key = Identity::generate();
        let (vault, to) = (Hash::ZERO, [key.recipient()]);
        let findings = Findings { finds: vec![find(1)], ..Findings::default() };
        let text = serde_json::to_string(&findings).unwrap();
        for (good, bad) in
            [("jonas 0644", "j\\u001b[2J"), ("\"API_KEY\"", "\"A\\u202e\""), ("plain", "\\n")]
        {
            let (path, bad) = (path().unwrap(), text.replace(good, bad));
            let sealed = blob::seal(place(&vault, 1, &path), Kind::Kv, bad.as_bytes(), &to);
            let sealed = sealed.unwrap();
            let sealed = SealedFindings { commit: sealed.commit, age: sealed.bytes };
            assert_eq!(sealed.open(&vault, 1, &key).unwrap_err().code, Code::Parse, "{bad}");
        }
    }
}
