//! `--import`: which secret a file becomes, and publishing it once. Values are never shown.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Map, Value};
use shared::path::SecretPath;

use crate::client::Client;
use crate::context::Global;
use crate::kv::Typed;
use crate::kv::read::{self, Kind};
use crate::kv::write::{self, Put};
use crate::vault::import;
use host::hint::{Failure, hinted, parsed};

/// Endings that say how a file is written, not what is in it.
const ENDINGS: [&str; 5] = [".env", ".json", ".yaml", ".yml", ".txt"];

/// A file to be published.
pub struct Import {
    pub file: PathBuf,
    pub path: SecretPath,
    /// Whether the path was named, and not derived.
    pub is_named: bool,
    fields: Map<String, Value>,
}

impl Import {
    /// Reads `FILE` or `FILE PATH`.
    ///
    /// # Errors
    /// If the file cannot be read as variables, or a name breaks the grammar.
    pub fn read(words: &[String], global: &Global) -> Result<Self> {
        let (file, path, is_named) = match words {
            [file] => (Path::new(file), named(Path::new(file))?, false),
            [file, path] => (Path::new(file), parsed(path.parse())?, true),
            _ => {
                return Err(hinted(
                    "`--import` takes a file and a path",
                    "write FILE, or FILE PATH",
                ));
            }
        };
        let fields = import::fields(global, path.as_str(), file)?;
        Ok(Self { file: file.to_owned(), path, is_named, fields })
    }

    /// Returns the names of its keys.
    pub fn keys(&self) -> Vec<&str> {
        self.fields.keys().map(String::as_str).collect()
    }

    /// Publishes it, unless the secret is there: what was changed in the vault meanwhile must not
    /// be set back by running the same line again. Returns the version that is there now.
    ///
    /// # Errors
    /// If the vault refuses it.
    pub fn publish(&self, client: &Client, global: &Global) -> Result<u64> {
        let place = Typed { mount: None, path: self.path.to_string() };
        let (route, secret) = read::before(client, &place, 0)?;
        let term = &global.term;
        if let Some(secret) = secret.filter(|secret| secret.part("data").is_some()) {
            let (path, version) = (&self.path, secret.version().unwrap_or(0));
            let empty = Map::new();
            let there = secret.part("data").unwrap_or(&empty);
            let others = differing(&self.fields, there);
            if others.is_empty() {
                term.say(format!("secret   {path} is there, version {version}"));
            } else {
                term.say_hinted(
                    format!(
                        "secret   {path} is there, version {version}, and stays; it differs from \
                         `{}` in {}",
                        self.file.display(),
                        others.join(", ")
                    ),
                    format!("`vault import {path} {}` takes the file's", self.file.display()),
                );
            }
            return Ok(version);
        }
        let put = write::put_after(client, &route.api("data"), &self.fields, 0)?;
        let Put::Written(answer) = put else {
            return Err(Failure::remote(format!("`{}` was written meanwhile", self.path))
                .hint("run the same line again")
                .into());
        };
        let version = answer.and_then(|secret| secret.data?.get("version")?.as_u64()).unwrap_or(1);
        let (path, count) = (&self.path, self.fields.len());
        let keys = if count == 1 { "key" } else { "keys" };
        term.say(format!("secret   {path} published, version {version}, {count} {keys}"));
        Ok(version)
    }
}

/// Tells whether there is no secret yet, as far as this machine knows.
pub fn is_vault_empty(client: &Client) -> bool {
    let place = Typed { mount: None, path: "secret".to_owned() };
    let found = read::typed(client, &place, Kind::Names, |_| Ok(()));
    let names = |(_, secret): read::Found| secret.and_then(|secret| secret.names());
    found.is_ok_and(|found| names(found).is_none_or(|names| names.is_empty()))
}

/// Returns the names whose values are others in the vault, or not there.
fn differing<'a>(file: &'a Map<String, Value>, there: &Map<String, Value>) -> Vec<&'a str> {
    let differs = |(key, value): &(&String, &Value)| there.get(*key) != Some(*value);
    file.iter().filter(differs).map(|(key, _)| key.as_str()).collect()
}

/// Names the secret of a file: `secret/FOLDER/NAME`, of the folder and the name that the file has.
///
/// # Errors
/// If that names nothing.
pub fn named(file: &Path) -> Result<SecretPath> {
    let nameless = || {
        hinted(
            format!("`{}` gives a secret no name", file.display()),
            "name one behind it: `--import FILE secret/FOLDER/NAME`",
        )
    };
    let whole = std::path::absolute(file).map_err(|_| nameless())?;
    let text =
        |name: Option<&std::ffi::OsStr>| name.and_then(|name| name.to_str().map(str::to_owned));
    let name = text(whole.file_name()).ok_or_else(nameless)?.to_lowercase();
    let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
    let name = plain(stem.filter(|stem| !plain(stem).is_empty()).unwrap_or(&name));
    let folder = text(whole.parent().and_then(Path::file_name)).map(|name| plain(&name));
    let folder = folder.filter(|name| !name.is_empty());
    if name.is_empty() {
        return Err(nameless());
    }
    let path = match folder {
        Some(folder) => format!("secret/{folder}/{name}"),
        None => format!("secret/{name}"),
    };
    Ok(parsed(path.parse())?)
}

/// Bends a name into lower case with single dashes.
fn plain(name: &str) -> String {
    let words = name.to_lowercase();
    let words = words.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_after_folder_and_file() {
        for (file, expected) in [
            ("/home/shared/secrets/.env.master", "secret/secrets/env-master"),
            ("/home/jonas/J-Jeco/.env", "secret/j-jeco/env"),
            ("/srv/app/API keys.env", "secret/app/api-keys"),
            ("/srv/My App/prod.json", "secret/my-app/prod"),
            ("/srv/app/db_main.yaml", "secret/app/db_main"),
            ("/.env", "secret/env"),
            ("/srv/..x/a", "secret/x/a"),
        ] {
            assert_eq!(named(Path::new(file)).unwrap().as_str(), expected, "{file}");
        }
        assert!(named(Path::new("/srv/---")).is_err());
    }

    #[test]
    fn differences_are_told_by_name() {
        let map = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let file = map(r#"{"A":"1","B":"2","C":"3"}"#);
        assert_eq!(differing(&file, &map(r#"{"A":"1","B":"x","Z":"0"}"#)), ["B", "C"]);
        assert!(differing(&file, &file).is_empty());
    }
}
