//! A renewal between the new kit and its end: what makes a second attempt safe. Public keys alone:
//! the kit itself is on paper.

use serde::{Deserialize, Serialize};
use shared::keys::{Recipient, VerifyKey};
use shared::signed::VaultId;
use shared::time::Time;

use crate::owner::resumable::Resumable;
use crate::owner::signing::kit::Kit;

/// The kit to come, and the one that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renewal {
    pub(super) begun: Time,
    pub(super) vault: VaultId,
    pub(super) old_root: VerifyKey,
    pub(super) root: VerifyKey,
    pub(super) recovery: Recipient,
}

impl Resumable for Renewal {
    const FILE: &'static str = "renewal.json";
}

impl Renewal {
    /// Tells whether it is the kit to come.
    pub(super) fn is(&self, kit: &Kit) -> bool {
        (kit.root.verify_key(), kit.recovery.recipient())
            == (self.root.clone(), self.recovery.clone())
    }
}
