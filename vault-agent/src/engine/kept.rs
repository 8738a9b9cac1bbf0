//! What a recovery kit must open: which versions there are, and their ciphertext with what the log
//! says of it. No key comes here.

use anyhow::{Context as _, Result};
use shared::error::Code;
use shared::log::{self, Secret, State};
use shared::name::Actor;
use shared::path::SecretPath;

use super::parts::Parts;
use super::read::{self, Reach};
use super::rights::{is_kept, may_read};
use machine::local::{Inline, Kept, KeptVersion, Sealed};

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
    let due = {
        let folded = parts.ledger.read();
        let known = |state: &State| state.secret(path).and_then(|it| it.version(ver)).cloned();
        let absent = || Code::Missing.because(format!("version {ver} of `{path}`"));
        let version = known(&folded.state).filter(|version| !version.destroyed);
        folded.due(path, ver, &version.ok_or_else(absent)?)
    };
    let (blob, _) = read::ciphertext(parts, &due, Reach::Server).await?;
    let readers = due.readers_of(&blob) as u64;
    let (id, size, commit) = (due.blob, due.size, due.commit);
    Ok(Sealed { blob: id, size, commit, readers, bytes: Inline(blob.into_bytes()) })
}
