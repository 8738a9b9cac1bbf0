//! The text of the configuration: changing it under a lock, and what its tables say. Which tables
//! those are does not live here.

use std::path::Path;

use anyhow::{Context as _, Result};
use host::files::{self, Access};
use machine::config::Config;
use toml_edit::{Array, DocumentMut, Item, Table, value};

/// Changes the text of the configuration, if the result is a right one.
pub(crate) fn edit(file: &Path, change: impl FnOnce(&mut DocumentMut) -> Result<()>) -> Result<()> {
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make folder `{}`", folder.display()))?;
    // A dotfile manager's link stays one; what it leads to is replaced.
    let real = match file.canonicalize() {
        Ok(real) => real,
        Err(_) => folder
            .canonicalize()?
            .join(file.file_name().context("the configuration has no file name")?),
    };
    let _lock = files::lock_folder(&real)?;
    let (text, access) = match std::fs::read_to_string(&real) {
        Ok(text) => (text, Access::of(&real.metadata()?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (String::new(), Access::PRIVATE)
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read `{}`", file.display()));
        }
    };
    Config::parse(&text, file)?;
    let mut document: DocumentMut =
        text.parse().with_context(|| format!("cannot read `{}`", file.display()))?;
    change(&mut document)?;
    let mut text = document.to_string();
    if text.trim().is_empty() {
        // An empty file could as well be one that is being written.
        "# Nothing is configured.\n".clone_into(&mut text);
    }
    Config::parse(&text, file).context("the change would make the configuration wrong")?;
    files::replace(&real, text.as_bytes(), access)?;
    Ok(())
}

/// Tells whether a table is the target, or source, at `path`.
pub(crate) fn names(table: &Table, path: &Path) -> bool {
    let written = table.get("path").and_then(Item::as_str);
    written.is_some_and(|written| Path::new(written).components().eq(path.components()))
}

/// Writes a hook: a command that needs no shell as its words.
pub(super) fn hook(line: &str) -> Item {
    match words(line) {
        Some(words) => value(words.into_iter().collect::<Array>()),
        None => value(line),
    }
}

/// Splits a command that needs no shell; `None` for one that does.
pub(super) fn words(line: &str) -> Option<Vec<&str>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _-./:=@%+,".contains(c);
    let assigns = line.split_whitespace().next().is_none_or(|word| word.contains('='));
    (line.chars().all(plain) && !assigns).then(|| line.split_whitespace().collect())
}
