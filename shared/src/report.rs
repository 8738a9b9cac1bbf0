//! Reports of machines: the seen-record, small and signed, which makes forks, freezes and silence
//! known to the others; and the targets behind it, from which the fleet's status is made.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::audit::AuditHead;
use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::head::SignedHead;
use crate::keys::{SignKey, Signature, VerifyKey};
use crate::limits;
use crate::log::Number;
use crate::name::{Actor, Name};
use crate::path::SecretPath;
use crate::scan::{Scan, Wish};
use crate::signed::{Envelope, Purpose, VaultId, parse_strict};
use crate::text::Text;
use crate::time::Time;

/// What a machine has seen, signed by it under `vault-seen/v1 <vault id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Who reports, by number.
    pub machine: Number,
    /// Grows by one with each record of this machine.
    pub n: u64,
    /// The machine's clock.
    pub time: Time,
    /// Epoch of its newest signed head.
    pub epoch: Hash,
    /// That head's position: the last entry it has applied.
    pub seq: u64,
    /// Hash of that entry.
    pub head: Hash,
    /// The server's signature of that head.
    pub server_sig: Signature,
    /// Number of audit records it has seen committed to.
    pub audit_n: u64,
    /// Audit chain value after that record.
    pub audit_head: Hash,
    /// SHA-256 of the JSON text of its [`Targets`].
    pub targets: Hash,
    /// A wish for scans, which those heed who know that the machine may review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Wish>,
}

/// What a machine's target files hold: the preimage of [`Seen::targets`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Program and version, e.g. `vault-agent 0.1.0`.
    pub agent: Text<64>,
    /// Since when that program is no longer the file on its disk, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Time>,
    /// A row for each secret of each target.
    pub targets: Vec<TargetReport>,
    /// How its scans stand, if it makes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Scan>,
}

/// One secret in one target file of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetReport {
    /// The target's path, as its host names it.
    pub name: Text<1024>,
    /// The secret.
    pub path: SecretPath,
    /// Version in the file; 0 if none was ever applied.
    pub ver: u64,
    /// How the file stands.
    pub state: TargetState,
    /// Since when it stands so: when the file got this version or, if something is the matter,
    /// since when that is.
    pub since: Time,
    /// What became of the hook's last run.
    pub hook: HookResult,
    /// What is the matter with file or hook, for people; nothing if all is well.
    pub detail: Text<256>,
}

/// How a target's file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// Not looked at since the agent's start.
    Starting,
    /// As it is to be.
    Ok,
    /// Waits for content, for the server, or for somebody who edits the file.
    Waiting,
    /// There is no such secret, or none has a key that is to be in the file.
    Missing,
    /// The machine may not read the secret.
    Denied,
    /// Left as it is, as the secret is deleted.
    Kept,
    /// The content or the configuration does not allow it to be written.
    Refused,
    /// Writing it has failed.
    Failed,
    /// Somebody else has changed it.
    Drift,
    /// The server has not been heard for longer than the target may be without it.
    TooOld,
    /// It holds what the agent did not write, and stays until somebody decides.
    Foreign,
}

impl TargetState {
    /// Tells whether somebody should look at it.
    pub const fn is_trouble(self) -> bool {
        match self {
            Self::Missing
            | Self::Denied
            | Self::Refused
            | Self::Failed
            | Self::Drift
            | Self::TooOld
            | Self::Foreign => true,
            Self::Starting | Self::Ok | Self::Waiting | Self::Kept => false,
        }
    }
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Waiting => "waiting",
            Self::Missing => "missing",
            Self::Denied => "denied",
            Self::Kept => "kept",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Drift => "drift",
            Self::TooOld => "too old",
            Self::Foreign => "foreign",
        })
    }
}

/// What became of the last run of a target's hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookResult {
    /// There is no hook, or it has not run yet.
    None,
    /// It ended well.
    Ok,
    /// It has not ended.
    Pending,
    /// It failed.
    Failed,
    /// It failed, and the file is being taken back to the versions before.
    RollingBack,
    /// It failed, and the file holds the versions before.
    RolledBack,
}

impl HookResult {
    /// Tells whether somebody should look at it.
    pub const fn is_trouble(self) -> bool {
        matches!(self, Self::Failed | Self::RollingBack | Self::RolledBack)
    }
}

impl fmt::Display for HookResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "-",
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
        })
    }
}

impl Seen {
    /// Signs the record; `by` is what the machine is called now.
    ///
    /// # Errors
    /// `E_PARSE` if it cannot be written as JSON.
    pub fn sign(&self, by: Name, key: &SignKey, vault: VaultId) -> Result<Envelope> {
        Envelope::sign(key, Actor::Machine(by), Purpose::Seen(vault), self)
    }

    /// Verifies and parses the record of the machine that holds `key`. The number inside says whose
    /// it is: the envelope's name is what the machine was called when it signed.
    ///
    /// # Errors
    /// `E_LIMITS`, `E_BADSIG`, `E_PARSE`, `E_ACTOR`.
    pub fn open(
        envelope: &Envelope,
        machine: Number,
        key: &VerifyKey,
        vault: VaultId,
    ) -> Result<Self> {
        envelope.check_size(limits::SEEN, "seen-record")?;
        envelope.verify(key, Purpose::Seen(vault))?;
        let seen: Self = envelope.parse()?;
        if seen.machine != machine {
            let why = format!("seen-record of machine {} by machine {machine}", seen.machine);
            return Err(Code::Actor.because(why));
        }
        Ok(seen)
    }

