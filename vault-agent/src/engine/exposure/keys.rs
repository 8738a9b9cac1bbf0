//! What has become of each key of a secret whose value a machine could read: compares the versions
//! that open. Pure.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use shared::blob::Kind;
use shared::hash::Hash;
use shared::time::Time;
use zeroize::Zeroizing;

use crate::engine::types::Content;
use machine::binary;
use machine::local::{ExposedKey, KeyNow};

/// Fewest bytes of a value whose copies are looked for: a shorter one, as `true`, is anywhere.
const TELLING: usize = 8;

/// A version that opened.
pub(super) struct Opened {
    pub(super) ver: u64,
    pub(super) time: Time,
    pub(super) values: BTreeMap<String, Value>,
    /// Whether it is one file, which has no keys of its own.
    pub(super) is_file: bool,
}

/// A key's value, which nobody can read out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value {
    pub(super) hash: Hash,
    /// Whether two that are equal are one copied.
    pub(super) is_telling: bool,
}

/// A key that was judged, and the values of it that the machine could read.
pub(super) struct Judged {
    pub(super) key: ExposedKey,
    pub(super) values: BTreeSet<Value>,
}

impl Opened {
    /// Takes the keys of a content; none of one that is no object.
    pub(super) fn new(content: &Content, time: Time) -> Self {
        let values = match content.kind {
            Kind::Raw => {
                let hash = Hash::of(&[content.expose()]);
                let is_telling = content.expose().len() >= TELLING;
                BTreeMap::from([(binary::FILE.to_owned(), Value { hash, is_telling })])
            }
            Kind::Kv => {
                let fields = serde_json::from_slice::<BTreeMap<String, &RawValue>>;
                let fields = fields(content.expose()).unwrap_or_default();
                fields.into_iter().map(|(key, value)| (key, Value::of(value))).collect()
            }
        };
        Self { ver: content.ver, time, values, is_file: content.kind == Kind::Raw }
    }
}

impl Value {
    /// Hashes what a value says, however it is spelled.
    fn of(raw: &RawValue) -> Self {
        if let Ok(text) = serde_json::from_str::<String>(raw.get()).map(Zeroizing::new) {
            let hash = Hash::of(&[b"text", text.as_bytes()]);
            return Self { hash, is_telling: text.len() >= TELLING };
        }
        let value = serde_json::from_str::<serde_json::Value>(raw.get());
        let text = Zeroizing::new(value.map(|value| value.to_string()).unwrap_or_default());
        Self { hash: Hash::of(&[b"json", text.as_bytes()]), is_telling: false }
    }
}

/// Judges the keys of a secret by its versions that open, in order, the newest of which is what
/// holds today unless the secret `is_deleted`. What was encrypted to the machine and opens no more
/// counts with the next version that does: nobody can tell which keys changed between the two.
pub(super) fn judge(
    opened: &[impl Borrow<Opened>],
    exposed: &BTreeSet<u64>,
    is_deleted: bool,
) -> Vec<Judged> {
    let opened: Vec<&Opened> = opened.iter().map(Borrow::borrow).collect();
    // Each version of the machine's, and the one that speaks for it.
    let spoken = exposed.iter().filter_map(|ver| {
        let at = opened.partition_point(|one| one.ver < *ver);
        Some((*ver, *opened.get(at)?))
    });
    let mut keys: BTreeMap<&str, (Vec<u64>, BTreeSet<Value>)> = BTreeMap::new();
    for (ver, one) in spoken {
        for (key, value) in &one.values {
            let (versions, values) = keys.entry(key).or_default();
            versions.push(ver);
            values.insert(*value);
        }
    }
    let judged = keys.into_iter().map(|(key, (versions, values))| {
        let now = if is_deleted { KeyNow::Deleted } else { now(&opened, key, &values) };
        let key = ExposedKey { key: key.to_owned(), versions, now, copies: Vec::new() };
        Judged { key, values }
    });
    judged.collect()
}

/// Tells what holds a key today of which the machine could read `values`.
fn now(opened: &[&Opened], key: &str, values: &BTreeSet<Value>) -> KeyNow {
    let is_clean = |one: &&&Opened| one.values.get(key).is_none_or(|value| !values.contains(value));
    let Some(first) = opened.iter().rev().take_while(is_clean).last() else {
        return KeyNow::InUse;
    };
    let (ver, time) = (first.ver, first.time);
    if opened.last().is_some_and(|newest| newest.values.contains_key(key)) {
        KeyNow::Changed { ver, time }
    } else {
        KeyNow::Gone { ver, time }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::plaintext::Plaintext;

    use super::*;

    fn opened(ver: u64, text: &str) -> Opened {
        let bytes = Arc::new(Plaintext::from(text.as_bytes()));
        Opened::new(&Content { ver, kind: Kind::Kv, bytes }, Time::from_micros(ver))
    }

    fn check(versions: &[(u64, &str)], exposed: &[u64], expected: &[&str]) {
        let opened: Vec<Opened> = versions.iter().map(|(ver, text)| opened(*ver, text)).collect();
        let exposed = exposed.iter().copied().collect();
        let told = judge(&opened, &exposed, false).into_iter().map(|Judged { key, .. }| {
            let now = match key.now {
                KeyNow::InUse => "in use".to_owned(),
                KeyNow::Changed { ver, .. } => format!("changed {ver}"),
                KeyNow::Gone { ver, .. } => format!("gone {ver}"),
                KeyNow::Deleted => "deleted".to_owned(),
            };
            format!("{} {:?} {now}", key.key, key.versions)
        });
        assert_eq!(told.collect::<Vec<_>>(), expected, "{versions:?} {exposed:?}");
    }

    #[test]
    fn each_key_is_judged_by_itself() {
        let two = r#"{"A":"1","B":"2"}"#;
        check(&[(1, two)], &[1], &["A [1] in use", "B [1] in use"]);
        let one_changed = &[(1, two), (2, r#"{"A":"x","B":"2","C":"3"}"#)];
        check(one_changed, &[1], &["A [1] changed 2", "B [1] in use"]);
        check(&[(1, two), (2, r#"{"B":"x"}"#)], &[1], &["A [1] gone 2", "B [1] changed 2"]);
        // Since when: where it changed first, whatever was written later.
        let later = &[(1, r#"{"A":"1"}"#), (2, r#"{"A":"2"}"#), (3, r#"{"A":"3"}"#)];
        check(later, &[1], &["A [1] changed 2"]);
        check(later, &[1, 2], &["A [1, 2] changed 3"]);
    }

    #[test]
    fn a_value_that_comes_back_is_in_use() {
        let back = &[(1, r#"{"A":"1"}"#), (2, r#"{"A":"2"}"#), (3, r#"{"A":"\u0031"}"#)];
        check(back, &[1], &["A [1] in use"]);
        let gone = &[(1, r#"{"A":[1, 2]}"#), (2, "{}"), (3, r#"{"A":[1,2]}"#)];
        check(gone, &[1], &["A [1] in use"]);
    }

    #[test]
    fn what_opens_no_more_counts_with_the_next_that_does() {
        let kept = &[(4, r#"{"A":"1"}"#), (5, r#"{"A":"2"}"#)];
        check(kept, &[1], &["A [1] changed 5"]);
        check(&kept[..1], &[1, 2], &["A [1, 2] in use"]);
        check(&[], &[1], &[]);
    }
}
