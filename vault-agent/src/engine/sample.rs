//! One secret's ciphertext with what the log says of it, for proving that a recovery kit works.
//! No key comes here.

use anyhow::{Context as _, Result};
use shared::log;
use shared::name::Actor;
use shared::path::SecretPath;

use super::blob::Due;
use super::parts::Parts;
use super::read::{self, Reach};
use machine::local::{Inline, Sample, SampleSecret};

/// Takes the first secret that this machine reads.
pub(super) async fn take(parts: &Parts) -> Result<Sample> {
    let (mut sample, due) = look(parts)?;
    if let Some((due, mut secret)) = due {
        secret.bytes = Inline(read::ciphertext(parts, &due, Reach::Server).await?.0.into_bytes());
        sample.secret = Some(secret);
    }
    Ok(sample)
}

fn look(parts: &Parts) -> Result<(Sample, Option<(Due, SampleSecret)>)> {
    let folded = parts.ledger.read();
    let state = &folded.state;
    let any = "secret/any".parse::<SecretPath>()?;
    let sample = Sample {
        vault: state.vault(),
        root: state.key(&Actor::Root).context("the vault has no root")?.clone(),
        recovery: log::recipients(state, &any).pop().context("the vault has no recovery key")?,
        secret: None,
    };
    let found = state.secrets().iter().find_map(|(path, secret)| {
        let due = folded.newest(&parts.own, path)?;
        let (ver, version) = secret.current()?;
        let (readers, _) = *folded.readers.get(&version.readers)?;
        let secret = SampleSecret {
            path: path.clone(),
            ver,
            blob: version.blob,
            size: version.size,
            commit: version.commit,
            readers: readers as u64,
            bytes: Inline(Vec::new()),
        };
        Some((due, secret))
    });
    Ok((sample, found))
}
