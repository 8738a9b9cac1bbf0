//! YAML as Go's `sigs.k8s.io/yaml` prints it: block style, natural key order, the quotes that its emitter chooses.
//!
//! The choice of a scalar's style follows libyaml's analysis (plain if it reads back as the same string, else quoted;
//! several lines become a literal block; long lines fold after column 80).

use std::cmp::Ordering;

use serde_json::Value;

use super::go;

const WIDTH: usize = 80;
const INDENT: usize = 2;

/// Prints a value, with a final line end.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut out = Emitter { text: String::new(), column: 0 };
    match value {
        Value::Array(_) | Value::Object(_) => out.node(value, 0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.scalar(value, INDENT);
        }
    }
    out.end_line();
    out.text
}

struct Emitter {
    text: String,
    column: usize,
}

impl Emitter {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
    }

    fn end_line(&mut self) {
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.column = 0;
    }

    fn indent(&mut self, indent: usize) {
        if self.column != indent || self.text.is_empty() {
            if self.column > 0 {
                self.end_line();
            }
            self.put(&" ".repeat(indent));
        }
    }

    /// Prints a map or list whose first entry may stand right behind the cursor.
    fn node(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                let mut fields = go::sorted(fields);
                fields.sort_by(|a, b| natural(a.0, b.0));
                for (name, value) in fields {
                    self.indent(indent);
                    self.string(name, indent + INDENT, true);
                    self.put(":");
                    match value {
                        Value::Object(inner) if !inner.is_empty() => {
                            self.end_line();
                            self.node(value, indent + INDENT);
                        }
                        Value::Array(inner) if !inner.is_empty() => {
                            self.end_line();
                            self.node(value, indent);
                        }
                        _ => {
                            self.put(" ");
                            self.scalar(value, indent + INDENT);
                        }
                    }
                    self.end_line();
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    self.indent(indent);
                    self.put("- ");
                    self.node(item, indent + INDENT);
                    self.end_line();
                }
            }
            _ => self.scalar(value, indent),
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::String(text) => self.string(text, indent, false),
            Value::Object(_) => self.put("{}"),
            Value::Array(_) => self.put("[]"),
            Value::Null | Value::Bool(_) | Value::Number(_) => self.put(&value.to_string()),
        }
    }

    fn string(&mut self, text: &str, indent: usize, is_key: bool) {
        match style(text, is_key) {
            Style::Plain => self.folded(text, indent, is_key, str::to_owned),
            Style::Single => {
                self.put("'");
                self.folded(text, indent, is_key, |word| word.replace('\'', "''"));
                self.put("'");
            }
            Style::Double => {
                self.put("\"");
                self.double(text, indent, is_key);
                self.put("\"");
            }
            Style::Literal => self.literal(text, indent),
        }
    }

    /// Writes words, breaking the line at a lone space once it is long.
    fn folded(&mut self, text: &str, indent: usize, is_key: bool, escape: fn(&str) -> String) {
        let chars: Vec<char> = text.chars().collect();
        let mut after_space = false;
        for (n, &c) in chars.iter().enumerate() {
            let next_is_space = chars.get(n + 1) == Some(&' ');
            let inside = n > 0 && n + 1 < chars.len();
            if c == ' '
                && !is_key
                && !after_space
                && self.column > WIDTH
                && inside
                && !next_is_space
            {
                self.end_line();
                self.put(&" ".repeat(indent));
            } else {
                self.put(&escape(c.encode_utf8(&mut [0; 4])));
            }
            after_space = c == ' ';
        }
    }

    fn double(&mut self, text: &str, indent: usize, is_key: bool) {
        let chars: Vec<char> = text.chars().collect();
        let mut after_space = false;
        for (n, &c) in chars.iter().enumerate() {
            let inside = n > 0 && n + 1 < chars.len();
            if c == ' ' && !is_key && !after_space && self.column > WIDTH && inside {
                self.end_line();
                self.put(&" ".repeat(indent));
                if chars.get(n + 1) == Some(&' ') {
                    self.put("\\");
                }
            } else if !is_printable(c) || is_break(c) || c == '"' || c == '\\' {
                self.put(&escaped(c));
            } else {
                self.put(c.encode_utf8(&mut [0; 4]));
            }
            after_space = c == ' ';
        }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put("2");
        }
        if !text.ends_with('\n') {
            self.put("-");
        } else if text == "\n" || text.ends_with("\n\n") {
            self.put("+");
        }
        self.end_line();
        for line in text.split_inclusive('\n') {
            if line != "\n" {
                self.put(&" ".repeat(indent));
            }
            self.put(line);
        }
        self.column = 0;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// libyaml's `analyze_scalar` and `select_scalar_style` in block context.
fn style(text: &str, is_key: bool) -> Style {
    let special = text.chars().any(|c| !is_printable(c) || (is_break(c) && c != '\n'));
    let spaced_break = text.contains(" \n");
    if text.contains('\n') {
        let block = !special && !spaced_break && !text.ends_with(' ') && !is_key;
        return if block { Style::Literal } else { Style::Double };
    }
    if special || reads_as_other(text) {
        return Style::Double;
    }
    if text.starts_with(' ') || text.ends_with(' ') || has_indicator(text) {
        return Style::Single;
    }
    Style::Plain
}

