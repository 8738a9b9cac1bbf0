//! Who may read a path today: the list that every version is encrypted to.

use std::fmt::Write as _;

use crate::hash::Hash;
use crate::keys::Recipient;
use crate::path::SecretPath;

use super::state::{State, Version};

/// Returns the numbers of the active machines that may read `path`, ascending, then `@recovery#n`.
pub fn readers(state: &State, path: &SecretPath) -> Vec<String> {
    let mut list: Vec<String> =
        state.machines.reading(path).map(|(number, _)| number.to_string()).collect();
    list.push(format!("@recovery#{}", state.recovery_number));
    list
}

/// Returns SHA-256 of [`readers`] joined by LF.
pub fn readers_hash(state: &State, path: &SecretPath) -> Hash {
    let mut text = String::new();
    for (number, _) in state.machines.reading(path) {
        let _ = writeln!(text, "{number}");
    }
    let _ = write!(text, "@recovery#{}", state.recovery_number);
    Hash::of(&[text.as_bytes()])
}

/// Returns the recipients in the order of [`readers`]; the last is recovery's.
pub fn recipients(state: &State, path: &SecretPath) -> Vec<Recipient> {
    let machines = state.machines.reading(path).map(|(_, machine)| machine.recipient.clone());
    machines.chain([state.recovery.clone()]).collect()
}

impl State {
    /// Returns the live current versions whose blob was made for other readers than today's.
    pub fn stale(&self) -> impl Iterator<Item = (&SecretPath, u64)> {
        self.secrets.iter().filter_map(|(path, secret)| {
            let (ver, version) = secret.current()?;
            (is_kept(version) && version.readers != readers_hash(self, path)).then_some((path, ver))
        })
    }

    /// Returns the same of earlier versions that are still kept.
    pub fn stale_before(&self) -> impl Iterator<Item = (&SecretPath, u64)> {
        self.secrets.iter().flat_map(|(path, secret)| {
            let newest = secret.current().map(|(ver, _)| ver);
            let today = readers_hash(self, path);
            let is_stale = move |(ver, version): &(u64, &Version)| {
                Some(*ver) != newest && is_kept(version) && version.readers != today
            };
            secret.versions().filter(is_stale).map(move |(ver, _)| (path, ver))
        })
    }
}

/// Tells whether a version may be re-encrypted: it is neither destroyed nor marked deleted.
fn is_kept(version: &Version) -> bool {
    !version.destroyed && !matches!(version.deletion, super::Deletion::Since(_))
}
