//! Opening versions with a recovery key, one by one, with nothing shown of them.

use anyhow::{Context as _, Result};
use shared::blob::{self, Blob, Expected, Opened, Place};
use shared::keys::Identity;
use shared::signed::VaultId;

use crate::client::{Client, Error};
use crate::context::Global;
use host::progress::Progress;
use machine::local::{KeptVersion, SEALED, Sealed};

/// Opens each of `versions`; returns those that do not open, and why.
pub(super) fn open_all<'a>(
    global: &Global,
    vault: &VaultId,
    key: &Identity,
    versions: &[&'a KeptVersion],
) -> Result<Vec<(&'a KeptVersion, String)>> {
    let client = global.client()?;
    let mut progress = Progress::start(&global.term, versions.len());
    let mut closed = Vec::new();
    for version in versions {
        progress.step(version.path.as_str());
        match sealed(&client, version) {
            Ok(sealed) => {
                if let Err(why) = open(vault, key, version, sealed)? {
                    closed.push((*version, why.to_string()));
                }
            }
            Err(why) => closed.push((*version, why.to_string())),
        }
    }
    progress.end();
    Ok(closed)
}

/// Fetches the ciphertext of a version.
pub(super) fn sealed(
    client: &Client,
    KeptVersion { path, ver, .. }: &KeptVersion,
) -> Result<Sealed, Error> {
    client.get(SEALED, &[("path", path.to_string()), ("ver", ver.to_string())])
}

/// Opens a version; tells why it does not open.
pub(super) fn open(
    vault: &VaultId,
    key: &Identity,
    KeptVersion { path, ver, .. }: &KeptVersion,
    Sealed { blob, size, commit, readers, bytes, .. }: Sealed,
) -> Result<shared::error::Result<Opened>> {
    let readers = usize::try_from(readers).context("too many readers")?;
    // The recovery recipient is the last of the readers.
    let position = readers.saturating_sub(1);
    let place = Place { vault, path, ver: *ver };
    let expected = Expected { place, blob, size, commit, readers, position };
    Ok(blob::open(key, &expected, &Blob::new(bytes.0)))
}
