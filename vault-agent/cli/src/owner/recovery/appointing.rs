//! An admin between the passphrase and the log: what makes a second attempt safe. No secret but
//! what the passphrase protects.

use serde::{Deserialize, Serialize};
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::time::Time;
use shared::wire::v1::blob::Inline;

use crate::owner::resumable::Resumable;

/// An admin who is being appointed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Appointing {
    pub(super) begun: Time,
    pub(super) vault: VaultId,
    pub(super) name: Name,
    pub(super) key: VerifyKey,
    /// The one who goes.
    pub(super) old: Option<Replaced>,
    /// The content of the admin file.
    pub(super) admin_file: Inline,
}

/// An admin who is being replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replaced {
    pub(super) name: Name,
    pub(super) key: VerifyKey,
}

impl Resumable for Appointing {
    const FILE: &'static str = "appointing.json";
}
