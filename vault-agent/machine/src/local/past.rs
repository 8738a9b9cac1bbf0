//! The versions of a secret by what changed in them, and whom a value of it has reached.

use serde::{Deserialize, Serialize};
use shared::log::Number;
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::time::Time;

use super::exposure::{Borne, ExposedKey};
use super::review::Removed;

/// `GET` with `path=PATH`: a [`PastVersion`] for each version that is not forgotten, as a list,
/// oldest first.
pub const PAST: &str = "agent/past";
/// `GET` with `path=PATH`, and `version=N` and `key=KEY` where they are meant: [`Blast`].
pub const BLAST: &str = "agent/blast";

/// One version of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastVersion {
    /// The version.
    pub ver: u64,
    /// Who signed it, by the name that they bore then.
    pub by: Actor,
    /// When it was written, by its signer's clock.
    pub time: Time,
    /// Which keys it changed; none if that is not known here.
    pub keys: Option<KeysChanged>,
    /// Why that is not known, if it is not.
    pub unread: Option<String>,
    /// The names, of any time, of the machines that it was encrypted to or that wrote it; told of
    /// whole histories only.
    #[serde(default)]
    pub reached: Vec<Name>,
}

/// Keys that a version does not share with an earlier one; never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysChanged {
    /// The version that it is compared with: the last before it that opens here; none for the first
    /// of all.
    pub since: Option<u64>,
    /// Keys that it has and the other one has not.
    pub added: Vec<String>,
    /// Keys with another value.
    pub changed: Vec<String>,
    /// Keys that it has no more.
    pub removed: Vec<String>,
}

/// What a value, or all values of a version, have reached, as far as the signed log and what opens
/// on the host that was asked tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blast {
    /// The secret.
    pub path: SecretPath,
    /// The version that was asked for, or the newest.
    pub ver: u64,
    /// The newest version, unless that is deleted.
    pub newest: Option<u64>,
    /// The versions that hold the value, in order.
    pub versions: Vec<PastVersion>,
    /// The keys that it is about and what holds them today, by name.
    pub keys: Vec<ExposedKey>,
    /// Whether the content is one file, which has no keys.
    pub is_file: bool,
    /// Without a key: the keys whose value is older, each with the version since which it is the
    /// same.
    pub older: Vec<OlderKey>,
    /// Who issues it, as its custom metadata says.
    pub issuer: Option<String>,
    /// Why nothing is known of its keys, if nothing is.
    pub unread: Option<String>,
    /// Versions that do not open here: nobody here knows whether they hold the value.
    pub unjudged: Vec<u64>,
    /// How many secrets were not looked through for copies.
    pub unsearched: u64,
    /// The machines that the versions were encrypted to, or that wrote them, as they came.
    pub hosts: Vec<ReachedHost>,
    /// The last entry that a checkpoint stands for, if one does: of the time before, all count that
    /// were granted the secret when a version was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<u64>,
}

/// A key whose value is older than the version that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OlderKey {
    /// Its name.
    pub key: String,
    /// The first version in a row that holds the value.
    pub since: u64,
}

/// A machine that a value was encrypted to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachedHost {
    /// The number that it bears, or bore last.
    pub number: Number,
    /// The names that it bore, the last one last.
    pub names: Vec<Borne>,
    /// How it was removed, if it was.
    pub removed: Option<Removed>,
    /// Since when it could read the value, by the clock of who signed that.
    pub since: Time,
    /// The versions, in order.
    pub versions: Vec<u64>,
}
