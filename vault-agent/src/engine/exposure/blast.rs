//! What a value has reached: the versions that hold it, the machines that these were encrypted to,
//! what holds its keys today, and where else it lies.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use shared::error::{Code, Error};
use shared::path::SecretPath;

use super::keys::{Judged, Opened, Value, judge};
use super::past::{self, Kept};
use super::{elsewhere, reached};
use crate::engine::parts::Parts;
use machine::local::{Blast, OlderKey};

/// Which value is asked for.
pub(in crate::engine) struct Asked {
    pub(in crate::engine) path: SecretPath,
    /// The version; none for the newest.
    pub(in crate::engine) ver: Option<u64>,
    /// The key; none for all that is in the version.
    pub(in crate::engine) key: Option<String>,
}

/// Tells what a value has reached.
///
/// # Errors
/// `E_MISSING` if there is no such secret, version or key, or if the database fails.
pub(in crate::engine) async fn of(parts: &Arc<Parts>, asked: Asked) -> Result<Blast> {
    let Asked { path, ver, key } = asked;
    let kept = past::all(parts, &path).await?;
    let (newest, issuer) = newest(parts, &path);
    let ver = ver.or(newest).ok_or_else(|| {
        Code::Missing.because(format!("newest version of `{path}`: name one, `{path}@N`"))
    })?;
    let at = kept.iter().position(|one| one.ver == ver);
    let at = at.ok_or_else(|| Code::Missing.because(format!("version {ver} of `{path}`")))?;
    let held = holding(&kept, at, &path, key.as_deref())?;
    let opened: Vec<&Opened> = kept.iter().filter_map(|one| one.opened.as_ref().ok()).collect();
    let unread = kept[at].opened.as_ref().err().cloned();
    let mut judged = match &unread {
        None => judge(&opened, &held, newest.is_none()),
        Some(_) => Vec::new(),
    };
    judged.retain(|one| key.as_ref().is_none_or(|key| one.key.key == *key));
    let unsearched = elsewhere::find(parts, vec![(&path, &mut judged)]).await?;
    let older = if key.is_none() { older(&kept, at) } else { Vec::new() };
    let is_file = kept[at].opened.as_ref().is_ok_and(|opened| opened.is_file);
    let unopened = kept.iter().filter(|one| one.opened.is_err() && !held.contains(&one.ver));
    let unjudged = unopened.map(|one| one.ver).filter(|_| key.is_some()).collect();
    let told = kept.iter().enumerate().filter(|(_, one)| held.contains(&one.ver));
    let versions = told.map(|(n, one)| past::tell(one, &kept[..n])).collect();
    let place = path.clone();
    let hosts = parts.store.read(move |conn| Ok(reached::by(conn, place, held))).await??;
    let keys = judged.into_iter().map(|Judged { key, .. }| key).collect();
    Ok(Blast {
        path,
        ver,
        newest,
        versions,
        keys,
        is_file,
        older,
        issuer,
        unread,
        unjudged,
        unsearched,
        hosts,
        begins: parts.ledger.read().begins(),
    })
}

/// Returns the newest version unless it is deleted, and who issues the secret.
fn newest(parts: &Parts, path: &SecretPath) -> (Option<u64>, Option<String>) {
    let (folded, now) = (parts.ledger.read(), parts.time_for_ages());
    let Some(secret) = folded.state.secret(path) else { return (None, None) };
    let newest = secret.current().filter(|(_, one)| one.is_live(now)).map(|(ver, _)| ver);
    (newest, secret.custom.texts().remove("issuer"))
}

/// Returns the versions that hold the value of a key in the one at `at`; that one alone without a
/// key, or if it does not open.
fn holding(
    kept: &[Kept],
    at: usize,
    path: &SecretPath,
    key: Option<&str>,
) -> Result<BTreeSet<u64>, Error> {
    let ver = kept[at].ver;
    let (Some(key), Ok(opened)) = (key, &kept[at].opened) else { return Ok([ver].into()) };
    let value = opened.values.get(key).ok_or_else(|| {
        Code::Missing.because(format!("key `{key}` in version {ver} of `{path}`"))
    })?;
    let holds = |one: &&Kept| one.value(key) == Some(value);
    Ok(kept.iter().filter(holds).map(|one| one.ver).collect())
}

/// Returns the keys of the version at `at` that had the same value in the one before it.
fn older(kept: &[Kept], at: usize) -> Vec<OlderKey> {
    let Ok(opened) = &kept[at].opened else { return Vec::new() };
    let keys = opened.values.iter().filter_map(|(key, value)| {
        let holds = |one: &&Kept| one.value(key) == Some(value);
        let first = kept[..at].iter().rev().take_while(holds).last()?;
        Some(OlderKey { key: key.clone(), since: first.ver })
    });
    keys.collect()
}

impl Kept {
    fn value(&self, key: &str) -> Option<&Value> {
        self.opened.as_ref().ok()?.values.get(key)
    }
}
