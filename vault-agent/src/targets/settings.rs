//! What a `[[target]]` may say beside file, secrets, access and hook: the flags of `target add` for
//! it, and how `target list` shows it. What each key means lives with the configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use toml::Value;
use toml_edit::{Array, InlineTable, Table, value};

/// Keys that `target list` shows in columns of their own.
const COLUMNS: [&str; 4] = ["path", "secrets", "format", "on_change"];

/// Characters of a value that `target list` shows.
const LONGEST: usize = 60;

#[derive(Debug, Default, clap::Args)]
pub(super) struct Settings {
    /// Write a key under another name, as it is; separated by commas
    #[arg(long, value_name = "KEY=NAME", value_delimiter = ',', value_parser = pair)]
    rename: Vec<(String, String)>,
    /// Put this before all other names
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Write all other names in upper case
    #[arg(long)]
    upper: bool,
    /// Write these names though they are dangerous, such as PATH; separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allow_names: Vec<String>,
    /// What to do with values of several lines, which many readers cannot take: refuse or allow
    /// [default: refuse]
    #[arg(long, value_parser = ["refuse", "allow"])]
    multiline: Option<String>,
    /// What to do with lists and objects: refuse, or flatten for a name of its own for each value
    /// [default: refuse]
    #[arg(long, value_parser = ["refuse", "flatten"])]
    nested: Option<String>,
    /// Leave out the comment that says where the file comes from
    #[arg(long)]
    no_header: bool,
    /// Template of the file, for --format template
    #[arg(long, value_name = "FILE")]
    template_file: Option<PathBuf>,
    /// Write this one after that target, and run its hook after that one's; repeatable
    #[arg(long, value_name = "TARGET")]
    after: Vec<PathBuf>,
    /// Leave the file alone while nothing is mounted there
    #[arg(long, value_name = "DIR")]
    require_mount: Option<PathBuf>,
    /// What to do when somebody else changes the file: restore, or report [default: restore]
    #[arg(long, value_parser = ["restore", "report"])]
    drift: Option<String>,
    /// What to do with the file when its secrets are deleted: keep or remove [default: keep]
    #[arg(long, value_parser = ["keep", "remove"])]
    on_delete: Option<String>,
    /// How long the server may be out of reach before --on-stale applies, e.g. 7d
    #[arg(long, value_name = "SPAN")]
    max_stale: Option<String>,
    /// What to do then: keep, remove or alarm [default: alarm]
    #[arg(long, value_parser = ["keep", "remove", "alarm"])]
    on_stale: Option<String>,
    /// Go back to the versions before when the hook fails for good
    #[arg(long)]
    rollback_on_failure: bool,
    /// Write into the file that is there, for containers that have this very file mounted; a reader
    /// may see half of it for a moment
    #[arg(long)]
    in_place: bool,
}

impl Settings {
    /// Returns the keys that are to have other names in the file.
    pub(super) fn renamed(&self) -> impl Iterator<Item = &String> {
        self.rename.iter().map(|(key, _)| key)
    }

    /// Writes what is given into a `[[target]]` table; `real` finds a file as the agent names it.
    pub(super) fn write(
        &self,
        table: &mut Table,
        real: impl Fn(&Path) -> Result<PathBuf>,
    ) -> Result<()> {
        if !self.rename.is_empty() {
            let pairs = self.rename.iter().map(|(key, name)| (key.as_str(), name.as_str()));
            table["rename"] = value(pairs.collect::<InlineTable>());
        }
        let texts = [
            ("prefix", &self.prefix),
            ("multiline", &self.multiline),
            ("nested", &self.nested),
            ("drift", &self.drift),
            ("on_delete", &self.on_delete),
            ("max_stale", &self.max_stale),
            ("on_stale", &self.on_stale),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                table[key] = value(text.as_str());
            }
        }
        for (key, is_set, then) in [
            ("upper", self.upper, true),
            ("header", self.no_header, false),
            ("rollback_on_failure", self.rollback_on_failure, true),
        ] {
            if is_set {
                table[key] = value(then);
            }
        }
        if self.in_place {
            table["write"] = value("in_place");
        }
        if !self.allow_names.is_empty() {
            table["allow_names"] = value(self.allow_names.iter().collect::<Array>());
        }
        let text = |path: &Path| {
            let path = path.to_str().map(str::to_owned);
            path.context("the path is not UTF-8")
        };
        let after = self.after.iter().map(|path| text(&real(path)?));
        let after = after.collect::<Result<Array>>()?;
        if !after.is_empty() {
            table["after"] = value(after);
        }
        if let Some(file) = &self.template_file {
            // A link is followed each time the template is read.
            table["template_file"] = value(text(&std::path::absolute(file)?)?);
        }
        if let Some(point) = &self.require_mount {
            // It may be missing as long as nothing is mounted.
            let point = point.canonicalize().or_else(|_| std::path::absolute(point))?;
            table["require_mount"] = value(text(&point)?);
        }
        Ok(())
    }
}

/// Reads KEY=NAME.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, name)) if !key.is_empty() && !name.is_empty() => {
            Ok((key.to_owned(), name.to_owned()))
        }
        Some(_) | None => Err("expected KEY=NAME".to_owned()),
    }
}

/// Returns what each `[[target]]` of a configuration says beside its columns, in the file's order.
pub(super) fn of(text: &str) -> Result<Vec<toml::Table>> {
    let mut written: toml::Table = toml::from_str(text)?;
    let Some(Value::Array(tables)) = written.remove("target") else { return Ok(Vec::new()) };
    let rest = tables.into_iter().map(|table| match table {
        Value::Table(mut table) => {
            table.retain(|key, _| !COLUMNS.contains(&key));
            table
        }
        _ => toml::Table::new(),
    });
    Ok(rest.collect())
}

/// Shows settings on one line.
pub(super) fn shown(settings: &toml::Table) -> String {
    let each = |(key, value): (&String, &Value)| {
        let value = bare(value);
        let short: String = value.chars().take(LONGEST).collect();
        if short == value { format!("{key}={value}") } else { format!("{key}={short}…") }
    };
    let all: Vec<String> = settings.iter().map(each).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

/// Shows a value without quotes and brackets.
fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(bare).collect::<Vec<_>>().join(","),
        Value::Table(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key}={}", bare(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Datetime(time) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_containers_is_written_in_place() {
        let settings = Settings { in_place: true, ..Settings::default() };
        let mut table = Table::new();
        settings.write(&mut table, |path| Ok(path.to_owned())).unwrap();
        assert_eq!(table.to_string(), "write = \"in_place\"\n");
    }
}
