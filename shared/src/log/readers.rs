//! Who may read a path today: the list that every version is encrypted to.

use std::fmt::Write as _;

use crate::hash::Hash;
use crate::keys::Recipient;
use crate::path::SecretPath;

use super::state::State;

/// Returns `name#incarnation` of every active machine that may read `path`, sorted, then
/// `@recovery#n`.
pub fn readers(state: &State, path: &SecretPath) -> Vec<String> {
    let mut list: Vec<String> = reading(state, path)
        .map(|(name, machine)| format!("{name}#{}", machine.incarnation))
        .collect();
    list.push(format!("@recovery#{}", state.recovery_number));
    list
}

/// Returns SHA-256 of [`readers`] joined by LF.
pub fn readers_hash(state: &State, path: &SecretPath) -> Hash {
    let mut text = String::new();
    for (name, machine) in reading(state, path) {
        let _ = writeln!(text, "{name}#{}", machine.incarnation);
    }
    let _ = write!(text, "@recovery#{}", state.recovery_number);
    Hash::of(&[text.as_bytes()])
}

/// Returns the recipients in the order of [`readers`]; the last is recovery's.
pub fn recipients(state: &State, path: &SecretPath) -> Vec<Recipient> {
    let mut list: Vec<Recipient> =
        reading(state, path).map(|(_, machine)| machine.recipient.clone()).collect();
    list.push(state.recovery.clone());
    list
}

fn reading<'a>(
    state: &'a State,
    path: &'a SecretPath,
) -> impl Iterator<Item = (&'a crate::name::Name, &'a super::state::Machine)> {
    state.machines.iter().filter(move |(_, machine)| machine.active && machine.read.cover(path))
}

impl State {
    /// Returns the live current versions whose blob was made for other readers than today's.
    pub fn stale(&self) -> impl Iterator<Item = (&SecretPath, u64)> {
        self.secrets.iter().filter_map(|(path, secret)| {
            let (ver, version) = secret.current()?;
            let live = !version.destroyed && !matches!(version.deletion, super::Deletion::Since(_));
            (live && version.readers != readers_hash(self, path)).then_some((path, ver))
        })
    }
}
