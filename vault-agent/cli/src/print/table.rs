//! Tables as HashiCorp's CLI pads them: columns joined by four spaces, the last one unpadded, `n/a`
//! for nothing.
//!
//! Widths count characters, titles count bytes, both as the Go code does.

use host::shown::Shown;
pub use host::table::{Growing, columns, end, plain, start, width};
use serde_json::{Map, Value};
use shared::duration;

use super::go;

const GLUE: &str = "    ";

/// Lays rows out under a header with its dashes; a line end after each but the last.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> Shown {
    let mut all: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 2);
    all.push(header.iter().map(|&cell| cell.to_owned()).collect());
    all.push(header.iter().map(|cell| "-".repeat(cell.len())).collect());
    all.extend(rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()));
    columns(&all, GLUE)
}

fn shown(cell: &str) -> String {
    match cell.trim() {
        "" => "n/a".to_owned(),
        text => text.to_owned(),
    }
}

/// Lays a map out as `Key` and `Value`, sorted; nothing for an empty map.
pub fn map(fields: &Map<String, Value>) -> Option<Shown> {
    if fields.is_empty() {
        return None;
    }
    let rows: Vec<_> =
        go::sorted(fields).into_iter().map(|(k, v)| vec![k.clone(), cell(k, v)]).collect();
    Some(table(&["Key", "Value"], &rows))
}

/// Shows a value; whole numbers as durations where the name says so.
pub fn cell(name: &str, value: &Value) -> String {
    const NAMES: [&str; 3] = ["period", "ttl", "duration"];
    let is_duration = name == "lease_max"
        || name == "ttl_max"
        || NAMES.iter().any(|&word| {
            name.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
        });
    match value.as_i64() {
        Some(seconds) if is_duration => duration::short(seconds),
        Some(_) | None => go::value(value),
    }
}

/// Puts equal signs around a title so that it spans `width`.
pub fn title(text: &str, width: usize) -> Shown {
    let signs = match width.saturating_sub(text.len() + 2) {
        0 => 4,
        n => n + n % 2,
    };
    let side = "=".repeat(signs / 2);
    format!("{side} {text} {side}").into()
}

/// Titles a map: as wide as its longest key, the glue and `Value`.
pub fn map_title(text: &str, fields: &Map<String, Value>) -> Shown {
    let longest = fields.keys().map(String::len).max().unwrap_or(0);
    title(text, longest + GLUE.len() + "Value".len())
}

/// Titles a path and prints it: three lines, the last one empty.
pub fn path(text: &str, path: &str) -> Shown {
    Shown::lines([title(text, path.len()), path.into(), Shown::default(), Shown::default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_padded_as_hashicorp_does() {
        for (text, width, expected) in [
            ("Secret Path", 18, "=== Secret Path ==="),
            ("Metadata", 24, "======= Metadata ======="),
            ("Data", 17, "====== Data ======"),
            ("Metadata", 10, "== Metadata =="),
            ("Metadata", 11, "= Metadata ="),
            ("Data", 0, "== Data =="),
        ] {
            assert_eq!(title(text, width), expected);
        }
    }

    #[test]
    fn maps_are_sorted_and_padded() {
        let fields = serde_json::from_str(
            r#"{"b":"","a":null,"long_key":{"y":1,"x":[2]},"ttl":5400,"my_ttl":"5","é":" x "}"#,
        )
        .unwrap();
        insta::assert_snapshot!(&*map(&fields).unwrap(), @r"
        Key         Value
        ---         -----
        a           <nil>
        b           n/a
        long_key    map[x:[2] y:1]
        my_ttl      5
        ttl         1h30m
        é           x
        ");
        assert_eq!(map(&Map::new()), None);
    }
}
