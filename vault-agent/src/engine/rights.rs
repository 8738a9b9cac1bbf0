//! What this machine may read and keep, by the state alone. Pure.

use shared::log::{self, Deletion, State, Version};
use shared::path::SecretPath;
use shared::time::Time;

use super::types::{Own, ReadError};

/// Tells whether the machine may read `path`.
pub(super) fn may_read(state: &State, own: &Own, path: &SecretPath) -> bool {
    own.find(state).is_some_and(|(_, machine)| machine.read.cover(path))
}

/// Tells whether a version's ciphertext may be retained: its secret is there and may be read, and
/// the version is not destroyed.
pub(super) fn may_retain(state: &State, own: &Own, path: &SecretPath, ver: u64) -> bool {
    may_read(state, own, path)
        && state
            .secret(path)
            .is_some_and(|secret| secret.version(ver).is_none_or(|version| !version.destroyed))
}

/// Returns how many readers a path has today, and the machine's place among them.
pub(super) fn place(state: &State, own: &Own, path: &SecretPath) -> (usize, usize) {
    let readers = log::readers(state, path);
    let own = own.find(state).map(|(number, _)| number.to_string());
    let position = own.and_then(|own| readers.iter().position(|reader| *reader == own));
    (readers.len(), position.unwrap_or(0))
}

/// Tells whether a version is neither destroyed nor marked deleted; its age does not count.
pub(super) fn is_kept(version: &Version) -> bool {
    !version.destroyed && !matches!(version.deletion, Deletion::Since(_))
}

/// Finds a version that may be read now.
pub(super) fn find<'a>(
    state: &'a State,
    own: &Own,
    path: &SecretPath,
    ver: Option<u64>,
    now: Time,
) -> Result<(u64, &'a Version), ReadError> {
    if !may_read(state, own, path) {
        return Err(ReadError::Denied);
    }
    let secret = state.secret(path).ok_or(ReadError::Missing)?;
    let found = match ver {
        None => secret.current(),
        Some(ver) => secret.version(ver).map(|version| (ver, version)),
    };
    let (ver, version) = found.ok_or(ReadError::Missing)?;
    if version.destroyed {
        return Err(ReadError::Destroyed { ver });
    }
    if !version.is_live(now) {
        return Err(ReadError::Deleted { ver });
    }
    Ok((ver, version))
}
