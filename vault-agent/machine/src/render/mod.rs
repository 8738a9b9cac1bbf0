//! Turns secrets into the content of a file: pure, one file per dialect. Reading or writing files
//! does not live here.
//!
//! A dialect is one function from [`Field`]s to text. What it cannot carry so that every reader
//! reads it back is refused by name, never guessed (design: *Delivery*, "Why refusing beats
//! guessing").

pub mod block;
mod data;
mod dotenv;
mod environment;
mod fields;
mod format;
mod header;
mod lines;
mod names;
mod naming;
mod parse;
mod raw;
mod refusal;
mod rules;
mod template;
mod text;

use shared::path::SecretPath;
use shared::plaintext::Plaintext;

pub use environment::{Environment, environment};
pub use fields::{Field, NotFields, Value, fields, file};
pub use format::Format;
pub use header::Header;
pub use names::is_denied;
pub use parse::{ParseError, Reason, Variable, is_name, parse};
pub use refusal::{Refused, RefusedField, Why};
pub use rules::{Layout, Multiline, Nested, Rules};
pub use text::Text;

/// The content of a file.
#[derive(Debug)]
pub struct Rendered {
    /// What to write.
    pub content: Plaintext,
    /// What the owner should know; the file is right all the same.
    pub warnings: Vec<String>,
}

/// Renders `secrets` in one file; where two hold the same name, the later one wins and a warning
/// says so. Of a block the lines between the markers are rendered.
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
    faults: &mut Vec<RefusedField>,
) {
    for Field { name, value } in fields {
        match names::judge(name, format.names(), rules.allow_names) {
            names::Verdict::Fine => {}
            names::Verdict::Odd(why) => warnings.push(format!("`{name}` {why}")),
            names::Verdict::Refused(why) => faults.push(RefusedField { name: name.clone(), why }),
        }
        if rules.layout == Layout::Block && value.text().is_some_and(block::has_marker) {
            let hint = "change the value, or give the target a file of its own";
            let why = refusal::refuse("a marker of the block", "this agent", hint);
            faults.push(RefusedField { name: name.clone(), why });
        }
    }
}

fn write(
    format: Format,
    fields: &[Field],
    secrets: &[(SecretPath, Vec<Field>)],
    rules: &Rules<'_>,
    out: &mut Text,
    faults: &mut Vec<RefusedField>,
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
                    faults.push(RefusedField { name: name.clone(), why });
                }
            }
            return;
        }
        Format::Raw => return raw::write(fields, out, faults),
        Format::Template => {
            if let Err(why) = template::write(rules.template, fields, secrets, out) {
                faults.push(RefusedField { name: String::new(), why });
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
            faults.push(RefusedField { name: name.clone(), why });
        }
    }
}

#[cfg(test)]
mod tests;
