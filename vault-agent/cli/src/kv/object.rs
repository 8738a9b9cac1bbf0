//! JSON objects that people hand in: every name once, at every depth. Readers of JSON take the last
//! of two without a word, and the other value is lost.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why a text is no object to be taken in; no value is ever part of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotObject {
    /// It is not a JSON object; the place where that shows, counted from 1, columns from 0.
    Json { line: usize, column: usize },
    /// It has this name twice in one object, the second time on this line.
    Twice { line: usize, name: String },
}

impl fmt::Display for NotObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { line, column } => {
                write!(f, "not a JSON object (line {line}, column {column})")
            }
            Self::Twice { line, name } => write!(f, "`{name}` is there twice (line {line})"),
        }
    }
}

/// Reads a JSON object.
pub(super) fn object(json: &[u8]) -> Result<Map<String, Value>, NotObject> {
    let object = serde_json::from_slice(json)
        .map_err(|why| NotObject::Json { line: why.line(), column: why.column() })?;
    serde_json::from_slice::<Names>(json).map_err(|why| {
        let (line, text) = (why.line(), why.to_string());
        let place = format!(" at line {line} column {}", why.column());
        NotObject::Twice { line, name: text.strip_suffix(&place).unwrap_or(&text).to_owned() }
    })?;
    Ok(object)
}

/// The names of a text, each once; what is wrong with it prints as the name.
struct Names;

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if let Some(twice) = seen.replace(name.clone()) {
                return Err(A::Error::custom(twice));
            }
            map.next_value::<Names>()?;
        }
        Ok(Names)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
        while seq.next_element::<Names>()?.is_some() {}
        Ok(Names)
    }

    fn visit_str<E>(self, _: &str) -> Result<Names, E> {
        Ok(Names)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Names, E> {
        Ok(Names)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Names, E> {
        Ok(Names)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Names, E> {
        Ok(Names)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Names, E> {
        Ok(Names)
    }

    fn visit_unit<E>(self) -> Result<Names, E> {
        Ok(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once() {
        let text = r#"{"a":1.50,"b":[{"a":12345678901234567890123},null,true,-1],"c":{"a":"x"}}"#;
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()).to_string(), text);
        for (text, line, name) in [
            (r#"{"a":1,"a":1}"#, 1, "a"),
            ("{\"a\":1,\n\"b\":[{\"c d\":1,\n\"c d\":2}]}", 3, "c d"),
            (r#"{"a":{"b":{},"b":{}}}"#, 1, "b"),
            (r#"{"\u0061":1,"a":2}"#, 1, "a"),
        ] {
            let twice = NotObject::Twice { line, name: name.to_owned() };
            assert_eq!(object(text.as_bytes()), Err(twice), "{text}");
        }
        assert_eq!(object(b"{\n1}"), Err(NotObject::Json { line: 2, column: 1 }));
        assert_eq!(object(b"[1]"), Err(NotObject::Json { line: 1, column: 0 }));
    }
}
