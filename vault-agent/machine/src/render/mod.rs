//! Turns secrets into the content of a file: pure, one file per dialect. Reading or writing files
//! does not live here.
//!
//! A dialect is one function from [`Field`]s to text. What it cannot carry so that every reader
//! reads it back is refused by name, never guessed (design: *Delivery*, "Why refusing beats
//! guessing").

pub mod block;
mod contact;
mod data;
mod dotenv;
mod encoding;
mod environment;
mod fields;
mod format;
mod header;
mod lines;
mod names;
mod naming;
mod parse;
mod refusal;
mod rules;
mod template;
mod text;
mod twice;

use shared::path::SecretPath;
use shared::plaintext::Plaintext;

pub use contact::{Contact, assignments, contact};
pub use environment::{Environment, environment};
pub use fields::{Field, NotFields, Value, fields, file};
pub use format::Format;
pub use header::Header;
pub use lines::LONG_VARIABLE;
pub use names::is_denied;
pub use parse::{Backslashes, ParseError, Variable, is_name, parse, parse_with, utf8};
pub use refusal::{Refused, RefusedField, Why};
pub use rules::{Layout, Multiline, Nested, Rules};
pub use text::Text;
pub use twice::{Twice, twice};

/// The content of a file.
#[derive(Debug)]
pub struct Rendered {
    /// What to write.
    pub content: Plaintext,
    /// What the owner should know; the file is right all the same.
    pub warnings: Vec<String>,
    /// Keys that are to be there and that no secret has.
    pub absent: Vec<String>,
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
    judge(format, &fields, rules, &mut warnings, &mut faults);
    let mut out = Text::default();
    if let Some(header) = rules.header.filter(|_| format.has_comments()) {
        header.write(&mut out);
    }
    write(format, &fields, secrets, rules, &mut out, &mut faults);
    if faults.is_empty() {
        Ok(Rendered { content: out.finish(), warnings, absent })
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
            Ok(odd) => warnings.extend(odd.map(|why| format!("`{name}` {why}"))),
            Err(why) => faults.push(why.of(name)),
        }
        if rules.layout == Layout::Block && value.text().is_some_and(block::has_marker) {
            let hint = "change the value, or give the target a file of its own";
            faults.push(refusal::refuse("a marker of the block", "this agent", hint).of(name));
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
    let dotenv =
        |name: &str, value: &str, out: &mut Text| dotenv::write(name, value, rules.multiline, out);
    let line: &dyn Fn(&str, &str, &mut Text) -> Result<(), Why> = match format {
        Format::Dotenv => &dotenv,
        Format::Compose => &lines::compose,
        Format::Docker => &lines::docker,
        Format::Systemd => &lines::systemd,
        Format::Sh => &lines::sh,
        Format::Json => return data::json(fields, out),
        Format::Yaml => return data::yaml(fields, out),
        Format::Toml => {
            return each(fields, faults, |name, value| data::toml(name, value, out));
        }
        Format::Raw => return faults.extend(raw(fields, out).err()),
        Format::Template => {
            let written = template::write(rules.template, fields, secrets, out);
            return faults.extend(written.err().map(Why::of_all));
        }
    };
    each(fields, faults, |name, value| line(name, value.plain()?, out));
}

/// Writes each field, and notes those that are refused.
fn each(
    fields: &[Field],
    faults: &mut Vec<RefusedField>,
    mut write: impl FnMut(&str, &Value) -> Result<(), Why>,
) {
    let refused =
        |field: &Field| write(&field.name, &field.value).err().map(|why| why.of(&field.name));
    faults.extend(fields.iter().filter_map(refused));
}

/// Writes the only field, byte for byte: certificates, keys, keystores.
fn raw(fields: &[Field], out: &mut Text) -> Result<(), RefusedField> {
    let [Field { name, value }] = fields else {
        let text = format!("the file is one value, and there are {}", fields.len()).into();
        return Err(Why { text, hint: "name one key in `keys`" }.of_all());
    };
    out.push_bytes(value.bytes().ok_or_else(|| refusal::NOT_TEXT.of(name))?);
    Ok(())
}

#[cfg(test)]
mod tests;
