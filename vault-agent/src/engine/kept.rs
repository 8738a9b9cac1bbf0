//! What a recovery kit must open: which versions there are, and their ciphertext with what the log
//! says of it; and what the kit has opened for this machine. No key comes here.

use std::sync::PoisonError;

use anyhow::{Context as _, Result};
use shared::blob::Blob;
use shared::error::Code;
use shared::log::{self, Secret, State};
use shared::name::Actor;
use shared::path::SecretPath;

use super::blob::Due;
use super::parts::Parts;
use super::read::{self, Reach};
use super::rights::{is_kept, may_read};
use machine::local::{GiveRequest, Inline, Kept, KeptVersion, Sealed};

/// Lists them, with the keys that hold now.
pub(super) fn list(parts: &Parts) -> Result<Kept> {
    let folded = parts.ledger.read();
    let state = &folded.state;
    let any = "secret/any".parse::<SecretPath>()?;
    let versions = state.secrets().iter().flat_map(|(path, secret)| {
        let granted = may_read(state, &parts.own, path);
        of(path, secret, granted)
    });
    Ok(Kept {
        vault: state.vault(),
        name: state.name().clone(),
        seq: state.seq(),
        head: state.head(),
        root: state.key(&Actor::Root).context("the vault has no root")?.clone(),
        recovery: log::recipients(state, &any).pop().context("the vault has no recovery key")?,
        recipient: parts.own.keys.age.recipient(),
        admins: state.admins().clone(),
        versions: versions.collect(),
    })
}

fn of(path: &SecretPath, secret: &Secret, granted: bool) -> Vec<KeptVersion> {
    let newest = secret.current().map(|(ver, _)| ver);
    let there = secret.versions().filter(|(_, version)| !version.destroyed);
    let row = there.map(|(ver, version)| KeptVersion {
        path: path.clone(),
        ver,
        newest: newest == Some(ver),
        deleted: !is_kept(version),
        granted,
    });
    row.collect()
}

/// Returns a version's ciphertext, whose size and hash are right; it need not open here.
pub(super) async fn sealed(parts: &Parts, path: &SecretPath, ver: u64) -> Result<Sealed> {
    let due = due(parts, path, ver)?;
    let (blob, _) = read::ciphertext(parts, &due, Reach::Server).await?;
    let (readers, opens) = (due.readers_of(&blob) as u64, due.open(&parts.own.keys, &blob).is_ok());
    let (id, size, commit) = (due.blob, due.size, due.commit);
    Ok(Sealed { blob: id, size, commit, readers, opens, bytes: Inline(blob.into_bytes()) })
}

/// Takes a version for re-encrypting that this machine may read and does not open. The log's
/// promise tells whether it is that content.
pub(super) fn give(parts: &Parts, GiveRequest { path, ver, bytes }: GiveRequest) -> Result<()> {
    if !may_read(&parts.ledger.read().state, &parts.own, &path) {
        return Err(Code::Denied.because(format!("this machine does not read `{path}`")).into());
    }
    let (due, blob) = (due(parts, &path, ver)?, Blob::new(bytes.0));
    due.given(&blob).open(&parts.own.keys, &blob)?;
    parts.given.lock().unwrap_or_else(PoisonError::into_inner).insert(due.blob, blob);
    Ok(())
}

/// Returns what the log says of a version.
fn due(parts: &Parts, path: &SecretPath, ver: u64) -> Result<Due> {
    let folded = parts.ledger.read();
    let known = |state: &State| state.secret(path).and_then(|it| it.version(ver)).cloned();
    let absent = || Code::Missing.because(format!("version {ver} of `{path}`"));
    let version = known(&folded.state).filter(|version| !version.destroyed);
    Ok(folded.due(path, ver, &version.ok_or_else(absent)?))
}
