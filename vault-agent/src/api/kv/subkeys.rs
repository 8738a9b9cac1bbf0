//! `subkeys/`: the keys of a version without its values.

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use shared::audit::Op;
use shared::blob::Kind;

use machine::binary;

use super::super::envelope::{self, ApiAnswer, Source};
use super::super::error::ApiFault;
use super::super::json;
use super::super::request::Call;
use super::data::{self, Opened};
use super::{Metadata, looked_at, with_age};

#[derive(Serialize)]
struct Subkeys {
    metadata: Metadata,
    /// Null where the content is deleted or destroyed.
    subkeys: Option<Map<String, Value>>,
}

/// Answers the structure of a version, down to `depth` levels; 0 is all of them.
pub(in super::super) async fn read(
    call: &Call<'_>,
    mount: &str,
    path: &str,
) -> Result<ApiAnswer, ApiFault> {
    let path = looked_at(mount, path)?;
    let depth = match call.query.integer("depth")?.map(u64::try_from) {
        None | Some(Ok(0)) => u64::MAX,
        Some(depth) => depth.unwrap_or(1),
    };
    let (metadata, content) = match data::open(call, Op::LocalSubkeys, &path).await? {
        Opened::Live(metadata, content) => (metadata, content),
        Opened::Gone(metadata) => {
            let gone = Subkeys { metadata, subkeys: None };
            let answer = envelope::data_with(StatusCode::NOT_FOUND, Source::Nobody, 0, gone);
            return Ok(with_age(call, answer));
        }
    };
    let mut keys = match content.kind {
        Kind::Raw => {
            let bytes = Map::from_iter([(binary::MARK.to_owned(), Value::Null)]);
            Map::from_iter([(binary::FILE.to_owned(), Value::Object(bytes))])
        }
        Kind::Kv => serde_json::from_slice(content.expose())
            .map_err(|_| ApiFault::Broken(format!("the content of `{path}` is not JSON")))?,
    };
    strip(&mut keys, depth);
    let subkeys = Subkeys { metadata, subkeys: Some(keys) };
    Ok(with_age(call, envelope::data(Source::Kv, subkeys)))
}

/// Turns every value into null, but maps that are not empty and not too deep.
fn strip(keys: &mut Map<String, Value>, depth: u64) {
    for (_, value) in keys.iter_mut() {
        if let Value::Object(below) = value
            && depth > 1
            && !below.is_empty()
        {
            strip(below, depth - 1);
        } else {
            json::wipe(value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_keys_stay() {
        let text = r#"{"a":1,"b":{"c":{"d":"x"},"e":[1],"f":{}}}"#;
        for (depth, expected) in [
            (1, r#"{"a":null,"b":null}"#),
            (2, r#"{"a":null,"b":{"c":null,"e":null,"f":null}}"#),
            (3, r#"{"a":null,"b":{"c":{"d":null},"e":null,"f":null}}"#),
            (u64::MAX, r#"{"a":null,"b":{"c":{"d":null},"e":null,"f":null}}"#),
        ] {
            let mut keys = serde_json::from_str(text).unwrap();
            strip(&mut keys, depth);
            assert_eq!(Value::Object(keys).to_string(), expected, "{depth}");
        }
    }
}
