//! JSON bodies of requests, read the way Vault's fields are: numbers may come as text, lists with
//! commas. Numbers keep their digits. What a field means lives with its route.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use shared::duration;
use zeroize::Zeroize as _;

use super::error::ApiFault;

/// Keys that `serde_json` keeps for itself: an object with one would turn into a bare number.
const PRIVATE: &str = "$serde_json::private::";

/// The members of a request's body; what it held is wiped when dropped.
pub(super) struct Fields(Map<String, Value>);

impl Drop for Fields {
    fn drop(&mut self) {
        wipe(Value::Object(std::mem::take(&mut self.0)));
    }
}

impl Fields {
    /// Parses a body; none at all, and `null`, count as an empty object.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiFault> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Checked(Value::Object(map))) => Ok(Self(map)),
            Ok(Checked(Value::Null)) => Ok(Self(Map::new())),
            Ok(Checked(other)) => {
                let kind = match other {
                    Value::Array(_) => "array",
                    Value::String(_) => "string",
                    Value::Bool(_) => "bool",
                    _ => "number",
                };
                wipe(other);
                Err(ApiFault::NotAnObject(kind))
            }
            Err(why) if why.is_data() => Err(ApiFault::Refused(why.to_string())),
            // serde_json's message names a place, never content.
            Err(why) => Err(ApiFault::BadJson(why.to_string())),
        }
    }

    /// Returns a member as it is.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Takes a map out; an empty list counts as an empty one, as in Go's weak decoding.
    pub(super) fn take_map(&mut self, name: &str) -> Result<Option<Map<String, Value>>, ApiFault> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(Value::Array(items)) if items.is_empty() => Ok(Some(Map::new())),
            Some(other) => {
                let got = match other {
                    Value::Array(_) => "slice",
                    Value::Bool(_) => "bool",
                    _ => "string",
                };
                wipe(other);
                Err(ApiFault::field(name, &format!("'' expected a map, got '{got}'")))
            }
        }
    }

    /// Returns a text member.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ApiFault> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiFault::field(name, "expected a text")),
        }
    }

    /// Reads a member, if it is there.
    fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiFault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| ApiFault::field(name, expected))
    }

    /// Returns a list of texts, or a text taken apart at its commas.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, ApiFault> {
        let owned = |item: &Value| item.as_str().map(str::to_owned);
        let texts = self.read(name, "expected a list of texts", |value| match value {
            Value::Null => Some(Vec::new()),
            Value::String(text) => Some(split(text).map(str::to_owned).collect()),
            Value::Array(items) => items.iter().map(owned).collect(),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        })?;
        Ok(texts.unwrap_or_default())
    }

    /// Returns a member that counts something: a number or its text; null counts as 0. Below 0 it
    /// counts down from 2³², as in Vault: -1 is as good as no limit.
    pub(super) fn count(&self, name: &str) -> Result<Option<u64>, ApiFault> {
        let number = self.read(name, "expected a whole number", integer)?;
        let count = number.map(|number| {
            let count = if number < 0 { number.saturating_add(1 << 32) } else { number };
            u32::try_from(count).map(u64::from)
        });
        count.transpose().map_err(|_| ApiFault::field(name, "expected a smaller number"))
    }

    /// As [`Fields::count`], but nothing below 0: in a patch Vault knows no such thing.
    pub(super) fn natural(&self, name: &str) -> Result<Option<u64>, ApiFault> {
        if self.get(name).and_then(integer).is_some_and(|number| number < 0) {
            return Err(ApiFault::field(name, "expected a whole number, not negative"));
        }
        self.count(name)
    }

    /// Returns a yes or no: also `"true"`, `1`; null counts as no.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiFault> {
        self.read(name, "expected true or false", boolean)
    }

    /// Returns a duration in microseconds; negative ones become -1, null 0.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, ApiFault> {
        Ok(self.micros(name)?.map(|micros| micros.max(-1)))
    }

    /// Returns a duration in microseconds that must not be negative; null counts as 0.
    pub(super) fn delay(&self, name: &str) -> Result<Option<i64>, ApiFault> {
        let micros = self.micros(name)?;
        if let Some(negative) = micros.filter(|micros| *micros < 0) {
            let why = format!("cannot provide negative value '{}'", negative / 1_000_000);
            return Err(ApiFault::field(name, &why));
        }
        Ok(micros)
    }

    fn micros(&self, name: &str) -> Result<Option<i64>, ApiFault> {
        self.read(name, "expected a duration such as `90m`, or seconds", |value| match value {
            Value::Null => Some(0),
            Value::Number(number) => duration::parse_or_seconds(&number.to_string()),
            Value::String(text) => duration::parse_or_seconds(text),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        })
    }

    /// Returns version numbers: `[1,2]`, `["1","2"]`, `"1,2"` or `1`.
    pub(super) fn versions(&self) -> Result<Vec<u64>, ApiFault> {
        // A version below 1 does not exist, and what does not exist is passed over.
        let number = |value: &Value| Some(u64::try_from(integer(value)?).unwrap_or(0));
        let versions = self.read("versions", "expected whole numbers", |value| match value {
            Value::Null => Some(Vec::new()),
            Value::Object(map) if map.is_empty() => Some(Vec::new()),
            Value::Array(items) => items.iter().map(number).collect(),
            Value::String(text) => split(text).map(|part| number(&Value::from(part))).collect(),
            other => Some(vec![number(other)?]),
        })?;
        Ok(versions.unwrap_or_default())
    }
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Reads a whole number as Go's weak decoding does: numbers, their text in any base, booleans.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Null => Some(0),
        Value::Bool(yes) => Some(i64::from(*yes)),
        Value::Number(number) => number.to_string().parse().ok(),
        Value::String(text) => integer_text(text),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads what `strconv.ParseInt(text, 0, 64)` reads, but underscores; nothing counts as 0.
