//! Which secrets hold a key: looks into the versions whose ciphertext lies on this machine. The
//! server is not asked for others: that would be a read of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use serde::de::IgnoredAny;
use shared::blob::Kind;
use shared::path::SecretPath;
use shared::text::like;

use super::parts::Parts;
use super::read::{self, Reach};
use super::types::{Content, ReadError};
use machine::binary;
use machine::local::{Holder, Holders};

/// Keys that look alike which are named.
const ALIKE: usize = 5;

pub(super) async fn of(parts: &Arc<Parts>, name: &str) -> Result<Holders> {
    let mut found = Holders::default();
    for (path, versions) in readable(parts) {
        let mut holder = Holder { path: path.clone(), holds: Vec::new(), lacks: Vec::new() };
        for (ver, is_newest) in versions {
            let keys = match read::content(parts, &path, Some(ver), Reach::Here).await {
                Ok(content) => keys(&content),
                Err(ReadError::Local(fault)) => return Err(fault.into()),
                Err(_) => None,
            };
            let Some(keys) = keys else {
                *(if is_newest { &mut found.unread } else { &mut found.earlier }) += 1;
                continue;
            };
            found.searched += u64::from(is_newest);
            if keys.iter().any(|key| like(name, key)) {
                holder.holds.push(ver);
            } else {
                holder.lacks.push(ver);
                note_alike(&mut found.alike, name, &keys);
            }
        }
        if !holder.holds.is_empty() {
            found.secrets.push(holder);
        }
    }
    if !found.secrets.is_empty() {
        found.alike.clear();
    }
    Ok(found)
}

/// Returns the secrets that this machine reads, with the live versions of each, the newest marked.
fn readable(parts: &Parts) -> Vec<(SecretPath, Vec<(u64, bool)>)> {
    let (folded, now) = (parts.ledger.read(), parts.time_for_ages());
    let state = &folded.state;
    let Some((_, own)) = parts.own.find(state) else { return Vec::new() };
    let readable = state.secrets().iter().filter(|(path, _)| own.read.cover(path));
    let listed = readable.map(|(path, secret)| {
        let live = secret.versions().filter(|(_, version)| version.is_live(now));
        (path.clone(), live.map(|(ver, _)| (ver, ver == secret.last)).collect())
    });
    listed.collect()
}

/// Returns the keys of a content; `None` for one that is no object.
fn keys(content: &Content) -> Option<Vec<String>> {
    match content.kind {
        Kind::Kv => {
            let fields: BTreeMap<String, IgnoredAny> =
                serde_json::from_slice(content.expose()).ok()?;
            Some(fields.into_keys().collect())
        }
        Kind::Raw => Some(vec![binary::FILE.to_owned()]),
    }
}

/// Notes keys of which the name is a part, or that are a part of it.
fn note_alike(alike: &mut Vec<String>, name: &str, keys: &[String]) {
    let name = name.replace('*', "").to_lowercase();
    for key in keys {
        let lower = key.to_lowercase();
        let is_like = name.len() > 2 && (lower.contains(&name) || name.contains(&lower));
        if is_like && alike.len() < ALIKE && !alike.contains(key) {
            alike.push(key.clone());
        }
    }
}
