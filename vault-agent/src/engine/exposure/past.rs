//! The versions of one secret: who wrote them, and which keys changed from one to the next, as far
//! as they open here.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use shared::error::Code;
use shared::name::Actor;
use shared::path::SecretPath;
use shared::time::Time;

use super::keys::{Opened, Value};
use super::reached;
use crate::engine::parts::Parts;
use crate::engine::read::{self, Reach};
use crate::engine::types::ReadError;
use machine::local::{KeysChanged, PastVersion};

/// Most versions that are opened, the newest first: each may have to be asked for.
const OPENED: usize = 100;

/// One version that is not forgotten.
pub(super) struct Kept {
    pub(super) ver: u64,
    by: Actor,
    time: Time,
    /// What is in it, or why nobody here knows.
    pub(super) opened: Result<Opened, String>,
}

/// Tells the versions of a secret, oldest first.
///
/// # Errors
/// `E_MISSING`, or if this machine's own database cannot be read.
pub(in crate::engine) async fn of(
    parts: &Arc<Parts>,
    path: &SecretPath,
) -> Result<Vec<PastVersion>> {
    let kept = all(parts, path).await?;
    let (place, versions) = (path.clone(), kept.iter().map(|one| one.ver).collect());
    let hosts = parts.store.read(move |conn| Ok(reached::by(conn, place, versions))).await??;
    let told = kept.iter().enumerate().map(|(n, one)| {
        let hosts = hosts.iter().filter(|host| host.versions.contains(&one.ver));
        let names = hosts.flat_map(|host| &host.names).map(|borne| borne.name.clone());
        PastVersion { reached: names.collect(), ..tell(one, &kept[..n]) }
    });
    Ok(told.collect())
}

/// Returns the versions of a secret, oldest first; asks the server for what is not here.
pub(super) async fn all(parts: &Arc<Parts>, path: &SecretPath) -> Result<Vec<Kept>> {
    let versions: Vec<(u64, Actor, Time)> = {
        let folded = parts.ledger.read();
        let secret = folded
            .state
            .secret(path)
            .ok_or_else(|| Code::Missing.because(format!("secret `{path}`")))?;
        secret.versions().map(|(ver, one)| (ver, one.by.clone(), one.created)).collect()
    };
    let unopened = versions.len().saturating_sub(OPENED);
    let mut kept = Vec::with_capacity(versions.len());
    for (n, (ver, by, time)) in versions.into_iter().enumerate() {
        let opened = if n < unopened {
            Err(format!("only the newest {OPENED} versions are looked into"))
        } else {
            match read::content(parts, path, Some(ver), Reach::Server).await {
                Ok(content) => Ok(Opened::new(&content, time)),
                Err(ReadError::Local(fault)) => {
                    return Err(fault).context("reading the own database");
                }
                Err(why) => Err(why.to_string()),
            }
        };
        kept.push(Kept { ver, by, time, opened });
    }
    Ok(kept)
}

/// Tells a version, and what it changed of the last one before it that opens.
pub(super) fn tell(one: &Kept, before: &[Kept]) -> PastVersion {
    let empty = BTreeMap::new();
    let last = before.iter().rev().find_map(|kept| kept.opened.as_ref().ok());
    let (keys, unread) = match (&one.opened, last) {
        (Err(why), _) => (None, Some(why.clone())),
        (Ok(_), None) if one.ver > 1 => (None, Some("no version before it opens here".to_owned())),
        (Ok(now), last) => {
            let before = last.map_or(&empty, |last| &last.values);
            (Some(changed(before, &now.values, last.map(|last| last.ver))), None)
        }
    };
    let (by, reached) = (one.by.clone(), Vec::new());
    PastVersion { ver: one.ver, by, time: one.time, keys, unread, reached }
}

fn changed(
    before: &BTreeMap<String, Value>,
    now: &BTreeMap<String, Value>,
    since: Option<u64>,
) -> KeysChanged {
    let mut changed = KeysChanged { since, ..KeysChanged::default() };
    for (key, value) in now {
        match before.get(key) {
            None => changed.added.push(key.clone()),
            Some(old) if old != value => changed.changed.push(key.clone()),
            Some(_) => {}
        }
    }
    changed.removed.extend(before.keys().filter(|key| !now.contains_key(*key)).cloned());
    changed
}

#[cfg(test)]
mod tests {
    use shared::blob::Kind;
    use shared::plaintext::Plaintext;

    use super::*;
    use crate::engine::types::Content;

    fn kept(ver: u64, text: Option<&str>) -> Kept {
        let time = Time::from_micros(ver);
        let opened = text.ok_or_else(|| "version 2 was destroyed".to_owned()).map(|text| {
            let bytes = Arc::new(Plaintext::from(text.as_bytes()));
            Opened::new(&Content { ver, kind: Kind::Kv, bytes }, time)
        });
        Kept { ver, by: "machine:vps".parse().unwrap(), time, opened }
    }

    fn told(versions: &[Kept]) -> Vec<String> {
        let told = versions.iter().enumerate().map(|(n, one)| {
            let PastVersion { ver, keys, unread, .. } = tell(one, &versions[..n]);
            match keys {
                Some(KeysChanged { since, added, changed, removed }) => {
                    format!("{ver} {since:?} +{added:?} ~{changed:?} -{removed:?}")
                }
                None => format!("{ver} {}", unread.unwrap()),
            }
        });
        told.collect()
    }

    #[test]
    fn what_changed_is_told_by_the_names_of_keys() {
        let all = [
            kept(1, Some(r#"{"A":"1","B":[1, 2]}"#)),
            kept(2, None),
            kept(3, Some(r#"{"A":"\u0031","B":[1,2],"C":"3"}"#)),
            kept(4, Some(r#"{"A":"x","C":"3"}"#)),
            kept(5, Some(r#"{"A":"x","C":"3"}"#)),
        ];
        let expected = [
            r#"1 None +["A", "B"] ~[] -[]"#,
            "2 version 2 was destroyed",
            r#"3 Some(1) +["C"] ~[] -[]"#,
            r#"4 Some(3) +[] ~["A"] -["B"]"#,
            "5 Some(4) +[] ~[] -[]",
        ];
        assert_eq!(told(&all), expected);
        // What was before the oldest version that is kept, nobody knows any more.
        assert_eq!(told(&all[2..])[0], "3 no version before it opens here");
    }
}
