//! The values in a secret's content, each by itself. Pure.

use serde_json::Value;
use zeroize::Zeroizing;

use super::forms::Bytes;
use crate::binary;

/// Hands over each value in `value`, with the name of its key: inside objects and lists the names
/// are joined by dots.
pub fn each(key: String, value: Value, take: &mut impl FnMut(String, Bytes)) {
    let bytes = match value {
        Value::Null => return,
        Value::Bool(yes) => yes.to_string().into_bytes(),
        Value::Number(number) => number.to_string().into_bytes(),
        Value::String(text) => text.into_bytes(),
        Value::Array(items) => {
            for (n, item) in items.into_iter().enumerate() {
                each(format!("{key}.{n}"), item, take);
            }
            return;
        }
        Value::Object(ref fields) => match binary::of(&value) {
            Some(bytes) => bytes.expose().to_vec(),
            None => {
                for (inner, value) in fields.clone() {
                    each(format!("{key}.{inner}"), value, take);
                }
                return;
            }
        },
    };
    take(key, Zeroizing::new(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_name() {
        let value = serde_json::json!({
            "a": "x", "b": [1, { "c": true }], "d": { "$base64": "/w==" }, "e": null,
        });
        let mut all = Vec::new();
        each("K".to_owned(), value, &mut |key, bytes| all.push((key, bytes.to_vec())));
        let expected: [(&str, &[u8]); 4] =
            [("K.a", b"x"), ("K.b.0", b"1"), ("K.b.1.c", b"true"), ("K.d", b"\xFF")];
        assert_eq!(all, expected.map(|(key, bytes)| (key.to_owned(), bytes.to_vec())));
    }
}