    /// Returns the number of the machine that a record says to be of, unverified: whose key to
    /// verify it with.
    ///
    /// # Errors
    /// `E_LIMITS`, `E_PARSE`.
    pub fn claimed(envelope: &Envelope) -> Result<Number> {
        envelope.check_size(limits::SEEN, "seen-record")?;
        envelope.parse::<Self>().map(|seen| seen.machine)
    }

    /// Returns the head that the server signed for this machine; its signature is not verified.
    pub const fn signed_head(&self) -> SignedHead {
        SignedHead { epoch: self.epoch, seq: self.seq, head: self.head, sig: self.server_sig }
    }

    /// Returns the audit head that the record anchors.
    pub const fn audit(&self) -> AuditHead {
        AuditHead { n: self.audit_n, hash: self.audit_head }
    }
}

impl Targets {
    /// Writes the JSON text, and the hash that a seen-record names.
    ///
    /// # Errors
    /// `E_LIMITS` over 256 KiB.
    pub fn write(&self) -> Result<(String, Hash)> {
        let text =
            serde_json::to_string(self).map_err(|why| Code::Parse.because(why.to_string()))?;
        check_size(&text)?;
        let hash = Hash::of(&[text.as_bytes()]);
        Ok((text, hash))
    }

    /// Checks and parses the text behind `hash`.
    ///
    /// # Errors
    /// `E_LIMITS`, `E_PARSE`, `E_REPORT` for a text of another hash.
    pub fn open(text: &str, hash: Hash) -> Result<Self> {
        check_size(text)?;
        if Hash::of(&[text.as_bytes()]) != hash {
            return Err(Code::Report.because("targets other than the seen-record names"));
        }
        parse_strict(text.as_bytes())
    }
}

fn check_size(text: &str) -> Result<()> {
    if text.len() <= limits::REPORT {
        return Ok(());
    }
    Err(Code::Limits.because(format!("targets of {} bytes", text.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Head;

    #[test]
    fn a_report_that_could_steer_a_terminal_is_refused() {
        let target = TargetReport {
            name: "~/app/.env".parse().unwrap(),
            path: "secret/a".parse().unwrap(),
            ver: 1,
            state: TargetState::TooOld,
            since: Time::default(),
            hook: HookResult::RolledBack,
            detail: "exit 1".parse().unwrap(),
        };
        let agent = "vault-agent 0.1.0".parse().unwrap();
        let targets = Targets { agent, replaced: None, targets: vec![target], scan: None };
        let (text, hash) = targets.write().unwrap();
        assert_eq!(Targets::open(&text, hash).unwrap(), targets);
        assert_eq!(Targets::open(&text, Hash::ZERO).unwrap_err().code, Code::Report);
        for (good, bad) in [
            ("exit 1", "exit\\u001b[2J".to_owned()),
            ("exit 1", "\u{202E}exit".to_owned()),
            ("exit 1", "x".repeat(257)),
            ("~/app/.env", "~/app\u{200B}/.env".to_owned()),
            ("~/app/.env", "x".repeat(1025)),
            ("vault-agent 0.1.0", "x".repeat(65)),
            ("too_old", "fine".to_owned()),
            ("rolled_back", "ok: trust me".to_owned()),
        ] {
            let text = text.replace(good, &bad);
            let hash = Hash::of(&[text.as_bytes()]);
            assert_eq!(Targets::open(&text, hash).unwrap_err().code, Code::Parse, "{bad:?}");
        }
    }

    #[test]
    fn a_record_is_of_the_machine_that_signed_it() {
        let (key, vault) = (SignKey::generate(), Hash::ZERO);
        let head = Head { epoch: vault, seq: 3, head: Hash::of(&[b"h"]) };
        let head = head.sign(&SignKey::generate(), vault).unwrap();
        let seen = Seen {
            machine: 7,
            n: 1,
            time: Time::default(),
            epoch: head.epoch,
            seq: head.seq,
            head: head.head,
            server_sig: head.sig,
            audit_n: 0,
            audit_head: Hash::ZERO,
            targets: Hash::ZERO,
            wish: None,
        };
        let signed = seen.sign("vps".parse().unwrap(), &key, vault).unwrap();
        let (own, other) = (key.verify_key(), SignKey::generate().verify_key());
        assert_eq!(Seen::claimed(&signed).unwrap(), 7);
        assert_eq!(Seen::open(&signed, 7, &own, vault).unwrap(), seen);
        assert_eq!(seen.signed_head(), head);
        let refused =
            |machine, key, vault| Seen::open(&signed, machine, key, vault).unwrap_err().code;
        assert_eq!(refused(8, &own, vault), Code::Actor);
        assert_eq!(refused(7, &other, vault), Code::BadSig);
        assert_eq!(refused(7, &own, Hash::of(&[b"other"])), Code::BadSig);
    }
}
