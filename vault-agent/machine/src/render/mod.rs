//! Turns secrets into the content of a file: pure, one file per dialect. Reading or writing files does not live here.
//!
//! A dialect is one function from [`Field`]s to text. What it cannot carry so that every reader reads it back
//! is refused by name, never guessed (design: *Delivery*, "Why refusing beats guessing").

pub mod block;
mod data;
mod dotenv;
mod environment;
mod fields;
mod header;
mod lines;
mod names;
mod naming;
mod parse;
mod raw;
mod refusal;
mod template;
mod text;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;

pub use environment::{Environment, environment};
pub use fields::{Field, NotFields, Value, fields, file};
pub use header::Header;
pub use names::is_denied;
pub use parse::{ParseError, Reason, Variable, is_name, parse};
pub use refusal::{Fault, Refused, Why};

pub use text::Text;

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `.env` by the portable rule: every common reader reads the same.
    #[default]
    Dotenv,
    /// `.env` and `env_file` of Docker Compose.
    Compose,
    /// `--env-file` of Docker and Podman: no quotes at all.
    Docker,
    /// `EnvironmentFile=` of systemd.
    Systemd,
    /// `export NAME='value'` lines for shells.
    Sh,
    /// One JSON object.
    Json,
    /// One YAML mapping.
    Yaml,
    /// One TOML table.
    Toml,
    /// One value, byte for byte.
    Raw,
    /// Whatever a template makes of the secrets.
    Template,
}

/// What names mean in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// Variables of a shell.
    Shell,
    /// Environment variables.
    Environment,
    /// Keys of any kind.
    Keys,
}

impl Format {
    /// Every format, in the order shown to people.
    pub const ALL: &'static [Self] = &[
        Self::Dotenv,
        Self::Compose,
        Self::Docker,
        Self::Systemd,
        Self::Sh,
        Self::Json,
        Self::Yaml,
        Self::Toml,
        Self::Raw,
        Self::Template,
    ];

    /// Returns the name used in configuration and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dotenv => "dotenv",
            Self::Compose => "compose",
            Self::Docker => "docker",
            Self::Systemd => "systemd",
            Self::Sh => "sh",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Toml => "toml",
            Self::Raw => "raw",
            Self::Template => "template",
        }
    }

    /// Tells whether all its readers pass over lines that start with `#`.
    #[must_use]
    pub const fn has_comments(self) -> bool {
        match self {
            Self::Dotenv
            | Self::Compose
            | Self::Docker
            | Self::Systemd
            | Self::Sh
            | Self::Yaml
            | Self::Toml => true,
            Self::Json | Self::Raw | Self::Template => false,
        }
    }

    const fn names(self) -> Names {
        match self {
            Self::Dotenv | Self::Sh => Names::Shell,
            Self::Compose | Self::Docker | Self::Systemd => Names::Environment,
            Self::Json | Self::Yaml | Self::Toml | Self::Raw | Self::Template => Names::Keys,
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

/// What happens to lists and objects in a format of plain values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nested {
    /// They are refused; JSON, YAML and TOML hold them as they are.
    #[default]
    Refuse,
    /// Each value in them gets a name of its own, joined by `__`.
    Flatten,
}

/// What happens to values of several lines in `.env` files by the portable rule, which many readers cannot take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Multiline {
    /// They are refused.
    #[default]
    Refuse,
    /// They are written.
    Allow,
}

/// Which lines of a file are the vault's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// All of them.
    #[default]
    File,
    /// Those between two markers.
    Block,
}

/// What the owner of a target asked for beyond the format.
#[derive(Clone, Debug, Default)]
pub struct Rules<'a> {
    /// The only keys to write, if given: as the secrets have them.
    pub keys: Option<&'a [String]>,
    /// Names in the file for some keys, final.
    pub rename: &'a [(String, String)],
    /// What stands before all other names.
    pub prefix: &'a str,
    /// Whether all other names are in upper case.
    pub upper: bool,
    /// What happens to lists and objects.
    pub nested: Nested,
    /// What happens to values of several lines.
    pub multiline: Multiline,
    /// Dangerous names that are allowed all the same.
    pub allow_names: &'a [String],
    /// The text of the template.
    pub template: &'a str,
    /// What the file says about itself, where its format has comments.
    pub header: Option<&'a Header>,
    /// Which lines are the vault's.
    pub layout: Layout,
}

