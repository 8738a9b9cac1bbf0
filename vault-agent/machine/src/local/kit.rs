//! What the holder of the recovery kit asks of an agent: whose keys hold now, which versions there
//! are, their ciphertext, and what somebody has signed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::hash::Hash;
use shared::keys::{Recipient, VerifyKey};
use shared::name::Name;
use shared::path::SecretPath;
use shared::time::Time;
use shared::wire::v1::blob::Inline;

/// `GET`: [`Kept`].
pub const KEPT: &str = "agent/kept";
/// `GET` with `path=PATH` and `ver=N`: that version, [`Sealed`].
pub const SEALED: &str = "agent/sealed";
/// `POST` a [`GiveRequest`]: 204.
pub const GIVEN: &str = "agent/given";
/// `GET` with an [`ActsQuery`] as query: [`Acts`].
pub const ACTS: &str = "agent/acts";

/// What a recovery kit must match, and all that it must open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The vault.
    pub vault: Hash,
    /// What people call it.
    pub name: Name,
    /// The last verified entry.
    pub seq: u64,
    /// Its hash.
    pub head: Hash,
    /// Root's key.
    pub root: VerifyKey,
    /// The recovery recipient.
    pub recovery: Recipient,
    /// This machine's own.
    pub recipient: Recipient,
    /// The admins.
    pub admins: BTreeMap<Name, VerifyKey>,
    /// Every version whose content is not destroyed, by path and number.
    pub versions: Vec<KeptVersion>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptVersion {
    /// The secret.
    pub path: SecretPath,
    /// The version.
    pub ver: u64,
    /// Whether it is the newest of its secret.
    pub newest: bool,
    /// Whether it is marked deleted: such a version is not re-encrypted.
    pub deleted: bool,
    /// Whether this machine is granted its secret.
    pub granted: bool,
}

/// A version of a secret, encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The blob's hash.
    pub blob: Hash,
    /// Its size.
    pub size: u64,
    /// The commitment to the content.
    pub commit: Hash,
    /// How many it is encrypted to.
    pub readers: u64,
    /// Whether this machine opens it.
    pub opens: bool,
    /// The age file.
    pub bytes: Inline,
}

/// Hands over a version that this machine does not open, for re-encrypting it: the kit has opened
/// it and encrypted it to this machine alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveRequest {
    /// The secret.
    pub path: SecretPath,
    /// The version.
    pub ver: u64,
    /// The age file.
    pub bytes: Inline,
}

/// Whose acts are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActsQuery {
    /// The key that signed them.
    pub key: VerifyKey,
    /// The time from which on they are told.
    pub since: Time,
}

/// Entries that one key has signed, and what takes back what came of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acts {
    /// Those of the time asked for, oldest first.
    pub acts: Vec<Act>,
    /// How many it signed before.
    pub earlier: u64,
    /// The last entry that a checkpoint stands for, if one does: nothing is told of those up to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<u64>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Its number.
    pub seq: u64,
    /// When it was made, by its signer's clock.
    pub time: Time,
    /// Whether it bears an earlier time than the entry before it.
    pub backdated: bool,
    /// What it did, in words; re-encryptions are counted.
    pub what: Vec<String>,
    /// Commands that take back what still holds of it.
    pub back: Vec<String>,
}
