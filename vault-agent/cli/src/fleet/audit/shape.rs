//! How records are printed: as a table, documents, CSV or logfmt, piece by piece. Nothing in a
//! field begins a new record, and none is a formula to a spreadsheet.

use anyhow::Result;
use serde_json::{Value, json};
use shared::audit::{Fact, Kind, Outcome, Record};
use shared::text::visible;

use super::narrow::Narrow;
use super::pages::Line;
use super::words::{HEADER, Words};
use crate::context::Global;
use crate::print::{self, Format, table};
use host::hint::Failure;

const COLUMNS: [&str; 17] = [
    "n", "time", "at", "machine", "key", "who", "addr", "op", "path", "ver", "seq", "count",
    "result", "nonce", "what", "agent", "reason",
];

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Table,
    /// RFC 4180, a column for each field.
    Csv,
    /// `key=value` pairs.
    Logfmt,
    /// One list of records, with what each did in words.
    List(Format),
    /// Records as documents, one a line.
    JsonLines,
    /// One JSON list, a record a line, each byte for byte as the chain hashes it.
    Bytes,
}

impl Shape {
    /// Reads the flag, or the variable, that says how to print.
    pub fn of(global: &Global) -> Result<Self, Failure> {
        let text = global.flags.format.clone().or_else(|| global.env("VAULT_FORMAT"));
        match text.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("logfmt") => Ok(Self::Logfmt),
            _ => match global.format() {
                Ok(Format::Table) => Ok(Self::Table),
                Ok(format @ (Format::Json | Format::Yaml)) => Ok(Self::List(format)),
                Ok(_) | Err(_) => Err(Failure::local(format!(
                    "Invalid output format: {}",
                    text.unwrap_or_default()
                ))
                .hint("use table, json, yaml, csv or logfmt")),
            },
        }
    }
}

/// Prints records as they come.
pub struct Printer<'a> {
    global: &'a Global,
    words: Words<'a>,
    shape: Shape,
    table: table::Growing,
    narrow: Narrow,
    printed: u64,
}

impl<'a> Printer<'a> {
    pub fn new(global: &'a Global, words: Words<'a>, shape: Shape) -> Self {
        let (table, narrow) = (table::Growing::new(&HEADER), Narrow::default());
        Self { global, words, shape, table, narrow, printed: 0 }
    }

    /// Prints the next records; `only_refusals` leaves out those that turn out to be none.
    pub fn show(&mut self, mut lines: Vec<Line>, only_refusals: bool) -> Result<()> {
        if only_refusals {
            let mut kept = Vec::with_capacity(lines.len());
            for line in lines {
                if self.words.is_refusal(&line.record)? {
                    kept.push(line);
                }
            }
            lines = kept;
        }
        if lines.is_empty() {
            return Ok(());
        }
        if self.shape != Shape::Bytes {
            self.words.learn(&lines)?;
        }
        let begins = self.printed == 0;
        self.printed += lines.len() as u64;
        if self.shape == Shape::Table {
            let mut rows = self.rows(&lines)?;
            let columns = self.global.term.out_size().map(|size| size.columns);
            self.narrow.fit(&mut rows, columns, self.global.now());
            return match self.table.rows(rows) {
                Some(rows) => Ok(self.global.term.line(rows)?),
                None => Ok(()),
            };
        }
        let mut text = String::new();
        for (index, line) in lines.iter().enumerate() {
            text.push_str(&self.piece(line, begins && index == 0)?);
        }
        Ok(self.global.term.piece(text)?)
    }

    /// Lays records out as rows; alike signs of life that follow each other share one.
    fn rows(&self, lines: &[Line]) -> Result<Vec<Vec<String>>> {
        let mut rows: Vec<(Vec<String>, u64)> = Vec::new();
        let mut before = false;
        for Line { record, .. } in lines {
            let (cells, is_sign) = (self.words.cells(record)?, is_sign_of_life(record));
            match rows.last_mut() {
                Some((last, count)) if before && is_sign && last[1..] == cells[1..] => *count += 1,
                Some(_) | None => rows.push((cells, 1)),
            }
            before = is_sign;
        }
        let with_count = |(mut cells, count): (Vec<String>, u64)| {
            if let (Some(what), 2..) = (cells.last_mut(), count) {
                what.push_str(&format!(" ×{count}"));
            }
            cells
        };
        Ok(rows.into_iter().map(with_count).collect())
    }

