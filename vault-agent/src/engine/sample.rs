//! One secret's ciphertext with what the log says of it, for proving that a recovery kit works.
//! No key comes here.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use shared::hash::Hash;
use shared::keys::{Recipient, VerifyKey};
use shared::log;
use shared::name::Actor;
use shared::path::SecretPath;
use shared::signed::VaultId;

use super::blob::Due;
use super::read::{Reach, Reader};

/// What a kit must match, and a blob that it must open.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The vault.
    pub vault: VaultId,
    /// Root's key.
    pub root: VerifyKey,
    /// The recipient that every secret is encrypted to as well.
    pub recovery: Recipient,
    /// A secret; `None` while this machine can read none.
    pub secret: Option<SampleSecret>,
}

/// A version of a secret, encrypted.
#[derive(Clone, Debug)]
pub struct SampleSecret {
    /// The secret.
    pub path: SecretPath,
    /// The version.
    pub ver: u64,
    /// The blob's hash.
    pub blob: Hash,
    /// Its size.
    pub size: u64,
    /// The commitment to the content.
    pub commit: Hash,
    /// How many it is encrypted to.
    pub readers: u64,
    /// The age file.
    pub bytes: Vec<u8>,
}

/// Takes the first secret that this machine reads.
pub(super) async fn take(reader: &Arc<Reader>) -> Result<Sample> {
    let (mut sample, due) = look(reader)?;
    if let Some((due, mut secret)) = due {
        secret.bytes = reader.ciphertext(&due, Reach::Server).await?.into_bytes();
        sample.secret = Some(secret);
    }
    Ok(sample)
}

fn look(reader: &Reader) -> Result<(Sample, Option<(Due, SampleSecret)>)> {
    let folded = reader.ledger.read();
    let state = &folded.state;
    let any = "secret/any".parse::<SecretPath>()?;
    let sample = Sample {
        vault: state.vault(),
        root: state.key(&Actor::Root).context("the vault has no root")?.clone(),
        recovery: log::recipients(state, &any).pop().context("the vault has no recovery key")?,
        secret: None,
    };
    let found = state.secrets().iter().find_map(|(path, secret)| {
        let due = folded.newest(&reader.own.name, path)?;
        let (ver, version) = secret.current()?;
        let (readers, _) = *folded.readers.get(&version.readers)?;
        let secret = SampleSecret {
            path: path.clone(),
            ver,
            blob: version.blob,
            size: version.size,
            commit: version.commit,
            readers: readers as u64,
            bytes: Vec::new(),
        };
        Some((due, secret))
    });
    Ok((sample, found))
}
