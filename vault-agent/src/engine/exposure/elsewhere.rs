//! Where else a value lies today that a machine could read: under another key, or in another
//! secret. Only what lies on this machine is looked through: asking the server would be a read of
//! each.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use shared::hash::Hash;
use shared::path::SecretPath;
use shared::time::Time;

use super::keys::{Judged, Opened};
use crate::engine::parts::Parts;
use crate::engine::read::{self, Reach};
use crate::engine::rights::may_read;
use crate::engine::types::ReadError;
use machine::local::Copied;

/// Most copies of one key's values that are named.
const NAMED: usize = 8;

/// The keys of a secret that were judged.
pub(super) type Keys<'a> = (&'a SecretPath, &'a mut Vec<Judged>);

/// Adds to each key where else its values lie; returns how many secrets were not looked through.
///
/// # Errors
/// If this machine's own database cannot be read.
pub(super) async fn find(parts: &Arc<Parts>, all: Vec<Keys<'_>>) -> Result<u64> {
    let mut wanted = Wanted::of(all);
    let (readable, mut unsearched) = newest(parts);
    for (path, ver) in readable {
        match read::content(parts, &path, Some(ver), Reach::Here).await {
            Ok(content) => wanted.compare(&path, &Opened::new(&content, Time::default())),
            Err(ReadError::Local(fault)) => return Err(fault).context("reading the own database"),
            Err(_) => unsearched += 1,
        }
    }
    Ok(unsearched)
}

/// Returns the newest version of each secret that this machine reads, and how many others there
/// are.
fn newest(parts: &Parts) -> (Vec<(SecretPath, u64)>, u64) {
    let (folded, now) = (parts.ledger.read(), parts.time_for_ages());
    let (mut readable, mut others) = (Vec::new(), 0);
    for (path, secret) in folded.state.secrets() {
        let Some((ver, _)) = secret.current().filter(|(_, one)| one.is_live(now)) else { continue };
        if may_read(&folded.state, &parts.own, path) {
            readable.push((path.clone(), ver));
        } else {
            others += 1;
        }
    }
    (readable, others)
}

/// The values that are looked for.
struct Wanted<'a> {
    all: Vec<Keys<'a>>,
    /// Which keys of which secrets had a value.
    by_value: BTreeMap<Hash, Vec<(usize, usize)>>,
}

impl<'a> Wanted<'a> {
    fn of(all: Vec<Keys<'a>>) -> Self {
        let mut by_value: BTreeMap<Hash, Vec<(usize, usize)>> = BTreeMap::new();
        for (secret, (_, keys)) in all.iter().enumerate() {
            for (at, judged) in keys.iter().enumerate() {
                for value in judged.values.iter().filter(|value| value.is_telling) {
                    by_value.entry(value.hash).or_default().push((secret, at));
                }
            }
        }
        Self { all, by_value }
    }

    /// Notes the keys of a secret that hold a value of another.
    fn compare(&mut self, path: &SecretPath, opened: &Opened) {
        for (key, value) in &opened.values {
            for (secret, at) in self.by_value.get(&value.hash).into_iter().flatten() {
                let (from, keys) = &mut self.all[*secret];
                let of = &mut keys[*at].key;
                let is_itself = *from == path && of.key == *key;
                if !is_itself && of.copies.len() < NAMED {
                    of.copies.push(Copied { path: path.clone(), key: key.clone() });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::blob::Kind;
    use shared::plaintext::Plaintext;

    use super::super::keys::judge;
    use super::*;
    use crate::engine::types::Content;

    fn opened(text: &str) -> Opened {
        let bytes = Arc::new(Plaintext::from(text.as_bytes()));
        Opened::new(&Content { ver: 1, kind: Kind::Kv, bytes }, Time::default())
    }

    #[test]
    fn a_value_is_found_under_other_keys_unless_it_is_found_anywhere() {
        let path = |text: &str| text.parse::<SecretPath>().unwrap();
        let read = opened(r#"{"A":"sk-1234567","B":"true","C":12345678,"D":"sk-7654321"}"#);
        let mut keys = judge(&[read], &[1].into(), false);
        let from = path("secret/a");
        let mut wanted = Wanted::of(vec![(&from, &mut keys)]);
        let now = r#"{"A":"sk-1234567","X":"\u0073k-1234567","B2":"true","C2":12345678}"#;
        wanted.compare(&from, &opened(now));
        wanted.compare(&path("secret/b"), &opened(r#"{"A":"sk-1234567","D":"x-sk-7654321"}"#));
        for n in 0..2 * NAMED {
            let many = format!(r#"{{"M{n}":"sk-7654321"}}"#);
            wanted.compare(&path("secret/c"), &opened(&many));
        }
        let told = keys.iter().map(|judged| {
            let copies = judged.key.copies.iter().map(|it| format!("{} {}", it.path, it.key));
            (judged.key.key.as_str(), copies.collect::<Vec<_>>())
        });
        let told: BTreeMap<_, _> = told.collect();
        assert_eq!(told["A"], ["secret/a X", "secret/b A"]);
        assert!(told["B"].is_empty() && told["C"].is_empty(), "{told:?}");
        assert_eq!(told["D"].len(), NAMED);
    }
}
