//! A configuration that is refused: the file and, where known, line and key. Which keys exist is
//! each program's own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// How alike two words must be, from 0 to 1, for one to be a slip for the other.
const ALIKE: f64 = 0.8;

/// What to do about a file that is there and cannot be read.
const RIGHTS: &str = "check the file's owner and rights";

/// A configuration that is refused.
#[derive(Debug)]
pub struct ConfigFault {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The key on that line.
    pub key: Option<String>,
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// Whether there is no such file.
    pub missing: bool,
    /// The way out, as one sentence without a full stop.
    pub hint: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", key `{key}`")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigFault {}

impl ConfigFault {
    /// Refuses a file as a whole.
    pub fn whole(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: None,
            message: message.into(),
            missing: false,
            hint: RIGHTS.to_owned(),
        }
    }

    /// Refuses a file that cannot be read.
    pub fn unread(file: &Path, why: &io::Error) -> Self {
        let missing = why.kind() == io::ErrorKind::NotFound;
        Self {
            missing,
            hint: (if missing { "make it, or put it back" } else { RIGHTS }).to_owned(),
            ..Self::whole(file, format!("cannot be read: {why}"))
        }
    }

    /// Refuses what stands at byte `at` of `text`; without a `key`, names the one on that line.
    pub fn at(
        file: &Path,
        text: &str,
        at: Option<usize>,
        key: Option<&str>,
        message: &str,
    ) -> Self {
        let line = at.map(|at| 1 + text.get(..at).unwrap_or(text).matches('\n').count());
        let key = key.map(str::to_owned).or_else(|| key_at(text, line?));
        let whole = Self::whole(file, shorter(message.lines().next().unwrap_or_default()));
        let Some(line) = line else { return Self { key, ..whole } };
        Self { line: Some(line), key, ..whole }.with_hint(format!(
            "mend line {line}; a running agent keeps its old configuration until then"
        ))
    }

    /// Refuses what the parser refused.
    pub fn toml(file: &Path, text: &str, why: &toml::de::Error) -> Self {
        let fault = Self::at(file, text, why.span().map(|span| span.start), None, why.message());
        if let Some((table, first)) = fault.line.and_then(|line| table_before(text, line)) {
            let message = format!("the table begins at line {first} already: write its keys there");
            return Self { key: Some(table.to_owned()), message, ..fault };
        }
        match fault.line.and_then(|line| quoted(text, line)) {
            Some(right) => {
                let message = "permissions stand in quotes, as an octal number".to_owned();
                Self { message, ..fault.with_hint(format!("write `{right}`")) }
            }
            None => fault,
        }
    }

    /// Replaces the way out.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}

/// Returns the table that begins on a line, and the line above where it has begun already: a piece
/// of a manual, pasted at the end of a file that holds every table.
fn table_before(text: &str, line: usize) -> Option<(&str, usize)> {
    fn begun(line: &str) -> Option<&str> {
        let name = line.trim().strip_prefix('[')?.split_once(']')?.0.trim();
        // Of `[[lists]]` there may be many.
        (!name.starts_with('[')).then_some(name)
    }
    let table = begun(text.lines().nth(line - 1)?)?;
    let first = text.lines().take(line - 1).position(|above| begun(above) == Some(table))?;
    Some((table, first + 1))
}

/// Returns a line that sets permissions to a bare number as it is meant: TOML has octal numbers,
/// but not with a bare 0 in front, and others would be read as decimal.
fn quoted(text: &str, line: usize) -> Option<String> {
    let (key, value) = text.lines().nth(line - 1)?.split_once('=')?;
    let (key, number) = (key.trim(), value.split('#').next()?.trim());
    let digits = number.strip_prefix("0o").unwrap_or(number);
    let octal = !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    (octal && key.ends_with("mode")).then(|| format!("{key} = \"{digits:0>4}\""))
}

/// Returns where `key` is set in the table that starts at byte `at` of `text`, or `at`.
pub fn place_of(text: &str, at: usize, key: &str) -> usize {
    let table = lines_at(text.get(at..).unwrap_or_default())
        .take_while(|(place, line)| *place == 0 || !line.starts_with('['));
    let mut own = table.filter(|(_, line)| sets(line, key));
    own.next().map_or(at, |(place, _)| at + place)
}

/// Returns where in `text` the line starts that sets `key`.
pub fn line_of(text: &str, key: &str) -> Option<usize> {
    lines_at(text).find(|(_, line)| sets(line, key)).map(|(place, _)| place)
}

/// Returns the lines of a text, each with the byte that it starts at.
fn lines_at(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0;
    text.split_inclusive('\n').map(move |line| {
        next += line.len();
        (next - line.len(), line)
    })
}

fn sets(line: &str, key: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| name.trim() == key)
}

/// Names one word instead of all that are known, where one looks like the word that is not.
fn shorter(message: &str) -> String {
    let named = message.split_once(", expected one of ").and_then(|(unknown, known)| {
        let wrong = unknown.strip_prefix("unknown ")?.split('`').nth(1)?;
        let known = known.split('`').skip(1).step_by(2);
        let scored = known.map(|name| (name, strsim::jaro_winkler(wrong, name)));
        let (name, score) = scored.max_by(|a, b| a.1.total_cmp(&b.1))?;
        (score >= ALIKE).then(|| format!("{unknown}: did you mean `{name}`?"))
    });
    named.unwrap_or_else(|| message.to_owned())
}

/// Returns the key that `line` belongs to: what stands before `=` there, or on the nearest line
/// above.
fn key_at(text: &str, line: usize) -> Option<String> {
    let before: Vec<&str> = text.lines().take(line).collect();
    let plain = |name: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        (!name.is_empty() && name.chars().all(good)).then(|| name.to_owned())
    };
    before.into_iter().rev().map(str::trim).find_map(|line| match line.strip_prefix('[') {
        Some(_) => plain(line.trim_matches(['[', ']', ' '])),
        None if line.starts_with(['#', '"', '\'']) => None,
        None => plain(line.split('=').next().unwrap_or_default().trim()),
    })
}
