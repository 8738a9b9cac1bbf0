//! An admin between the passphrase and the log: what makes a second attempt safe. No secret but
//! what the passphrase protects.

use serde::{Deserialize, Serialize};
use shared::hash::Hash;
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::time::Time;
use shared::wire::v1::blob::Inline;

use crate::owner::resumable::Resumable;
use machine::local::Kept;

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
    /// Of their admin file on this host, if there was one.
    #[serde(default)]
    pub(super) file: Option<Hash>,
}

impl Appointing {
    /// Tells whether the name is that of a third key by now: it cannot be finished any more.
    pub(super) fn is_over(&self, kept: &Kept) -> bool {
        let is_old =
            |now| self.old.as_ref().is_some_and(|old| (&old.name, &old.key) == (&self.name, now));
        kept.admins.get(&self.name).is_some_and(|now| *now != self.key && !is_old(now))
    }

    /// Tells whether what stands in the admin file of the new one's name is still the old one's.
    pub(super) fn is_old(&self, file: &[u8]) -> bool {
        self.old.as_ref().is_some_and(|old| old.name == self.name && old.is(file))
    }
}

impl Replaced {
    /// Tells whether it is their admin file, as it was when this began.
    pub(super) fn is(&self, file: &[u8]) -> bool {
        self.file == Some(print(file))
    }
}

/// Of an admin file; what is in it is encrypted with a salt of its own.
pub(super) fn print(file: &[u8]) -> Hash {
    Hash::of(&[b"vault-admin-file\0", file])
}

impl Resumable for Appointing {
    const FILE: &'static str = "appointing.json";
}