fn has_indicator(text: &str) -> bool {
    if text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        let ends = chars.peek().is_none_or(|&next| next == ' ');
        let found = match c {
            '#' => before == ' ',
            ':' => ends,
            '?' | '-' => first && ends,
            ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
            | '`' => first,
            _ => false,
        };
        if found {
            return true;
        }
        (before, first) = (c, false);
    }
    false
}

/// Tells whether a plain scalar would read back as something else than a string (YAML 1.1).
fn reads_as_other(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "true", "True", "TRUE", "false",
        "False", "FALSE", "on", "On", "ON", "off", "Off", "OFF", "", "~", "null", "Null", "NULL",
        ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
        "-.Inf", "-.INF",
    ];
    if WORDS.contains(&text) {
        return true;
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return false;
    }
    let plain = text.replace('_', "");
    is_integer(&plain) || is_float(&plain) || is_base60(text) || is_timestamp(text)
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

fn is_integer(text: &str) -> bool {
    let text = unsigned(text).to_ascii_lowercase();
    let based = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
    };
    based("0x", 16) || based("0o", 8) || based("0b", 2)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, which covers decimal integers.
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let text = unsigned(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(unsigned(exponent))),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|e| !e.is_empty() && digits(e))
}

/// `190:20:30`, which YAML 1.1 reads in base 60.
fn is_base60(text: &str) -> bool {
    let mut parts = unsigned(text).split(':');
    let Some(first) = parts.next() else { return false };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let sixty = |part: &str| {
        matches!(part.len(), 1 | 2)
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part.len() == 1 || part < "60")
    };
    let (last, fraction) = last.split_once('.').unwrap_or((last, ""));
    first.starts_with(|c: char| c.is_ascii_digit())
        && digits(first)
        && middle.iter().all(|part| sixty(part))
        && sixty(last)
        && digits(fraction)
}

/// A date, or a date and time, as Go's YAML reads them.
fn is_timestamp(text: &str) -> bool {
    let short = |part: &str, most: u32| {
        matches!(part.len(), 1 | 2)
            && part.parse::<u32>().is_ok_and(|n| n <= most)
            && !part.starts_with('+')
    };
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((text.as_bytes()[at], &text[at + 1..]))),
        None => (text, None),
    };
    let date: Vec<&str> = date.split('-').collect();
    let [year, month, day] = date[..] else { return false };
    let date_fits = year.len() == 4
        && year.bytes().all(|b| b.is_ascii_digit())
        && short(month, 12)
        && short(day, 31);
    let Some((separator, time)) = time else { return date_fits };
    let time = if separator == b' ' {
        time
    } else if let Some(time) = time.strip_suffix('Z') {
        time
    } else {
        let Some((time, zone)) = time.rfind(['+', '-']).map(|at| time.split_at(at)) else {
            return false;
        };
        match zone[1..].split_once(':') {
            Some((h, m)) if h.len() == 2 && m.len() == 2 && short(h, 24) && short(m, 60) => time,
            Some(_) | None => return false,
        }
    };
    let time: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = time[..] else { return false };
    let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
    let fraction_fits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    date_fits && short(hour, 23) && short(minute, 59) && short(second, 59) && fraction_fits
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What the emitter leaves as it is: not tabs, not characters past the basic plane.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && c != '\u{feff}'
}

fn escaped(c: char) -> String {
    let code = u32::from(c);
    match c {
        '\0' => "\\0".to_owned(),
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\r' => "\\r".to_owned(),
        '\u{1b}' => "\\e".to_owned(),
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\u{85}' => "\\N".to_owned(),
        '\u{a0}' => "\\_".to_owned(),
        '\u{2028}' => "\\L".to_owned(),
        '\u{2029}' => "\\P".to_owned(),
        _ if code <= 0xff => format!("\\x{code:02X}"),
        _ if code <= 0xffff => format!("\\u{code:04X}"),
        _ => format!("\\U{code:08X}"),
    }
}

/// Go's order of keys: letters after everything else, runs of digits by their number.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = (0..a.len().min(b.len())).find(|&at| a[at] != b[at]) else {
        return a.len().cmp(&b.len());
    };
    let (x, y) = (a[at], b[at]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let lead = u64::from(
        (x == '0' || y == '0')
            && a[..at].iter().rev().take_while(|c| c.is_numeric()).any(|&c| c != '0'),
    );
    let number = |chars: &[char]| {
        let run: Vec<u64> =
            chars[at..].iter().map_while(|c| c.to_digit(10)).map(u64::from).collect();
        let value = run.iter().fold(lead, |n, digit| n.wrapping_mul(10).wrapping_add(*digit));
        (value, run.len())
    };
    number(&a).cmp(&number(&b)).then(x.cmp(&y))
}

#[cfg(test)]
mod tests;
