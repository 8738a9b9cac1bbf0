//! How bytes that are no text stand among the values of a secret: `{"$base64": "…"}`, so that any
//! client of the API reads and writes them as JSON. What is stored and what is written to files
//! does not live here.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};
use shared::plaintext::Plaintext;
use zeroize::Zeroizing;

/// The only member of an object that stands for bytes.
pub const MARK: &str = "$base64";

/// The key of a secret that is one file, kept as its bytes alone.
pub const FILE: &str = "file";

/// Returns the bytes that `value` stands for, if it does.
pub fn of(value: &Value) -> Option<Plaintext> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    BASE64_STANDARD.decode(object.get(MARK)?.as_str()?).ok().map(Plaintext::new)
}

/// Returns the bytes of a secret that is one file under [`FILE`], if it is.
pub fn only_file(data: &Map<String, Value>) -> Option<Plaintext> {
    if data.len() == 1 { of(data.get(FILE)?) } else { None }
}

/// Returns bytes as base64.
pub fn base64(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE64_STANDARD.encode(bytes))
}

/// Returns the JSON text of a value: base64 needs no escapes.
pub fn json(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(["{\"", MARK, "\":\"", &base64(bytes), "\"}"].concat())
}

/// Returns the JSON text of a secret that is one file.
pub fn file_json(bytes: &[u8]) -> Plaintext {
    Plaintext::new(["{\"", FILE, "\":", &json(bytes), "}"].concat().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        for bytes in [&b""[..], b"\xFF\x00", &[7; 1000]] {
            let data: Map<_, _> = serde_json::from_slice(file_json(bytes).expose()).unwrap();
            assert_eq!(only_file(&data).unwrap().expose(), bytes);
        }
    }

    #[test]
    fn what_would_not_come_back_the_same_is_an_object() {
        for text in [
            r#"{"file":{"$base64":"AB=="}}"#,
            r#"{"file":{"$base64":"AA"}}"#,
            r#"{"file":{"$base64":1}}"#,
            r#"{"file":{"$base64":"AA==","x":1}}"#,
            r#"{"file":"AA=="}"#,
            r#"{"other":{"$base64":"AA=="}}"#,
            r#"{"file":{"$base64":"AA=="},"x":1}"#,
        ] {
            assert_eq!(only_file(&serde_json::from_str(text).unwrap()), None, "{text}");
        }
    }
}
