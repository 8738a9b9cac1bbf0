//! Formats of target files. Placeholder with the owner's names until the owner's files arrive.

use std::fmt;
use std::str::FromStr;

use shared::path::SecretPath;
use shared::plaintext::Plaintext;

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `.env`.
    #[default]
    Dotenv,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "dotenv" {
            Ok(Self::Dotenv)
        } else {
            Err(format!("format `{text}` is not one of dotenv"))
        }
    }
}

/// What is asked for beyond the format.
#[derive(Clone, Debug, Default)]
pub struct Rules<'a> {
    /// The only keys to write.
    pub keys: Option<&'a [String]>,
    /// Dangerous names that are allowed.
    pub allow_names: &'a [String],
    /// Whether values may span lines.
    pub allow_newlines: bool,
}

/// The content of a file.
#[derive(Debug)]
pub struct Rendered {
    /// What to write.
    pub content: Plaintext,
    /// What the owner should know.
    pub warnings: Vec<String>,
}

/// One name and value.
#[derive(Clone, Debug)]
pub struct Field {
    name: String,
    value: String,
}

/// Not a JSON object.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("content is not a JSON object")]
pub struct NotFields;

/// Reads the JSON object of a secret.
///
/// # Errors
/// Anything else.
pub fn fields(content: &[u8]) -> Result<Vec<Field>, NotFields> {
    let map: std::collections::BTreeMap<String, String> =
        serde_json::from_slice(content).map_err(|_| NotFields)?;
    Ok(map.into_iter().map(|(name, value)| Field { name, value }).collect())
}

/// Why something is refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Never empty.
    pub faults: Vec<Fault>,
}

/// Why a variable is refused.
#[derive(Clone, Debug)]
pub struct Fault;

impl Fault {
    /// The way out.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "rename it"
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot be written: {} faults", self.faults.len())
    }
}

/// Renders secrets in one file.
///
/// # Errors
/// Names with spaces.
pub fn render(
    _: Format,
    secrets: &[(SecretPath, Vec<Field>)],
    _: &Rules<'_>,
) -> Result<Rendered, Refused> {
    let mut text = String::new();
    for field in secrets.iter().flat_map(|(_, fields)| fields) {
        if field.name.contains(' ') {
            return Err(Refused { faults: vec![Fault] });
        }
        text.push_str(&format!("{}={}\n", field.name, field.value));
    }
    Ok(Rendered { content: Plaintext::new(text.into_bytes()), warnings: Vec::new() })
}

/// One variable of a `.env` file.
#[derive(Clone, Debug)]
pub struct Variable {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Plaintext,
}

/// A line that cannot be read.
#[derive(Clone, Debug)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: neither a comment nor `NAME=VALUE`", self.line)
    }
}

impl ParseError {
    /// The way out.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "put a value of several lines in quotes, and comments on lines of their own"
    }
}

/// Reads a `.env` file.
///
/// # Errors
/// The first line without `=`.
pub fn parse(file: &[u8]) -> Result<Vec<Variable>, ParseError> {
    let text = String::from_utf8_lossy(file);
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(n, line)| match line.split_once('=') {
            Some((name, value)) => {
                Ok(Variable { name: name.to_owned(), value: value.as_bytes().into() })
            }
            None => Err(ParseError { line: n + 1 }),
        })
        .collect()
}
