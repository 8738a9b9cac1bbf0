//! Turns secrets into the content of a file: pure, one file per dialect. Reading or writing files does not live here.
//!
//! A dialect is one function from [`Field`]s to text. What it cannot carry so that every reader reads it back
//! is refused by name, never guessed (design: *Delivery*, "Why refusing beats guessing").

mod dotenv;
mod fields;
mod json;
mod names;
mod parse;
mod sh;
mod text;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;

pub use fields::{Field, NotFields, Value, fields};
pub use names::is_denied;
pub use parse::{ParseError, Reason, Variable, is_name, parse};

use text::Text;

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `.env` by the portable rule: every common reader reads the same.
    #[default]
    Dotenv,
    /// One JSON object.
    Json,
    /// `export NAME='value'` lines for shells.
    Sh,
}

impl Format {
    /// Every format, in the order shown to people.
    pub const ALL: &'static [Self] = &[Self::Dotenv, Self::Json, Self::Sh];

    /// Returns the name used in configuration and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dotenv => "dotenv",
            Self::Json => "json",
            Self::Sh => "sh",
        }
    }

    /// Tells whether names become environment variables, so that dangerous ones need an explicit allow.
    const fn sets_environment(self) -> bool {
        match self {
            Self::Dotenv | Self::Sh => true,
            Self::Json => false,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().copied().find(|format| format.as_str() == text);
        known.ok_or_else(|| {
            format!(
                "format `{text}` is not one of {}",
                Self::ALL.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", ")
            )
        })
    }
}

/// What the owner of a target asked for beyond the format.
#[derive(Clone, Debug, Default)]
pub struct Rules<'a> {
    /// The only keys to write, if given.
    pub keys: Option<&'a [String]>,
    /// Dangerous names that are allowed all the same.
    pub allow_names: &'a [String],
    /// Whether values may span lines, which many readers of `.env` files cannot.
    pub allow_newlines: bool,
}

/// The content of a file.
#[derive(Debug)]
pub struct Rendered {
    /// What to write.
    pub content: Plaintext,
    /// What the owner should know; the file is right all the same.
    pub warnings: Vec<String>,
}

/// Secrets that cannot be written in a format, each variable with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The format that cannot hold them.
    pub format: Format,
    /// Never empty.
    pub faults: Vec<Fault>,
}

/// Why one variable is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The variable.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// The reasons for which a variable is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The name is not `[A-Za-z_][A-Za-z0-9_]*`.
    Name,
    /// Shells keep the name for themselves.
    ShellOwn,
    /// The name makes other programs run code.
    Denied,
    /// The value is null, a list or an object.
    NotText,
    /// The value holds something that the named readers do not read back.
    Value {
        /// The characters, as shown to a person.
        holds: &'static str,
        /// The readers that would break.
        readers: &'static str,
        /// The way out.
        hint: &'static str,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.escape_debug();
        match &self.why {
            Why::Name => write!(
                f,
                "`{name}` is not a variable name (letters, digits and `_`, not starting with a digit)"
            ),
            Why::ShellOwn => {
                write!(f, "`{name}` belongs to the shells, which do not let it be set")
            }
            Why::Denied => write!(f, "`{name}` changes what other programs run"),
            Why::NotText => write!(f, "`{name}` is null, a list or an object, not text"),
            Why::Value { holds, readers, .. } => {
                write!(f, "`{name}` holds {holds}, which {readers} would misread")
            }
        }
    }
}

impl Fault {
    /// Returns the way out, as one sentence without a full stop.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self.why {
            Why::Name | Why::ShellOwn => {
                "rename it, leave it out with `keys`, or use format = \"json\""
            }
            Why::Denied => "list it in `allow_names` of this target if you mean it",
            Why::NotText => "store it as text, leave it out with `keys`, or use format = \"json\"",
            Why::Value { hint, .. } => hint,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot be written as {}: ", self.format)?;
        for (n, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if n > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// Renders `secrets` in one file; where two hold the same name, the later one wins and a warning says so.
///
/// # Errors
/// Names every variable that `format` or `rules` refuse.
pub fn render(
    format: Format,
    secrets: &[(SecretPath, Vec<Field>)],
    rules: &Rules<'_>,
) -> Result<Rendered, Refused> {
    let mut warnings = Vec::new();
    let fields = merge(secrets, rules.keys, &mut warnings);
    let mut faults = Vec::new();
    if format.sets_environment() {
        for field in &fields {
            match names::judge(&field.name, rules.allow_names) {
                names::Verdict::Fine => {}
                names::Verdict::Odd(why) => warnings.push(format!("`{}` {why}", field.name)),
                names::Verdict::Refused(why) => {
                    faults.push(Fault { name: field.name.clone(), why });
                }
            }
        }
    }
    let mut out = Text::default();
    match format {
        Format::Dotenv => dotenv::write(&fields, rules, &mut out, &mut faults),
        Format::Json => json::write(&fields, &mut out),
        Format::Sh => sh::write(&fields, &mut out, &mut faults),
    }
    if faults.is_empty() {
        Ok(Rendered { content: out.finish(), warnings })
    } else {
        Err(Refused { format, faults })
    }
}

/// Takes the allowed fields of all secrets, each name once, at the place where it first stands.
fn merge<'a>(
    secrets: &'a [(SecretPath, Vec<Field>)],
    keys: Option<&[String]>,
    warnings: &mut Vec<String>,
) -> Vec<&'a Field> {
    let mut place: HashMap<&str, (usize, &SecretPath)> = HashMap::new();
    let mut merged: Vec<&Field> = Vec::new();
    for (path, fields) in secrets {
        for field in
            fields.iter().filter(|field| keys.is_none_or(|keys| keys.contains(&field.name)))
        {
            let Some((at, owner)) = place.get_mut(field.name.as_str()) else {
                place.insert(&field.name, (merged.len(), path));
                merged.push(field);
                continue;
            };
            warnings.push(format!("`{}` of `{path}` replaces that of `{owner}`", field.name));
            merged[*at] = field;
            *owner = path;
        }
    }
    for key in keys.unwrap_or_default().iter().filter(|key| !place.contains_key(key.as_str())) {
        warnings.push(format!("`{key}` is in none of the secrets"));
    }
    merged
}

#[cfg(test)]
mod tests;