pub(super) fn integer_text(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(digits, base).ok()?.checked_mul(sign)
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Null => Some(false),
        Value::Bool(yes) => Some(*yes),
        Value::Number(_) => integer(value).map(|number| number != 0),
        Value::String(text) if text.is_empty() => Some(false),
        Value::String(text) => boolean_text(text),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads what `strconv.ParseBool` reads.
pub(super) fn boolean_text(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// JSON in which no object has a key twice, for what comes of such an object depends on who reads
/// it, nor a key that `serde_json` keeps for itself.
struct Checked(Value);

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Check).map(Self)
    }
}

struct Check;

impl<'de> Visitor<'de> for Check {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Value, E> {
        Ok(Value::Bool(yes))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Checked(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        // Wiped if the rest is broken.
        let mut read = Fields(Map::new());
        while let Some(key) = members.next_key()? {
            let Key::Member(key) = key else {
                let digits: String = members.next_value()?;
                return digits.parse::<Number>().map(Value::Number).map_err(A::Error::custom);
            };
            if key.starts_with(PRIVATE) {
                return Err(A::Error::custom(format_args!("a key starts with `{PRIVATE}`")));
            }
            if read.0.contains_key(&key) {
                let shown: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format_args!("duplicate key '{shown}' in object")));
            }
            let Checked(value) = members.next_value()?;
            read.0.insert(key, value);
        }
        Ok(Value::Object(std::mem::take(&mut read.0)))
    }
}

/// The key of an object's member, or what `serde_json` puts in its place to hand over a number with
/// its digits. Only a key that stands in the text comes as a newtype.
enum Key {
    Member(String),
    Number,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, key: D) -> Result<Key, D::Error> {
                String::deserialize(key).map(Key::Member)
            }

            fn visit_str<E>(self, _: &str) -> Result<Key, E> {
                Ok(Key::Number)
            }
        }
        deserializer.deserialize_newtype_struct("Key", KeyVisitor)
    }
}

