//! Signed reports of machines: the proof against forks and freezes, and the fleet view, in one
//! record.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::hash::Hash;
use crate::keys::VerifyKey;
use crate::limits;
use crate::name::{Actor, Name};
use crate::path::SecretPath;
use crate::signed::{Envelope, Purpose, VaultId};
use crate::text::Text;
use crate::time::Time;

/// Body of a report, signed by its machine under `vault-report/v1 <vault id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Who reports.
    pub machine: Name,
    /// Grows by one with each report of this machine.
    pub n: u64,
    /// The machine's clock.
    pub time: Time,
    /// Last entry it has applied.
    pub seq: u64,
    /// Hash of that entry.
    pub head: Hash,
    /// Number of audit records it has seen committed to.
    pub audit_n: u64,
    /// Audit chain value after that record.
    pub audit_head: Hash,
    /// Program and version, e.g. `vault-agent 0.1.0`.
    pub agent: Text<64>,
    /// What its targets hold.
    pub targets: Vec<TargetReport>,
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
    /// When the file got this version.
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
    /// There is no such secret.
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
}

impl TargetState {
    /// Tells whether somebody should look at it.
    pub const fn is_trouble(self) -> bool {
        matches!(self, Self::Refused | Self::Failed | Self::Drift | Self::TooOld)
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

impl Report {
    /// Signs the report.
    ///
    /// # Errors
    /// `E_LIMITS` over 256 KiB.
    pub fn sign(&self, key: &crate::keys::SignKey, vault: VaultId) -> Result<Envelope> {
        let by = Actor::Machine(self.machine.clone());
        let envelope = Envelope::sign(key, by, Purpose::Report(vault), self)?;
        envelope.check_size(limits::REPORT, "report")?;
        Ok(envelope)
    }

    /// Verifies and parses a machine's report. The key says whose it is: the name inside is what
    /// the machine was called when it signed.
    ///
    /// # Errors
    /// `E_LIMITS`, `E_BADSIG`, `E_PARSE`.
    pub fn open(envelope: &Envelope, key: &VerifyKey, vault: VaultId) -> Result<Self> {
        envelope.check_size(limits::REPORT, "report")?;
        envelope.verify(key, Purpose::Report(vault))?;
        envelope.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::keys::SignKey;

    #[test]
    fn a_report_that_could_steer_a_terminal_is_refused() {
        let (key, vault) = (SignKey::generate(), Hash::ZERO);
        let target = TargetReport {
            name: "~/app/.env".parse().unwrap(),
            path: "secret/a".parse().unwrap(),
            ver: 1,
            state: TargetState::TooOld,
            since: Time::default(),
            hook: HookResult::RolledBack,
            detail: "exit 1".parse().unwrap(),
        };
        let report = Report {
            machine: "vps".parse().unwrap(),
            n: 1,
            time: Time::default(),
            seq: 0,
            head: Hash::ZERO,
            audit_n: 0,
            audit_head: Hash::ZERO,
            agent: "vault-agent 0.1.0".parse().unwrap(),
            targets: vec![target],
        };
        let by = Actor::Machine(report.machine.clone());
        let body = serde_json::to_string(&report).unwrap();
        let opened = |body: String| {
            let purpose = Purpose::Report(vault);
            let signed = Envelope::sign_body(&key, by.clone(), purpose, body.into_bytes());
            Report::open(&signed, &key.verify_key(), vault)
        };
        assert_eq!(opened(body.clone()).unwrap(), report);
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
            let fault = opened(body.replace(good, &bad)).unwrap_err();
            assert_eq!(fault.code, Code::Parse, "{bad:?}");
        }
    }
}
