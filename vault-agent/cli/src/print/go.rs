//! JSON as Go's `json.MarshalIndent` prints it, and values as `%v` does, byte for byte. Scripts
//! compare these.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Prints JSON with two spaces of indent, keys sorted, and what Go escapes beside what JSON
/// demands.
pub fn json(value: &Value) -> String {
    let mut out = String::new();
    for c in format!("{value:#}").chars() {
        match c {
            // They stand inside strings only. Writing to a String cannot fail.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Prints a JSON object whose fields keep the given order, as Go prints a struct; values are JSON
/// already.
pub fn json_texts(fields: &[(&str, String)]) -> String {
    let line = |(name, text): &(&str, String)| {
        format!("  {}: {}", json(&(*name).into()), text.replace('\n', "\n  "))
    };
    let lines: Vec<_> = fields.iter().map(line).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}

/// Returns fields in the order of their names' bytes, whatever order the map keeps.
pub fn sorted(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    fields
}

/// Prints a value as `fmt.Sprintf("%v", …)` prints what Go's JSON decoder made of it.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts come from Go 1.24's `json.MarshalIndent(v, "", "  ")` and `fmt.Sprintf("%v",
    /// v)`.
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
}