/// Wipes the texts of a value that held a secret.
pub(super) fn wipe(value: Value) {
    match value {
        Value::String(mut text) => text.zeroize(),
        Value::Array(items) => items.into_iter().for_each(wipe),
        Value::Object(map) => {
            for (mut key, value) in map {
                key.zeroize();
                wipe(value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_in_many_forms() {
        for (body, expected) in [
            (r#"{"versions":[1,2]}"#, vec![1, 2]),
            (r#"{"versions":["1","2"]}"#, vec![1, 2]),
            (r#"{"versions":"1,2"}"#, vec![1, 2]),
            (r#"{"versions":" 1 , 2,"}"#, vec![1, 2]),
            (r#"{"versions":3}"#, vec![3]),
            (r#"{"versions":[-1,1]}"#, vec![0, 1]),
            (r#"{"versions":{}}"#, vec![]),
            (r#"{"versions":[]}"#, vec![]),
            (r#"{"versions":null}"#, vec![]),
            ("", vec![]),
        ] {
            assert_eq!(
                Fields::parse(body.as_bytes()).unwrap().versions().unwrap(),
                expected,
                "{body}"
            );
        }
        for body in [r#"{"versions":"a"}"#, r#"{"versions":[1.5]}"#, r#"{"versions":{"a":1}}"#] {
            assert!(Fields::parse(body.as_bytes()).unwrap().versions().is_err(), "{body}");
        }
    }

    #[test]
    fn whole_numbers_read_as_in_go() {
        for (text, expected) in [
            ("", Some(0)),
            ("7", Some(7)),
            ("+7", Some(7)),
            ("-7", Some(-7)),
            ("0x1F", Some(31)),
            ("0b11", Some(3)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("abc", None),
            ("0x", None),
            ("0x-1", None),
            ("1e3", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(integer_text(text), expected, "{text}");
        }
    }

    #[test]
    fn private_keys_are_refused_however_written() {
        for body in [
            r#"{"data":{"a":{"$serde_json::private::Number":"1"}}}"#,
            r#"{"data":{"\u0024serde_json::private::Number" : "1"}}"#,
            r#"{"$serde_json::private::RawValue":"1"}"#,
        ] {
            assert!(Fields::parse(body.as_bytes()).is_err(), "{body}");
        }
        for body in [
            r#"{"data":{"a":"$serde_json::private::Number"}}"#,
            r#"{"data":{"\u00e4":"\"","b":"\\"}}"#,
        ] {
            assert!(Fields::parse(body.as_bytes()).is_ok(), "{body}");
        }
        assert!(Fields::parse(br#"{"\u0024"#).is_err());
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_with_its_name() {
        for body in [
            r#"{"data":{"k":1,"k":2}}"#,
            r#"{"data":{},"data":{}}"#,
            r#"{"data":[{"a":{"\u006b":1.5e3,"b":[],"k":null}}]}"#,
        ] {
            let Err(fault) = Fields::parse(body.as_bytes()) else { panic!("{body}") };
            assert!(format!("{fault:?}").contains("duplicate key '"), "{body}: {fault:?}");
        }
        let body = br#"{"data":{"k":{"k":[{"k":1},{"k":true}]},"l":"k","m":null,"n":-1.50}}"#;
        assert!(Fields::parse(body).is_ok());
    }

    #[test]
    fn bodies_are_objects_or_nothing() {
        for body in ["", " \n", "null", "{}"] {
            assert!(Fields::parse(body.as_bytes()).is_ok(), "{body}");
        }
        for body in ["[]", "1", "\"x\"", "{", "{}x"] {
            assert!(Fields::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let text =
            r#"{"big":12345678901234567890123,"e":1E400,"i":-7,"one":1.0,"u":7,"z":[-0,-0.0]}"#;
        let mut fields = Fields::parse(format!(r#"{{"data":{text}}}"#).as_bytes()).unwrap();
        let data = Value::Object(fields.take_map("data").unwrap().unwrap());
        assert_eq!(data, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(data.to_string(), text.replace("1E400", "1e+400"));
    }
}