/// The content of a file.
#[derive(Debug)]
pub struct Rendered {
    /// What to write.
    pub content: Plaintext,
    /// What the owner should know; the file is right all the same.
    pub warnings: Vec<String>,
}

/// Renders `secrets` in one file; where two hold the same name, the later one wins and a warning says so. Of a block the
/// lines between the markers are rendered.
///
/// # Errors
/// Names every variable that `format` or `rules` refuse.
pub fn render(
    format: Format,
    secrets: &[(SecretPath, Vec<Field>)],
    rules: &Rules<'_>,
) -> Result<Rendered, Refused> {
    let (mut warnings, mut faults) = (Vec::new(), Vec::new());
    let (fields, absent) = naming::choose(secrets, rules, &mut warnings, &mut faults);
    warnings.extend(absent.iter().map(|key| format!("`{key}` is in none of the secrets")));
    judge(format, &fields, rules, &mut warnings, &mut faults);
    let mut out = Text::default();
    if let Some(header) = rules.header.filter(|_| format.has_comments()) {
        header.write(&mut out);
    }
    write(format, &fields, secrets, rules, &mut out, &mut faults);
    if faults.is_empty() {
        Ok(Rendered { content: out.finish(), warnings })
    } else {
        Err(Refused { format, faults })
    }
}

/// Judges names, and values that would be taken for markers.
fn judge(
    format: Format,
    fields: &[Field],
    rules: &Rules<'_>,
    warnings: &mut Vec<String>,
    faults: &mut Vec<Fault>,
) {
    for Field { name, value } in fields {
        match names::judge(name, format.names(), rules.allow_names) {
            names::Verdict::Fine => {}
            names::Verdict::Odd(why) => warnings.push(format!("`{name}` {why}")),
            names::Verdict::Refused(why) => faults.push(Fault { name: name.clone(), why }),
        }
        if rules.layout == Layout::Block && value.text().is_some_and(block::has_marker) {
            let hint = "change the value, or give the target a file of its own";
            let why = refusal::refuse("a marker of the block", "this agent", hint);
            faults.push(Fault { name: name.clone(), why });
        }
    }
}

fn write(
    format: Format,
    fields: &[Field],
    secrets: &[(SecretPath, Vec<Field>)],
    rules: &Rules<'_>,
    out: &mut Text,
    faults: &mut Vec<Fault>,
) {
    type Line = fn(&str, &str, &mut Text) -> Result<(), Why>;
    let line: Line = match format {
        Format::Dotenv => match rules.multiline {
            Multiline::Refuse => {
                |name, value, out| dotenv::write(name, value, Multiline::Refuse, out)
            }
            Multiline::Allow => {
                |name, value, out| dotenv::write(name, value, Multiline::Allow, out)
            }
        },
        Format::Compose => lines::compose,
        Format::Docker => lines::docker,
        Format::Systemd => lines::systemd,
        Format::Sh => lines::sh,
        Format::Json => return data::json(fields, out),
        Format::Yaml => return data::yaml(fields, out),
        Format::Toml => {
            for Field { name, value } in fields {
                if let Err(why) = data::toml(name, value, out) {
                    faults.push(Fault { name: name.clone(), why });
                }
            }
            return;
        }
        Format::Raw => return raw::write(fields, out, faults),
        Format::Template => {
            if let Err(why) = template::write(rules.template, fields, secrets, out) {
                faults.push(Fault { name: String::new(), why });
            }
            return;
        }
    };
    for Field { name, value } in fields {
        let written = match value {
            Value::Text(text) | Value::Scalar(text) => line(name, fields::utf8(text), out),
            Value::Structure(_) => Err(Why::NotText),
            Value::Bytes(_) => Err(Why::Bytes),
        };
        if let Err(why) = written {
            faults.push(Fault { name: name.clone(), why });
        }
    }
}

#[cfg(test)]
mod tests;
