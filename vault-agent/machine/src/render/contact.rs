//! First contact: what a file that somebody else wrote holds, read in its own dialect, beside what
//! is to be written into it. Pure; no value is ever part of what is told.

use std::collections::HashSet;

use shared::plaintext::Plaintext;

use super::fields::{Field, Members, Value, fields};
use super::format::Format;
use super::header;
use super::parse::parse;

/// How a file meets its new content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Every assignment in it is in the new content too, with the same value.
    Covered {
        /// Whether comments, or other lines that are no assignments, would go.
        lines: bool,
    },
    /// Some would go, or get another value.
    Differs {
        /// Names that the new content lacks.
        gone: Vec<String>,
        /// Names that have another value there.
        changed: Vec<String>,
    },
    /// It cannot be compared, for this reason.
    Unread(String),
}

/// What was read: names and values in order, and whether there is more.
struct Assignments {
    fields: Vec<Field>,
    lines: bool,
}

/// Compares `old`, what a file of `format` holds, with `new`.
pub fn contact(format: Format, old: &[u8], new: &[u8]) -> Contact {
    if old == new || old.trim_ascii().is_empty() {
        return Contact::Covered { lines: false };
    }
    let read = |text| read(format, text);
    let (old, new) = match (read(old), read(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(why), _) | (Ok(_), Err(why)) => return Contact::Unread(why),
    };
    let (mut gone, mut changed) = (Vec::new(), Vec::new());
    for Field { name, value } in &old.fields {
        match new.fields.iter().find(|other| other.name == *name) {
            None => gone.push(name.clone()),
            Some(other) if other.value != *value => changed.push(name.clone()),
            Some(_) => {}
        }
    }
    if gone.is_empty() && changed.is_empty() {
        return Contact::Covered { lines: old.lines };
    }
    Contact::Differs { gone, changed }
}

impl Contact {
    /// Says in one line what would be lost; `None` if no assignment would.
    pub fn loss(&self) -> Option<String> {
        let list = |names: &[String]| {
            let shown = names.iter().take(MOST_NAMES);
            let shown: Vec<String> =
                shown.map(|name| format!("`{}`", name.escape_debug())).collect();
            match names.len().saturating_sub(MOST_NAMES) {
                0 => shown.join(", "),
                more => format!("{} and {more} more", shown.join(", ")),
            }
        };
        match self {
            Self::Covered { .. } => None,
            Self::Unread(why) => Some(format!("it cannot be compared: {why}")),
            Self::Differs { gone, changed } if gone.is_empty() => {
                Some(format!("{} would change", list(changed)))
            }
            Self::Differs { gone, changed } if changed.is_empty() => {
                Some(format!("{} would go", list(gone)))
            }
            Self::Differs { gone, changed } => {
                Some(format!("{} would go, {} would change", list(gone), list(changed)))
            }
        }
    }
}

/// How many names are told.
const MOST_NAMES: usize = 8;

/// Returns what a file holds as the fields of a secret, to be published.
///
/// # Errors
/// Why it cannot be read.
pub fn assignments(format: Format, file: &[u8]) -> Result<Vec<Field>, String> {
    read(format, file).map(|read| read.fields)
}

fn read(format: Format, text: &[u8]) -> Result<Assignments, String> {
    match format {
        Format::Dotenv | Format::Compose | Format::Systemd | Format::Sh => lines(text),
        Format::Docker => verbatim(text),
        Format::Json => json(text),
        Format::Yaml => yaml(text),
        Format::Toml => toml(text),
        Format::Raw => Err("it holds another value".to_owned()),
        Format::Template => Err("what a template makes has no dialect to be read in".to_owned()),
    }
}

/// Reads `NAME=VALUE` lines with quotes.
fn lines(text: &[u8]) -> Result<Assignments, String> {
    let variables = parse(text).map_err(|error| error.to_string())?;
    let (mut at, mut more) = (0, false);
    for variable in &variables {
        more |= holds_more(&text[at..variable.entry.start]);
        // What stands behind a value is a comment.
        more |= !text[variable.written.end..variable.entry.end].trim_ascii().is_empty();
        at = variable.entry.end;
    }
    let lines = more || holds_more(&text[at..]);
    let fields = variables.into_iter().map(|variable| text_field(variable.name, variable.value));
    Ok(Assignments { fields: fields.collect(), lines })
}

/// Reads `NAME=VALUE` lines as they are, as docker does.
fn verbatim(text: &[u8]) -> Result<Assignments, String> {
    let (mut fields, mut lines) = (Vec::new(), false);
    for (n, line) in utf8(text)?.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            lines |= holds_more(line.as_bytes());
            continue;
        }
        let (name, value) =
            line.split_once('=').ok_or_else(|| format!("line {}: no `=`", n + 1))?;
        fields.push(text_field(name.to_owned(), Plaintext::from(value.as_bytes())));
    }
    once(fields).map(|fields| Assignments { fields, lines })
}

fn text_field(name: String, value: Plaintext) -> Field {
    Field { name, value: Value::Text(value) }
}

fn json(text: &[u8]) -> Result<Assignments, String> {
    let fields = fields(text).map_err(|_| "it is not one JSON object".to_owned())?;
    once(fields).map(|fields| Assignments { fields, lines: false })
}

fn yaml(text: &[u8]) -> Result<Assignments, String> {
    let Members(fields) = serde_yaml_ng::from_str(utf8(text)?)
        .map_err(|_| "it is not one YAML mapping".to_owned())?;
    once(fields).map(|fields| Assignments { fields, lines: has_comment(text) })
}

fn toml(text: &[u8]) -> Result<Assignments, String> {
    let Members(fields) =
        toml::from_str(utf8(text)?).map_err(|_| "it is not one TOML table".to_owned())?;
    once(fields).map(|fields| Assignments { fields, lines: has_comment(text) })
}

