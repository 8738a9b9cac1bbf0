//! `subkeys/`: the keys of a version without its values.

use serde_json::{Map, Value};
use shared::audit::Op;
use shared::blob::Kind;

use machine::binary;

use super::super::envelope::{self, Answer, Source};
use super::super::error::Fault;
use super::super::json;
use super::super::request::Call;
use super::{data, looked_at, with_age};

/// Answers the structure of a version, down to `depth` levels; 0 is all of them.
pub(in super::super) async fn read(
    call: &Call<'_>,
    mount: &str,
    path: &str,
) -> Result<Answer, Fault> {
    let path = looked_at(mount, path)?;
    let depth = match call.query.integer("depth")?.map(u64::try_from) {
        None | Some(Ok(0)) => u64::MAX,
        Some(depth) => depth.unwrap_or(1),
    };
    let (seen, content) = data::open(call, Op::LocalSubkeys, &path).await?;
    let mut keys = match content.kind {
        Kind::Raw => {
            let bytes = Map::from_iter([(binary::MARK.to_owned(), Value::Null)]);
            Map::from_iter([(binary::FILE.to_owned(), Value::Object(bytes))])
        }
        Kind::Kv => serde_json::from_slice(content.expose())
            .map_err(|_| Fault::Broken(format!("the content of `{path}` is not JSON")))?,
    };
    strip(&mut keys, depth);
    let answer = envelope::data(Source::Kv, seen.metadata.len() + 1024, |out| {
        out.extend_from_slice(b"{\"metadata\":");
        out.extend_from_slice(&seen.metadata);
        out.extend_from_slice(b",\"subkeys\":");
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(&mut *out, &keys);
        out.push(b'}');
    });
    Ok(with_age(call, answer))
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
