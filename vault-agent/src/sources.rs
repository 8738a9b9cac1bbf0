//! `vault-agent source add|list|remove|confirm`: edits the `[[source]]` tables of `agent.toml`, and
//! tells the agent that a save which looks like the rest of a file is meant. Master files are read
//! and written by the daemon only.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use shared::path::SecretPath;
use toml_edit::{ArrayOfTables, Item, Table, value};

use crate::ask;
use crate::daemon::{check_source, confirm_source};
use crate::targets::{edit, names, real};
use host::files;
use host::files::git::{GitGate, GitPolicy};
use host::hint::hinted;
use host::table;
use host::term::Term;
use machine::config::{Config, Source};
use machine::paths::Paths;

/// Add, list and remove the files that people edit and the agent publishes
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Publish a file whenever it is saved, from now on
    Add {
        /// The file
        file: PathBuf,
        /// The secret that it is the master copy of
        secret: SecretPath,
    },
    /// List the files that are published
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop publishing a file; it stays, and so does its secret
    Remove {
        /// The file
        file: PathBuf,
    },
    /// Publish what a file holds now, although it has lost most of its keys or half a line
    Confirm {
        /// The file
        file: PathBuf,
    },
}

/// Runs the verb; refuses what would leave the configuration wrong: it is then as it was.
pub fn run(command: &Command, paths: &Paths, term: &Term) -> Result<()> {
    match command {
        Command::Add { file, secret } => {
            ask::demand_machine(paths)?;
            ask::demand_reason(paths, secret)?;
            add(file, secret, &paths.config, term)
        }
        Command::List { json } => list(*json, &paths.config, term),
        Command::Remove { file } => remove(file, &paths.config, term),
        Command::Confirm { file } => confirm(file, paths, term),
    }
}

fn counted(keys: usize) -> String {
    format!("{keys} {}", if keys == 1 { "key" } else { "keys" })
}

fn add(file: &Path, secret: &SecretPath, config: &Path, term: &Term) -> Result<()> {
    let path = real(file)?;
    let keys = check_source(&Source { path: path.clone(), secret: secret.clone() })?;
    edit(config, |document| {
        let sources =
            document.entry("source").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let sources = sources
            .as_array_of_tables_mut()
            .context("`source` is not written as [[source]] tables")?;
        if sources.iter().any(|table| names(table, &path)) {
            bail!(hinted(
                format!("`{}` is a source already", path.display()),
                "remove it first with `vault-agent source remove`"
            ));
        }
        let mut table = Table::new();
        table["path"] = value(path.to_str().context("the path is not UTF-8")?);
        table["secret"] = value(secret.as_str());
        sources.push(table);
        Ok(())
    })?;
    let shown = path.display();
    term.say(format!("added: `{shown}` with its {} is the master of {secret}", counted(keys)));
    if let Err(why) = GitGate::default().pass(&path, GitPolicy::Refuse) {
        term.say_hinted(
            format!("warning: {why}: its values are about to be committed"),
            why.hint(),
        );
    }
    Ok(())
}

fn list(json: bool, config: &Path, term: &Term) -> Result<()> {
    let config = Config::load_or_default(config)?;
    let rows: Vec<Row<'_>> = config
        .sources
        .iter()
        .map(|source| Row { path: &source.path, secret: &source.secret })
        .collect();
    if json {
        return Ok(term.document(serde_json::to_string_pretty(&rows)?)?);
    }
    let header = ["SOURCE", "SECRET"].map(str::to_owned).to_vec();
    let cells = rows.iter().map(|row| vec![row.path.display().to_string(), row.secret.to_string()]);
    let rows: Vec<_> = std::iter::once(header).chain(cells).collect();
    Ok(term.line(table::columns(&rows, "  "))?)
}

fn remove(file: &Path, config: &Path, term: &Term) -> Result<()> {
    let Source { path, secret } = &*known(file, config)?;
    edit(config, |document| {
        if let Some(sources) = document.get_mut("source").and_then(Item::as_array_of_tables_mut) {
            sources.retain(|table| !names(table, path));
        }
        Ok(())
    })?;
    let shown = path.display();
    term.say(format!("removed: `{shown}` is no source any more; it stays, and so does {secret}"));
    Ok(())
}

fn confirm(file: &Path, paths: &Paths, term: &Term) -> Result<()> {
    let source = known(file, &paths.config)?;
    let config = Config::load_or_default(&paths.config)?;
    let sources: Vec<&Path> = config.sources.iter().map(|source| &*source.path).collect();
    let keys = confirm_source(&paths.state, &source, &sources)?;
    let shown = source.path.display();
    term.say(format!(
        "confirmed: `{shown}` with its {} is published as {}",
        counted(keys),
        source.secret
    ));
    // As a save would: the agent looks at the file again.
    let touched = std::fs::OpenOptions::new().append(true).open(&source.path);
    if let Err(why) = touched.and_then(|file| file.set_modified(SystemTime::now())) {
        term.say_hinted(
            format!("`{shown}` could not be touched: {why}"),
            "save it once more, unchanged, or start the agent again",
        );
    }
    Ok(())
}