    /// Returns what one record adds to the output.
    fn piece(&self, line: &Line, is_first: bool) -> Result<String> {
        let open = if is_first { "[\n" } else { ",\n" };
        Ok(match self.shape {
            Shape::Table => String::new(),
            Shape::Bytes => format!("{open}{}", line.text),
            Shape::JsonLines => format!("{}\n", self.value(line)?),
            Shape::List(Format::Json) => {
                let list = print::data(Format::Json, &json!([self.value(line)?]))?;
                let inner = list.strip_prefix("[\n").and_then(|rest| rest.strip_suffix("\n]"));
                format!("{open}{}", inner.unwrap_or(&list))
            }
            Shape::List(format) => print::data(format, &json!([self.value(line)?]))? + "\n",
            Shape::Csv => {
                let head = if is_first { COLUMNS.join(",") + "\n" } else { String::new() };
                let fields =
                    self.fields(&line.record)?.map(|field| cell(&field.unwrap_or_default()));
                head + &fields.join(",") + "\n"
            }
            Shape::Logfmt => {
                let fields = COLUMNS.iter().zip(self.fields(&line.record)?);
                let pairs: Vec<String> = fields
                    .filter_map(|(name, field)| Some(format!("{name}={}", word(&field?))))
                    .collect();
                pairs.join(" ") + "\n"
            }
        })
    }

    fn value(&self, line: &Line) -> Result<Value> {
        let mut value = line.value()?;
        value["what"] = self.words.what(&line.record)?.into();
        Ok(value)
    }

    fn fields(&self, record: &Record) -> Result<[Option<String>; COLUMNS.len()]> {
        fn text<T: ToString>(value: Option<&T>) -> Option<String> {
            value.map(ToString::to_string)
        }
        let Record { n, nonce, time, fact } = record;
        let Fact {
            at,
            machine,
            key,
            who,
            agent,
            reason,
            addr,
            op,
            path,
            ver,
            seq,
            count,
            result,
            ..
        } = fact;
        Ok([
            Some(n.to_string()),
            Some(time.to_string()),
            text(at.as_ref()),
            text(machine.as_ref()),
            text(key.as_ref()),
            text(who.as_ref()),
            text(addr.as_ref()),
            Some(op.to_string()),
            text(path.as_ref()),
            text(ver.as_ref()),
            text(seq.as_ref()),
            text(count.as_ref()),
            Some(result.to_string()),
            Some(nonce.to_string()),
            Some(self.words.what(record)?),
            text(agent.as_ref()),
            text(reason.as_ref()),
        ])
    }

    /// Ends the output; returns how many records it has.
    pub fn end(&self) -> Result<u64> {
        let end = match (self.shape, self.printed) {
            (Shape::Table | Shape::Logfmt | Shape::JsonLines, _) => "".to_owned(),
            (Shape::Csv, 0) => COLUMNS.join(",") + "\n",
            (Shape::Csv, _) | (Shape::List(Format::Yaml), 1..) => "".to_owned(),
            (Shape::List(_) | Shape::Bytes, 0) => "[]\n".to_owned(),
            (Shape::List(_) | Shape::Bytes, _) => "\n]\n".to_owned(),
        };
        if !end.is_empty() {
            self.global.term.piece(end)?;
        }
        Ok(self.printed)
    }
}

/// Tells whether a record is of a request that every machine makes all the time.
fn is_sign_of_life(Record { fact, .. }: &Record) -> bool {
    let is_plain = fact.path.is_none() && fact.seq.is_none() && fact.count.is_none();
    is_plain && fact.op.kind() == Kind::Other && fact.result == Outcome::Ok
}

/// Writes a field of CSV on one line; what a spreadsheet would take for a formula gets an
/// apostrophe before it.
fn cell(field: &str) -> String {
    let mut field = visible(field, &[]);
    let is_formula = |c: char| matches!(c, '=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}');
    if field.trim_start().starts_with(is_formula) {
        field.insert(0, '\'');
    }
    if field.contains(['"', ',', ';']) || field.starts_with(' ') || field.ends_with(' ') {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

/// Writes a value of logfmt, quoted where it is not a single word.
fn word(value: &str) -> String {
    let is_plain =
        |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    let value = visible(value, &[]).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_begins_no_record_and_no_formula() {
        for (field, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2", "'-2"),
            (" +cmd", "' +cmd"),
            ("a\nb\r", r"a\nb\r"),
            ("\t=1", r"\t=1"),
            ("", ""),
        ] {
            assert_eq!(cell(field), expected, "{field:?}");
        }
        for (value, expected) in [
            ("plain", "plain"),
            ("two words", "\"two words\""),
            ("a=b", "\"a=b\""),
            ("say \"x\"", r#""say \"x\"""#),
            ("a\nop=put", r#""a\\nop=put""#),
            ("", "\"\""),
            ("é×", "é×"),
        ] {
            assert_eq!(word(value), expected, "{value:?}");
        }
    }
}
