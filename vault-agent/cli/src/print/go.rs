//! JSON as Go's `json.MarshalIndent` prints it, and values as `%v` does, byte for byte. Scripts compare these.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Prints JSON with two spaces of indent, keys in the map's order, `<`, `>` and `&` escaped.
#[must_use]
pub fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(&mut out, value, 0);
    out
}

/// Prints a JSON object whose fields keep the given order, as Go prints a struct; values are JSON already.
#[must_use]
pub fn json_texts(fields: &[(&str, String)]) -> String {
    let mut out = String::from("{");
    for (n, (name, text)) in fields.iter().enumerate() {
        out.push_str(if n > 0 { ",\n  " } else { "\n  " });
        write_string(&mut out, name);
        out.push_str(": ");
        for (n, line) in text.split('\n').enumerate() {
            if n > 0 {
                out.push_str("\n  ");
            }
            out.push_str(line);
        }
    }
    out.push_str("\n}");
    out
}

fn write_json(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_string(out, text),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                separate(out, n, depth + 1);
                write_json(out, item, depth + 1);
            }
            separate(out, 0, depth);
            out.push(']');
        }
        Value::Object(fields) if fields.is_empty() => out.push_str("{}"),
        Value::Object(fields) => {
            out.push('{');
            for (n, (name, value)) in sorted(fields).into_iter().enumerate() {
                separate(out, n, depth + 1);
                write_string(out, name);
                out.push_str(": ");
                write_json(out, value, depth + 1);
            }
            separate(out, 0, depth);
            out.push('}');
        }
    }
}

fn separate(out: &mut String, n: usize, depth: usize) {
    if n > 0 {
        out.push(',');
    }
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// Go's string encoder with HTML escaping on, which is its default.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Returns fields in the order of their names' bytes, whatever order the map keeps.
#[must_use]
pub fn sorted(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    fields
}

/// Prints a value as `fmt.Sprintf("%v", …)` prints what Go's JSON decoder made of it.
#[must_use]
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(self::value).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields: Vec<_> = sorted(fields)
                .into_iter()
                .map(|(k, v)| format!("{k}:{}", self::value(v)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// Prints seconds as HashiCorp prints durations: `1h`, `1h30m`, `0s`.
#[must_use]
pub fn duration(seconds: i64) -> String {
    let (sign, seconds) = (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs());
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let shown = match (hours, minutes, rest) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, 0, 0) => format!("{h}h"),
        (h, 0, s) => format!("{h}h{s}s"),
        (h, m, 0) => format!("{h}h{m}m"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    };
    format!("{sign}{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts come from Go 1.24's `json.MarshalIndent(v, "", "  ")` and `fmt.Sprintf("%v", v)`.
    #[test]
    fn json_is_gos() {
        for (input, expected) in [
            ("{}", "{}"),
            ("[]", "[]"),
            (
                r#"{"b":1,"a":[1,{"c":{}}]}"#,
                "{\n  \"a\": [\n    1,\n    {\n      \"c\": {}\n    }\n  ],\n  \"b\": 1\n}",
            ),
            (
                r#""a<b>&c\u2028\u0001\u007f\b\f/""#,
                "\"a\\u003cb\\u003e\\u0026c\\u2028\\u0001\u{7f}\\b\\f/\"",
            ),
            ("12345678901234567890.10", "12345678901234567890.10"),
        ] {
            assert_eq!(json(&serde_json::from_str(input).unwrap()), expected);
        }
    }

    #[test]
    fn values_are_gos() {
        for (input, expected) in [
            ("null", "<nil>"),
            ("true", "true"),
            // The one difference: serde_json gives an exponent its sign.
            ("1e3", "1e+3"),
            (r#"{"b":[1,"x",null],"a":{"c":"d e"}}"#, "map[a:map[c:d e] b:[1 x <nil>]]"),
            ("[]", "[]"),
            ("{}", "map[]"),
        ] {
            assert_eq!(value(&serde_json::from_str(input).unwrap()), expected);
        }
    }

    #[test]
    fn durations_are_short() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3600, "1h"),
            (3661, "1h1m1s"),
            (5400, "1h30m"),
            (3601, "1h1s"),
            (-60, "-1m"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
