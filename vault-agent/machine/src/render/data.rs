//! Dialects of structured data: `json`, `yaml`, `toml`. One way to write a string serves all three.
//!
//! Strings stand in double quotes with the escapes that JSON, YAML 1.1 and 1.2, and TOML share;
//! whatever one of the three does not take as it is, is written `\uXXXX`.

use serde_json::Value as Json;

use super::fields::{Field, Value, utf8};
use super::refusal::{BYTES, Why, refuse};
use super::text::Text;
use crate::binary;

/// YAML takes no longer key before a `:` on the same line.
const LONG_KEY: usize = 1000;

/// Writes one JSON object, one field per line.
pub(super) fn json(fields: &[Field], out: &mut Text) {
    out.push("{");
    for (n, field) in fields.iter().enumerate() {
        out.push(if n > 0 { ",\n  " } else { "\n  " });
        string(&field.name, out);
        out.push(": ");
        match &field.value {
            Value::Text(text) => string(utf8(text), out),
            Value::Scalar(json) | Value::Structure(json) => out.push(utf8(json)),
            Value::Bytes(bytes) => out.push(&binary::json(bytes.expose())),
        }
    }
    out.push(if fields.is_empty() { "}\n" } else { "\n}\n" });
}

/// Writes one YAML mapping, one field per line; what is nested stands in flow style.
pub(super) fn yaml(fields: &[Field], out: &mut Text) {
    for field in fields {
        let long = field.name.len() > LONG_KEY;
        out.push(if long { "? " } else { "" });
        string(&field.name, out);
        out.push(if long { "\n: " } else { ": " });
        match &field.value {
            Value::Text(text) => string(utf8(text), out),
            Value::Scalar(json) => out.push(&number(utf8(json))),
            Value::Structure(json) => flow(&mut parsed(utf8(json)), out),
            Value::Bytes(bytes) => {
                out.push("!!binary \"");
                out.push(&binary::base64(bytes.expose()));
                out.push("\"");
            }
        }
        out.push("\n");
    }
    if fields.is_empty() {
        out.push("{}\n");
    }
}

/// Writes `key = value` lines; what is nested stands in inline tables.
pub(super) fn toml(name: &str, value: &Value, out: &mut Text) -> Result<(), Why> {
    match value {
        Value::Text(text) => {
            key(name, out);
            string(utf8(text), out);
        }
        Value::Scalar(json) | Value::Structure(json) => {
            let mut json = parsed(utf8(json));
            fits_toml(&json)?;
            key(name, out);
            inline(&mut json, out);
        }
        Value::Bytes(_) => return Err(BYTES),
    }
    out.push("\n");
    Ok(())
}

/// Refuses what TOML has no form for.
fn fits_toml(json: &Json) -> Result<(), Why> {
    const HINT: &str = "leave it out with `keys`, or use format = \"json\"";
    match json {
        Json::Null => Err(refuse("null", "readers of TOML", HINT)),
        Json::Number(number) => {
            let text = number.to_string();
            if text.contains(['.', 'e', 'E']) || text.parse::<i64>().is_ok() {
                Ok(())
            } else {
                Err(refuse("an integer of more than 64 bits", "readers of TOML", HINT))
            }
        }
        Json::Array(items) => items.iter().try_for_each(fits_toml),
        Json::Object(members) => members.values().try_for_each(fits_toml),
        Json::Bool(_) | Json::String(_) => Ok(()),
    }
}

/// Writes a key of TOML, bare where it may be, and what stands before its value.
fn key(name: &str, out: &mut Text) {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !name.is_empty() && name.bytes().all(bare) {
        out.push(name);
    } else {
        string(name, out);
    }
    out.push(" = ");
}

/// Writes a value of TOML on one line.
fn inline(json: &mut Json, out: &mut Text) {
    match json {
        Json::Object(members) if members.is_empty() => out.push("{}"),
        Json::Object(members) => {
            for (n, (name, value)) in members.iter_mut().enumerate() {
                out.push(if n > 0 { ", " } else { "{ " });
                key(name, out);
                inline(value, out);
            }
            out.push(" }");
        }
        other => nested(other, out, inline),
    }
}

/// Writes a value of YAML on one line.
fn flow(json: &mut Json, out: &mut Text) {
    match json {
        Json::Object(members) => {
            out.push("{");
            for (n, (name, value)) in members.iter_mut().enumerate() {
                out.push(if n > 0 { ", " } else { "" });
                out.push(if name.len() > LONG_KEY { "? " } else { "" });
                string(name, out);
                out.push(": ");
                flow(value, out);
            }
            out.push("}");
        }
        other => nested(other, out, flow),
    }
}

/// Writes what TOML and YAML write alike, and wipes the strings that it has written.
fn nested(json: &mut Json, out: &mut Text, inner: fn(&mut Json, &mut Text)) {
    match json {
        Json::Null | Json::Object(_) => out.push("null"),
        Json::Bool(truth) => out.push(if *truth { "true" } else { "false" }),
        Json::Number(digits) => out.push(&number(&digits.to_string())),
        Json::String(text) => {
            string(text, out);
            zeroize::Zeroize::zeroize(text);
        }
        Json::Array(items) => {
            out.push("[");
            for (n, item) in items.iter_mut().enumerate() {
                out.push(if n > 0 { ", " } else { "" });
                inner(item, out);
            }
            out.push("]");
        }
    }
}

fn parsed(json: &str) -> Json {
    serde_json::from_str(json).expect("structures are kept as JSON")
}

/// Returns a number, or a truth value, so that YAML 1.1 takes it for one too: it wants a point and
/// a sign where there is an exponent.
fn number(json: &str) -> String {
    let exponent = json.split_once(['e', 'E']).filter(|_| !json.starts_with(['t', 'f']));
    let Some((digits, exponent)) = exponent else { return json.to_owned() };
    let point = if digits.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['+', '-']) { "" } else { "+" };
    format!("{digits}{point}e{sign}{exponent}")
}

/// Writes a string in double quotes.
pub(super) fn string(text: &str, out: &mut Text) {
    out.push("\"");
    for c in text.chars() {
        match c {
            '"' => out.push("\\\""),
            '\\' => out.push("\\\\"),
            '\n' => out.push("\\n"),
            '\r' => out.push("\\r"),
            '\t' => out.push("\\t"),
            c if !stands(c) => out.push(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_char(c),
        }
    }
    out.push("\"");
}

/// Tells whether all three dialects take a character as it is. Those that do not are all below
/// U+10000.
fn stands(c: char) -> bool {
    !matches!(u32::from(c), 0..0x20 | 0x7F..0xA0 | 0x2028 | 0x2029 | 0xFEFF | 0xFDD0..=0xFDEF | 0xFFFE | 0xFFFF)
}
