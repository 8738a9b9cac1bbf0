//! Signed reports of machines: the proof against forks and freezes, and the fleet view, in one record.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::keys::VerifyKey;
use crate::limits;
use crate::name::{Actor, Name};
use crate::path::SecretPath;
use crate::signed::{Envelope, Purpose, VaultId};
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
    pub agent: String,
    /// What its targets hold.
    pub targets: Vec<TargetReport>,
}

/// One secret in one target file of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetReport {
    /// The target, as its host names it.
    pub name: String,
    /// The secret.
    pub path: SecretPath,
    /// Version in the file; 0 if none was ever applied.
    pub ver: u64,
    /// What keeps the file from the wanted version, or `ok`.
    pub state: String,
    /// When the file got this version.
    pub since: Time,
    /// Result of the last hook: `ok`, `-` for none, else what failed.
    pub hook: String,
}

impl Report {
    /// Signs the report.
    ///
    /// # Errors
    /// `E_LIMITS` over 256 KiB.
    pub fn sign(&self, key: &crate::keys::SignKey, vault: VaultId) -> Result<Envelope> {
        let by = Actor::Machine(self.machine.clone());
        let envelope = Envelope::sign(key, by, Purpose::Report(vault), self)?;
        check_size(&envelope)?;
        Ok(envelope)
    }

    /// Verifies and parses a machine's report.
    ///
    /// # Errors
    /// `E_LIMITS`, `E_BADSIG`, `E_PARSE`, `E_ACTOR` if it is not about its own signer.
    pub fn open(envelope: &Envelope, key: &VerifyKey, vault: VaultId) -> Result<Self> {
        check_size(envelope)?;
        envelope.verify(key, Purpose::Report(vault))?;
        let report: Self = envelope.parse()?;
        if envelope.by != Actor::Machine(report.machine.clone()) {
            return Err(
                Code::Actor.because(format!("report of `{}` by `{}`", report.machine, envelope.by))
            );
        }
        Ok(report)
    }
}

fn check_size(envelope: &Envelope) -> Result<()> {
    if envelope.body.len() > limits::REPORT {
        return Err(Code::Limits.because(format!("report of {} bytes", envelope.body.len())));
    }
    Ok(())
}
