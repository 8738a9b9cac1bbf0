//! Tables as HashiCorp's CLI pads them: columns joined by four spaces, the last one unpadded, `n/a` for nothing.
//!
//! Widths count characters, titles count bytes, both as the Go code does.

use serde_json::{Map, Value};

use super::go;

const GLUE: &str = "    ";

/// Lays rows out under a header with its dashes; a line end after each but the last.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut all: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 2);
    all.push(header.iter().map(|&cell| cell.to_owned()).collect());
    all.push(header.iter().map(|cell| "-".repeat(cell.len())).collect());
    all.extend(rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()));
    columns(&all, GLUE)
}

/// Lays rows out under a header in capitals, without dashes: for the tables that HashiCorp does not have.
#[must_use]
pub fn plain(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut all = vec![header.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>()];
    all.extend(rows.iter().cloned());
    columns(&all, "  ")
}

/// A table whose rows come by and by: columns grow when a wider cell comes.
pub struct Growing {
    header: Option<Vec<String>>,
    widths: Vec<usize>,
}

impl Growing {
    /// Starts a table; the header comes with the first rows.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
        Self { widths: vec![0; header.len()], header: Some(header) }
    }

    /// Lays the next rows out, aligned with each other; `None` for none.
    pub fn rows(&mut self, next: Vec<Vec<String>>) -> Option<String> {
        if next.is_empty() {
            return None;
        }
        let rows: Vec<_> = self.header.take().into_iter().chain(next).collect();
        Some(laid_out(&rows, &mut self.widths, "  "))
    }
}

fn shown(cell: &str) -> String {
    match cell.trim() {
        "" => "n/a".to_owned(),
        text => text.to_owned(),
    }
}

fn columns(rows: &[Vec<String>], glue: &str) -> String {
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
    laid_out(rows, &mut widths, glue)
}

fn laid_out(rows: &[Vec<String>], widths: &mut [usize], glue: &str) -> String {
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let mut line = String::new();
        for (n, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if n + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', widths[n] - cell.chars().count()));
                line.push_str(glue);
            }
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// Lays a map out as `Key` and `Value`, sorted; nothing for an empty map.
#[must_use]
pub fn map(fields: &Map<String, Value>) -> Option<String> {
    if fields.is_empty() {
        return None;
    }
    let rows: Vec<_> =
        go::sorted(fields).into_iter().map(|(k, v)| vec![k.clone(), cell(k, v)]).collect();
    Some(table(&["Key", "Value"], &rows))
}

/// Shows a value; whole numbers as durations where the name says so.
#[must_use]
pub fn cell(name: &str, value: &Value) -> String {
    const NAMES: [&str; 3] = ["period", "ttl", "duration"];
    let is_duration = name == "lease_max"
        || name == "ttl_max"
        || NAMES.iter().any(|&word| {
            name.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
        });
    match value.as_i64() {
        Some(seconds) if is_duration => go::duration(seconds),
        Some(_) | None => go::value(value),
    }
}

/// Puts equal signs around a title so that it spans `width`.
#[must_use]
pub fn title(text: &str, width: usize) -> String {
    let signs = match width.saturating_sub(text.len() + 2) {
        0 => 4,
        n => n + n % 2,
    };
    let side = "=".repeat(signs / 2);
    format!("{side} {text} {side}")
}

/// Titles a map: as wide as its longest key, the glue and `Value`.
#[must_use]
pub fn map_title(text: &str, fields: &Map<String, Value>) -> String {
    let longest = fields.keys().map(String::len).max().unwrap_or(0);
    title(text, longest + GLUE.len() + "Value".len())
}

/// Titles a path and prints it: three lines, the last one empty.
#[must_use]
pub fn path(text: &str, path: &str) -> String {
    format!("{}\n{path}\n\n", title(text, path.len()))
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
    fn rows_that_come_together_are_aligned_with_those_before() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let mut table = Growing::new(&["OP", "PATH"]);
        assert_eq!(table.rows(Vec::new()), None);
        let first = table.rows(vec![row(["put", "secret/a"]), row(["local_read", "b"])]);
        insta::assert_snapshot!(first.unwrap(), @r"
        OP          PATH
        put         secret/a
        local_read  b
        ");
        assert_eq!(table.rows(vec![row(["put", "c"])]).unwrap(), "put         c");
    }

    #[test]
    fn maps_are_sorted_and_padded() {
        let fields = serde_json::from_str(
            r#"{"b":"","a":null,"long_key":{"y":1,"x":[2]},"ttl":5400,"my_ttl":"5","é":" x "}"#,
        )
        .unwrap();
        insta::assert_snapshot!(map(&fields).unwrap(), @r"
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