/// Returns the text, or an error that quotes nothing of it.
fn utf8(text: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())
}

/// Refuses names that are there twice: readers disagree on which of them counts.
fn once(fields: Vec<Field>) -> Result<Vec<Field>, String> {
    let mut seen = HashSet::new();
    match fields.iter().find(|field| !seen.insert(field.name.as_str())) {
        Some(field) => Err(format!("`{}` is in it twice", field.name.escape_debug())),
        None => Ok(fields),
    }
}

/// Tells whether anything but blank lines and this program's own header is in lines without
/// assignments.
fn holds_more(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.into_iter().any(|line| !line.is_empty() && !header::is_line(line))
}

/// Tells whether there may be a comment of somebody else's: one too many costs a copy.
fn has_comment(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.any(|line| line.contains(&b'#') && !header::is_line(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COVERED: Contact = Contact::Covered { lines: false };
    const LINES: Contact = Contact::Covered { lines: true };

    #[track_caller]
    fn check(format: Format, old: &str, new: &str, expected: &Contact) {
        assert_eq!(contact(format, old.as_bytes(), new.as_bytes()), *expected, "{old:?}");
    }

    fn differs(gone: &[&str], changed: &[&str]) -> Contact {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Contact::Differs { gone: own(gone), changed: own(changed) }
    }

    #[test]
    fn a_file_is_covered_by_its_assignments_however_they_are_written() {
        let new = "# vault ab12cd34: secret/a v1\nA=1\nB='two words'\n";
        for old in [new, "", "\n \n", "A=1\n", "export B=\"two words\"\nA='1'", "\u{FEFF}A=1\r\n"] {
            check(Format::Dotenv, old, new, &COVERED);
        }
        let older = "# vault ab12cd34: secret/a v0\n\
                     # Edited here? It will be put back: change it with `vault kv patch`.\nA=1\n";
        check(Format::Dotenv, older, new, &COVERED);
        for old in ["# mine\nA=1\n", "A=1 # mine\n", "A=1\n; mine", "# vaulted\nA=1\n"] {
            check(Format::Dotenv, old, new, &LINES);
        }
    }

    #[test]
    fn what_would_go_or_change_is_named() {
        let new = "A=1\nB=2\n";
        check(Format::Dotenv, "A=9\nMINE=x\n", new, &differs(&["MINE"], &["A"]));
        check(Format::Dotenv, "A=1\nB=2\nC=3\n", new, &differs(&["C"], &[]));
        check(Format::Docker, "A='1'\n", new, &differs(&[], &["A"]));
        check(Format::Docker, "# c\nA=1\n", new, &LINES);
        let loss = differs(&["MINE"], &["A"]).loss().unwrap();
        assert_eq!(loss, "`MINE` would go, `A` would change");
        assert_eq!(COVERED.loss(), None);
        let many: Vec<String> = (0..10).map(|n| format!("N{n}")).collect();
        let loss = Contact::Differs { gone: many, changed: Vec::new() }.loss().unwrap();
        assert!(loss.ends_with("`N7` and 2 more would go"), "{loss}");
    }

    #[test]
    fn structured_files_are_read_by_their_keys() {
        let json = "{\n  \"a\": \"1\",\n  \"b\": {\"c\":2}\n}\n";
        check(Format::Json, "{\"b\":{\"c\":2}}", json, &COVERED);
        check(Format::Json, "{\"a\":1}", json, &differs(&[], &["a"]));
        check(Format::Json, "{\"z\":1}", json, &differs(&["z"], &[]));
        check(Format::Yaml, "a: '1'\n", "\"a\": \"1\"\n\"b\": 2\n", &COVERED);
        check(Format::Yaml, "a: 1\n", "\"a\": \"1\"\n", &differs(&[], &["a"]));
        check(Format::Yaml, "a: x # mine\n", "\"a\": \"x\"\n", &LINES);
        check(Format::Toml, "a = '1'\n", "a = \"1\"\nb = 2\n", &COVERED);
        check(
            Format::Toml,
            "# mine\na = \"1\"\n[t]\nx = 1\n",
            "a = \"1\"\n",
            &differs(&["t"], &[]),
        );
    }

    #[test]
    fn what_is_not_understood_is_never_covered() {
        for (format, old) in [
            (Format::Dotenv, "A='1\n"),
            (Format::Dotenv, "A=1\nA=1\n"),
            (Format::Dotenv, "\0\u{1}\u{2}"),
            (Format::Docker, "A\n"),
            (Format::Docker, "A=1\nA=2\n"),
            (Format::Json, "[]"),
            (Format::Json, "{\"a\":1,\"a\":1}"),
            (Format::Yaml, "- a\n"),
            (Format::Yaml, "1: a\n"),
            (Format::Toml, "a\n"),
            (Format::Raw, "x"),
            (Format::Template, "x"),
        ] {
            let met = contact(format, old.as_bytes(), b"A=1\n");
            assert!(matches!(met, Contact::Unread(_)), "{format}: {old:?}: {met:?}");
            assert!(met.loss().is_some());
        }
        let binary = contact(Format::Dotenv, b"\xFF\xFE\0", b"A=1\n");
        assert!(matches!(binary, Contact::Unread(_)));
        assert_eq!(contact(Format::Raw, b"x", b"x"), COVERED);
    }

    #[test]
    fn no_value_is_told() {
        for format in Format::ALL {
            let met = contact(*format, b"A=hunter2\nhunter2 x\n", b"A=1\n");
            assert!(!format!("{met:?}").contains("hunter2"), "{format}: {met:?}");
        }
    }
}
