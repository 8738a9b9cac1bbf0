//! One JSON object with the values as they are: numbers digit by digit, lists and objects whole.

use super::Field;
use super::fields::{Value, utf8};
use super::text::Text;

/// Writes the object, one field per line.
pub(super) fn write(fields: &[&Field], out: &mut Text) {
    out.push("{");
    for (n, field) in fields.iter().enumerate() {
        out.push(if n > 0 { ",\n  " } else { "\n  " });
        string(&field.name, out);
        out.push(": ");
        match &field.value {
            Value::Text(text) => string(utf8(text), out),
            Value::Scalar(json) | Value::Structure(json) => out.push(utf8(json)),
        }
    }
    out.push(if fields.is_empty() { "}\n" } else { "\n}\n" });
}

/// Writes a JSON string (RFC 8259, section 7).
fn string(text: &str, out: &mut Text) {
    out.push("\"");
    for c in text.chars() {
        match c {
            '"' => out.push("\\\""),
            '\\' => out.push("\\\\"),
            '\n' => out.push("\\n"),
            '\r' => out.push("\\r"),
            '\t' => out.push("\\t"),
            c if u32::from(c) < 0x20 => out.push(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_char(c),
        }
    }
    out.push("\"");
}
