//! A recovery between the passphrase and the last re-encryption: what makes a second attempt safe.
//! No secret but what the passphrase protects.

use serde::{Deserialize, Serialize};
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::time::Time;
use shared::wire::v1::blob::Inline;

use crate::owner::resumable::Resumable;

/// A host that is becoming a machine, and an admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recovering {
    pub(super) begun: Time,
    pub(super) vault: VaultId,
    pub(super) machine: Name,
    pub(super) admin: Name,
    pub(super) admin_key: VerifyKey,
    /// The content of the admin file.
    pub(super) admin_file: Inline,
}

impl Resumable for Recovering {
    const FILE: &'static str = "recovering.json";
}