/// Finds a source by its file, which may be gone with its folder.
fn known(file: &Path, config: &Path) -> Result<std::sync::Arc<Source>> {
    let given = files::absolute(file)?;
    let path = real(file).unwrap_or_else(|_| given.clone());
    let config = Config::load_or_default(config)?;
    let found = config.sources.into_iter().find(|known| known.path == path || known.path == given);
    found.ok_or_else(|| {
        let text = format!("`{}` is no source", path.display());
        hinted(text, "`vault-agent source list` shows them")
    })
}

/// A source as JSON shows it.
#[derive(Serialize)]
struct Row<'a> {
    path: &'a Path,
    secret: &'a SecretPath,
}

#[cfg(test)]
mod tests {
    use std::io;

    use clap::Parser as _;
    use host::files::Access;

    use super::*;
    use crate::targets::tests::Printed;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    struct World {
        folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let world = Self { folder: tempfile::tempdir().unwrap() };
            world.save("pins.json", "{}");
            world
        }

        fn root(&self) -> PathBuf {
            self.folder.path().canonicalize().unwrap()
        }

        fn save(&self, name: &str, text: &str) {
            files::replace(&self.root().join(name), text.as_bytes(), Access::PRIVATE).unwrap();
        }

        fn config(&self) -> String {
            let text = std::fs::read_to_string(self.root().join("agent.toml")).unwrap_or_default();
            text.replace(self.root().to_str().unwrap(), "ROOT")
        }

        /// Runs a verb; returns what it printed, with the world's folder as `ROOT`.
        fn run(&self, words: &[&str]) -> String {
            let root = self.root().to_str().unwrap().to_owned();
            let words = words.iter().map(|word| word.replace("ROOT", &root));
            let cli = Cli::parse_from(["source".to_owned()].into_iter().chain(words));
            let paths = Paths::resolve(Some(self.root()), None).unwrap();
            let printed = Printed::default();
            let term = Term::piped(io::empty(), printed.clone(), printed.clone());
            if let Err(error) = run(&cli.command, &paths, &term) {
                term.fail(&error);
            }
            let text = String::from_utf8(printed.0.borrow().clone()).unwrap();
            text.replace(&root, "ROOT").trim_end().to_owned()
        }
    }

    #[test]
    fn nothing_is_added_where_no_machine_is() {
        let world = World::new();
        world.save(".env", "A=1\n");
        std::fs::remove_file(world.root().join("pins.json")).unwrap();
        let said = world.run(&["add", "ROOT/.env", "secret/app"]);
        assert!(said.starts_with("no machine has joined a vault in `ROOT`: "), "{said}");
        assert_eq!(world.config(), "");
    }

    #[test]
    fn a_source_comes_and_goes() {
        let world = World::new();
        world.save(".env", "A=1\nB=2\n");
        world.save("agent.toml", "# mine\nserver = [\"10.0.0.1:8443\"]\n");
        let added = world.run(&["add", "ROOT/.env", "secret/app"]);
        assert_eq!(added, "added: `ROOT/.env` with its 2 keys is the master of secret/app");
        let text = "# mine\nserver = [\"10.0.0.1:8443\"]\n\n[[source]]\npath = \"ROOT/.env\"\nsecret = \"secret/app\"\n";
        assert_eq!(world.config(), text);
        let list = world.run(&["list"]);
        let words: Vec<_> = list.split_whitespace().collect();
        assert_eq!(words, ["SOURCE", "SECRET", "ROOT/.env", "secret/app"]);
        let json: serde_json::Value =
            serde_json::from_str(&world.run(&["list", "--json"])).unwrap();
        assert_eq!(json, serde_json::json!([{ "path": "ROOT/.env", "secret": "secret/app" }]));
        let removed =
            "removed: `ROOT/.env` is no source any more; it stays, and so does secret/app";
        assert_eq!(world.run(&["remove", "ROOT/.env"]), removed);
        assert!(!world.config().contains("source"));
    }

    #[test]
    fn mistakes_change_nothing() {
        let world = World::new();
        world.save("cut.env", "A=1\nB='x\n");
        world.save(".env", "A=1\n");
        let before = "[[target]]\npath = \"ROOT/t.env\"\nsecrets = [\"secret/t\"]\n";
        world.save("agent.toml", &before.replace("ROOT", world.root().to_str().unwrap()));
        world.save("t.env", "T=1\n");
        for (words, expected) in [
            (&["add", "ROOT/none", "secret/app"][..], "`ROOT/none` is missing"),
            (&["add", "ROOT/cut.env", "secret/app"], "`ROOT/cut.env` line 2: the opening ' has no"),
            (&["add", "ROOT/t.env", "secret/app"], "the change would make the configuration wrong"),
            (&["remove", "ROOT/.env"], "`ROOT/.env` is no source"),
            (&["confirm", "ROOT/.env"], "`ROOT/.env` is no source"),
        ] {
            let printed = world.run(words);
            assert!(printed.contains(expected), "{words:?}: {printed}");
            assert_eq!(world.config(), before, "{words:?}");
        }
        world.run(&["add", "ROOT/.env", "secret/app"]);
        let again = world.run(&["add", "ROOT/.env", "secret/other"]);
        assert!(again.contains("`ROOT/.env` is a source already"), "{again}");
        let nothing = world.run(&["confirm", "ROOT/.env"]);
        assert!(nothing.contains("nothing is held"), "{nothing}");
    }
}
