//! Lists whose items take far more memory than text: they are counted while they are read, so that
//! nobody makes a reader hold more than a small multiple of what it was sent.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Reads a list of at most `MOST` items; one more is an error, and the last that is read.
pub(super) fn at_most<'de, const MOST: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(AtMost::<MOST, T>(PhantomData))
}

/// Reads a list, and passes over items that only a newer program can read.
pub(super) fn known<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Known::<T>(PhantomData))
}

struct Known<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Known<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Box<RawValue>>()? {
            list.extend(serde_json::from_str::<T>(item.get()));
        }
        Ok(list)
    }
}

struct AtMost<const MOST: usize, T>(PhantomData<T>);

impl<'de, const MOST: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<MOST, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use crate::hash::Hash;
    use crate::signed::Envelope;
    use crate::wire::v1::audit::{AccessRequest, AuditPage};
    use crate::wire::v1::clone::CloneNotice;
    use crate::wire::v1::log::{AppendRequest, Frame};
    use crate::wire::v1::report::Standing;
    use crate::wire::v1::shares::{NearShare, OverShare};

    const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn sealed() -> String {
        format!(r#"{{"by":"root","body":"","sig":"{HASH}{HASH}"}}"#)
    }

    /// A list of one item too many ends the reading there: what is behind it is not looked at.
    fn check<T: DeserializeOwned>(before: &str, item: &str, most: usize, after: &str) {
        let items = |n: usize| vec![item; n].join(",");
        let whole = format!("{before}{}{after}", items(most));
        assert!(serde_json::from_str::<T>(&whole).is_ok(), "{most} of them");
        let more = format!("{before}{},{} and no JSON at all", items(most), item);
        let Err(why) = serde_json::from_str::<T>(&more) else { panic!("it is read") };
        let expected = format!("invalid length {}, expected a list of at most {most}", most + 1);
        assert!(why.to_string().starts_with(&expected), "{why}");
    }

    #[test]
    fn what_is_small_as_text_is_counted_while_it_is_read() {
        let envelope = sealed();
        let before = format!(r#"{{"envelope":{envelope},"blobs":["#);
        check::<AppendRequest>(&before, r#""""#, 1000, "]}");
        check::<Frame>(&format!(r#"{{"entry":{before}"#), r#""""#, 1000, "]}}");
        let head = format!(r#"],"more":false,"head":{{"n":0,"hash":"{HASH}"}}}}"#);
        check::<AuditPage>(r#"{"records":["#, r#""""#, 10_000, &head);
        let before = format!(r#"{{"run":"{HASH}","first":0,"reads":["#);
        check::<AccessRequest>(&before, r#"{"op":"","result":""}"#, 1000, "]}");
    }

    /// The other lists of the protocol are bounded by their text: no item takes more than some
    /// bytes for each of its own.
    #[test]
    fn what_is_not_counted_takes_little_more_memory_than_text() {
        fn check<T: DeserializeOwned>(shortest: &str) {
            assert!(serde_json::from_str::<T>(shortest).is_ok(), "{shortest}");
            let (text, held) = (shortest.len(), size_of::<T>());
            assert!(held <= 2 * text, "{held} bytes for {text}: {shortest}");
        }
        let sealed = sealed();
        check::<Envelope>(&sealed);
        check::<Hash>(&format!(r#""{HASH}""#));
        check::<Standing>(&format!(r#"{{"seen":{sealed},"targets":"","at":1,"online":true}}"#));
        check::<CloneNotice>(r#"{"machine":1,"addresses":["",""],"at":1}"#);
        check::<OverShare>(r#"{"machine":1,"share":"log","count":1,"last":1}"#);
        check::<NearShare>(r#"{"machine":1,"share":"log","used_percent":1,"until":1}"#);
    }
}
