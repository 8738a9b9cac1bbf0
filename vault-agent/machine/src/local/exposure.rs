//! What a machine could read, and what has become of each key of that.

use serde::{Deserialize, Serialize};
use shared::log::Number;
use shared::name::Name;
use shared::path::SecretPath;
use shared::time::Time;

use super::review::Removed;

/// `GET` with `machine=NAME` or `machine=NUMBER` as query: [`Exposure`].
pub const EXPOSURE: &str = "agent/exposure";

/// Everything that was ever encrypted to a machine, under all the numbers that it has borne.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// The number that it bears, or bore last.
    pub number: Number,
    /// The names that it bore, the last one last.
    pub names: Vec<Borne>,
    /// How it was removed, if it was.
    pub removed: Option<Removed>,
    /// Numbers of other machines that bore the name which was asked for.
    pub namesakes: Vec<Number>,
    /// By path.
    pub secrets: Vec<Exposed>,
    /// How many secrets were not looked through for copies of values: the host that was asked may
    /// not read them, or does not hold their newest version.
    #[serde(default)]
    pub unsearched: u64,
    /// The last entry that a checkpoint stands for, if one does: of the time before, all versions
    /// count that were kept then and that it was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<u64>,
}

/// A name that a machine bore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borne {
    /// The name.
    pub name: Name,
    /// When the machine got it, by its signer's clock.
    pub since: Time,
    /// When it bore it no longer.
    pub until: Option<Time>,
}

/// One secret that a machine could read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// The secret.
    pub path: SecretPath,
    /// The versions, in order.
    pub versions: Vec<u64>,
    /// Who issues it, as its custom metadata says.
    pub issuer: Option<String>,
    /// Why nothing is known of its keys, if nothing is.
    pub unread: Option<String>,
    /// Its keys, by name; none where all versions of it are gone.
    pub keys: Vec<ExposedKey>,
    /// Whether it is there, and no version that the machine could read has a key.
    #[serde(default)]
    pub empty: bool,
}

/// A key whose value a machine could read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposedKey {
    /// Its name.
    pub key: String,
    /// The versions that the machine could read it in.
    pub versions: Vec<u64>,
    /// What holds it today.
    pub now: KeyNow,
    /// Other keys that hold a value of it today, as far as they are named.
    #[serde(default)]
    pub copies: Vec<Copied>,
}

/// A key that holds another one's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The secret.
    pub path: SecretPath,
    /// Its key.
    pub key: String,
}

/// What has become of a value that a machine could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyNow {
    /// The newest version of its secret holds a value that the machine could read.
    InUse,
    /// It has another value since this version.
    Changed {
        /// The version.
        ver: u64,
        /// When that was written.
        time: Time,
    },
    /// Its secret has no such key since this version.
    Gone {
        /// The version.
        ver: u64,
        /// When that was written.
        time: Time,
    },
    /// Its secret is deleted.
    Deleted,
}
