//! The fields of a kv secret: its JSON object, read in order without plain copies that outlive the
//! call.

use std::fmt;

use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use shared::plaintext::Plaintext;
use zeroize::Zeroize;

use super::refusal::{BYTES, NOT_TEXT, Why};
use crate::binary;

/// One name and value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Value,
}

/// A value, as the JSON object has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string, unescaped: UTF-8.
    Text(Plaintext),
    /// A number or a boolean, as JSON writes it, digit by digit.
    Scalar(Plaintext),
    /// Null, a list or an object, as compact JSON.
    Structure(Plaintext),
    /// Bytes that need not be text.
    Bytes(Plaintext),
}

impl Value {
    /// Returns the text of a string, number or boolean.
    pub fn text(&self) -> Option<&str> {
        self.plain().ok()
    }

    /// Returns the text as formats of plain values write it.
    pub(super) fn plain(&self) -> Result<&str, Why> {
        match self {
            Self::Text(bytes) | Self::Scalar(bytes) => Ok(utf8(bytes)),
            Self::Structure(_) => Err(NOT_TEXT),
            Self::Bytes(_) => Err(BYTES),
        }
    }

    /// Returns what a file of this value alone holds.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(bytes) | Self::Scalar(bytes) | Self::Bytes(bytes) => Some(bytes.expose()),
            Self::Structure(_) => None,
        }
    }
}

/// Returns the text of a value.
pub(super) fn utf8(bytes: &Plaintext) -> &str {
    std::str::from_utf8(bytes.expose()).expect("values come out of JSON strings")
}

/// The content is not a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content is not a JSON object")]
pub struct NotFields;

/// Reads the JSON object of a kv secret, keeping the order of its names.
///
/// # Errors
/// Refuses anything but one JSON object; the error shows nothing of the content.
pub fn fields(content: &[u8]) -> Result<Vec<Field>, NotFields> {
    let mut json = serde_json::Deserializer::from_slice(content);
    let fields = json.deserialize_map(Object).map_err(|_| NotFields)?;
    json.end().map_err(|_| NotFields)?;
    Ok(fields)
}

/// Returns the fields of a secret that is one file.
pub fn file(bytes: &[u8]) -> Vec<Field> {
    vec![Field { name: binary::FILE.to_owned(), value: Value::Bytes(Plaintext::from(bytes)) }]
}

/// Returns what is in an object by name, or in a list by number; nothing if it is neither, or
/// empty.
pub(super) fn members(json: &Plaintext) -> Vec<Field> {
    if let Ok(fields) = fields(json.expose()) {
        return fields;
    }
    let items: Vec<Value> = serde_json::from_slice(json.expose()).unwrap_or_default();
    let named = items.into_iter().enumerate();
    named.map(|(n, value)| Field { name: n.to_string(), value }).collect()
}

/// The members of any mapping that serde reads, in order; a name may be there twice.
pub(super) struct Members(pub(super) Vec<Field>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object).map(Self)
    }
}

/// Reads an object into a list.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Vec<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Field>, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry()? {
            fields.push(Field { name, value });
        }
        Ok(fields)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

/// Reads any JSON value; strings go straight into wiped memory.
struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(Plaintext::from(text.as_bytes())))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Scalar(Plaintext::from(if truth { &b"true"[..] } else { b"false" })))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Scalar(Plaintext::new(number.to_string().into_bytes())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Scalar(Plaintext::new(number.to_string().into_bytes())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Scalar(Plaintext::new(number.to_string().into_bytes())))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Structure(Plaintext::from(&b"null"[..])))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        keep(serde_json::Value::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))?)
    }

    /// Objects, and numbers that no integer holds too: with `arbitrary_precision` they arrive as a
    /// map that keeps every digit.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        keep(serde_json::Value::deserialize(MapAccessDeserializer::new(map))?)
    }
}

/// Keeps a parsed value as compact JSON and wipes the parsed form.
fn keep<E: serde::de::Error>(mut value: serde_json::Value) -> Result<Value, E> {
    let text = serde_json::to_vec(&value).map(Plaintext::new).map_err(E::custom);
    let scalar = value.is_number() || value.is_boolean();
    let bytes = binary::of(&value);
    wipe(&mut value);
    Ok(match bytes {
        Some(bytes) => Value::Bytes(bytes),
        None if scalar => Value::Scalar(text?),
        None => Value::Structure(text?),
    })
}

/// Wipes the strings of a parsed value.
fn wipe(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => text.zeroize(),
        serde_json::Value::Array(items) => items.iter_mut().for_each(wipe),
        serde_json::Value::Object(members) => members.values_mut().for_each(wipe),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_order_and_digits() {
        let read = fields(
            br#"{"Z":"a\n\"b","A":12345678901234567890.10,"T":true,"N":null,"L":[1,{"x":"y"}]}"#,
        )
        .unwrap();
        let shown: Vec<_> = read.iter().map(|f| (f.name.as_str(), f.value.text())).collect();
        assert_eq!(
            shown,
            [
                ("Z", Some("a\n\"b")),
                ("A", Some("12345678901234567890.10")),
                ("T", Some("true")),
                ("N", None),
                ("L", None),
            ]
        );
        assert_eq!(read[4].value, Value::Structure(Plaintext::from(&br#"[1,{"x":"y"}]"#[..])));
    }

    #[test]
    fn members_of_objects_and_lists_are_fields() {
        let shown = |json: &str| -> Vec<(String, Option<String>)> {
            let read = members(&Plaintext::from(json.as_bytes()));
            read.into_iter().map(|f| (f.name, f.value.text().map(str::to_owned))).collect()
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown(r#"{"b":1,"a":"x"}"#),
            [("b".to_owned(), text("1")), ("a".to_owned(), text("x"))]
        );
        assert_eq!(shown(r#"["x",{}]"#), [("0".to_owned(), text("x")), ("1".to_owned(), None)]);
        assert_eq!((shown("{}"), shown("[]"), shown("null")), (vec![], vec![], vec![]));
    }

    #[test]
    fn bytes_are_known_by_their_mark() {
        let read = fields(br#"{"a":{"$base64":"/w=="},"b":{"$base64":"?"}}"#).unwrap();
        assert_eq!(read[0].value, Value::Bytes(Plaintext::from(&b"\xFF"[..])));
        assert!(matches!(read[1].value, Value::Structure(_)));
    }

    #[test]
    fn anything_but_one_object_is_refused() {
        for bad in ["", "[]", "\"a\"", "{} {}", "{\"a\":1", "\u{7f}"] {
            assert_eq!(fields(bad.as_bytes()), Err(NotFields), "{bad:?}");
        }
    }
}
