//! `vault-agent target add|list|remove`: edits `agent.toml` and keeps its comments. A running agent
//! takes the change up by itself; files are written by the daemon only, and removed here if that is
//! asked for.

mod absent;
mod contact;
mod document;
mod patience;
mod purge;
mod settings;
mod twice;
mod update;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use shared::path::SecretPath;
use toml_edit::{Array, ArrayOfTables, Item, Table, value};

use crate::ask;
use document::hook;
pub(crate) use document::{edit, names};
use host::account;
use host::files::git::{GitGate, GitPolicy};
use host::files::{self, FileError};
use host::hint::hinted;
use host::shown::quoted;
use host::table;
use host::term::Term;
use machine::config::{Config, Format, Target, parse_mode};
use machine::paths::Paths;
use machine::render::Layout;
use patience::patiently;
pub(crate) use purge::purge;
use settings::Settings;
use update::Change;

use machine::written::Written;

/// Add, list and remove the files that are kept right
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Keep a file right from now on
    Add(Box<Add>),
    /// List the files that are kept right
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop keeping a file right; the file stays unless told otherwise
    Remove {
        /// The file
        file: PathBuf,
        /// Remove the file too, or the vault's block from it
        #[arg(long)]
        purge: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct Add {
    /// The file
    file: PathBuf,
    /// The secrets in it; later ones win
    #[arg(required = true)]
    secrets: Vec<SecretPath>,
    /// Run this when the file has changed, in its folder
    #[arg(long, value_name = "COMMAND")]
    on_change: Option<String>,
    /// How the file is written: dotenv, compose, docker, systemd, sh, json, yaml, toml, raw or
    /// template [default: dotenv]
    #[arg(long)]
    format: Option<Format>,
    /// Write these keys only, separated by commas
    #[arg(long, value_delimiter = ',')]
    keys: Vec<String>,
    /// Owner of the file, by name or number
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Group of the file, by name or number
    #[arg(long)]
    group: Option<String>,
    /// Permissions of the file [default: 0600]
    #[arg(long)]
    mode: Option<String>,
    /// What to do where git would pick the file up: refuse, or ignore to add it to .gitignore
    /// [default: refuse]
    #[arg(long, value_parser = ["refuse", "ignore"])]
    git: Option<String>,
    #[command(flatten)]
    choice: contact::Choice,
    #[command(flatten)]
    settings: Settings,
    /// Where it is a target already, take the hook and the choice
    #[arg(long, hide = true)]
    update: bool,
}

/// Warns before the verb of what would not be as it seems.
///
/// # Errors
/// If nobody would write the file, or the caller has to say why, and has not.
pub fn foretell(command: &Command, paths: &Paths, term: &Term) -> Result<()> {
    match command {
        Command::Add(args) => {
            ask::demand_machine(paths)?;
            let keys: Vec<&String> = args.keys.iter().chain(args.settings.renamed()).collect();
            absent::warn(&args.secrets, &keys, paths, term)?;
        }
        Command::List { .. } | Command::Remove { .. } => {}
    }
    Ok(())
}

/// Runs the verb on the configuration; refuses what would leave it wrong: it is then as it was.
pub fn run(command: &Command, paths: &Paths, term: &Term) -> Result<()> {
    match command {
        Command::Add(args) => add(args, paths, term),
        Command::List { json } => list(*json, &paths.config, term),
        Command::Remove { file, purge } => remove(file, *purge, paths, term),
    }
}

fn add(args: &Add, paths: &Paths, term: &Term) -> Result<()> {
    let file = paths.config.as_path();
    let path = if args.choice.follow { followed(&args.file)? } else { real(&args.file)? };
    if let Some(mode) = &args.mode {
        parse_mode(mode)
            .with_context(|| format!("mode `{mode}` is not an octal number such as 0600"))?;
    }
    let unknown = |what: &str, name: &str, hint: &str| {
        hinted(format!("{what} `{name}` is not known on this host"), hint)
    };
    if let Some(name) = &args.owner {
        account::user(name).ok_or_else(|| unknown("user", name, "`getent passwd` lists who is"))?;
    }
    if let Some(name) = &args.group {
        account::group(name)
            .ok_or_else(|| unknown("group", name, "`getent group` lists those that are"))?;
    }
    // A file that is there keeps its owner.
    let is_there = path.symlink_metadata().is_ok();
    let owner = args.owner.clone().or_else(|| folder_owner(&path).filter(|_| !is_there));
    let table = written(args, &path, owner.as_deref())?;
    let config = Config::load_or_default(file)?;
    if args.update
        && let Some(known) = config.targets.iter().find(|target| target.path == path)
    {
        let Add { choice, secrets, on_change, .. } = args;
        let change = Change { choice, secrets, on_change: on_change.as_deref() };
        return change.make(known, &config, paths, term);
    }
    let is_new = config.targets.iter().all(|target| target.path != path);
    // A table that is wrong is refused below, with its line.
    if let (true, Ok(target)) = (is_new, contact::typed(&table, file)) {
        contact::meet(&args.choice, &target, &config, paths, term)?;
    }
    edit(file, |document| {
        let targets =
            document.entry("target").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let targets = targets
            .as_array_of_tables_mut()
            .context("`target` is not written as [[target]] tables")?;
        if targets.iter().any(|table| names(table, &path)) {
            bail!(hinted(
                format!("`{}` is a target already", path.display()),
                "remove it first with `vault-agent target remove`"
            ));
        }
        targets.push(table);
        Ok(())
    })?;
    term.say(format!("added: `{}` holds {}", path.display(), list_of(&args.secrets)));
    if let Some(link) = link_to(&args.file, &path) {
        term.say_hinted(
            format!("`{}` is a link, and the file is where it leads now", link.display()),
            "where the link is turned, as by a deployment, add the file with `--follow` instead",
        );
    }
    if let (Some(owner), None) = (&owner, &args.owner) {
        term.say(format!(
            "its owner will be `{owner}`, to whom the folder belongs; `--owner root` keeps it to root"
        ));
    }
    if args.git.as_deref() != Some("ignore")
        && let Err(why) = GitGate::default().pass(&path, GitPolicy::Refuse)
    {
        term.say_hinted(format!("warning: {why}: it will not be written"), why.hint());
    }
    Ok(())
}

fn list(json: bool, file: &Path, term: &Term) -> Result<()> {
    let text = match files::settings(file) {
        Ok((_, text)) => text,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Default::default(),
        Err(why) => return Err(why).with_context(|| format!("cannot read `{}`", file.display())),
    };
    let config = Config::parse(&text, file)?;
    let settings = settings::of(&text)?;
    let rows = config.targets.iter().zip(&settings).map(|(target, settings)| Row {
        path: &target.path,
        name: called(target),
        secrets: &target.secrets,
        format: target.format.as_str(),
        settings,
        on_change: target.on_change.as_ref().map(ToString::to_string),
    });
    if json {
        let rows = serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?;
        return Ok(term.document(rows)?);
    }
    let header = ["TARGET", "SECRETS", "FORMAT", "SETTINGS", "ON CHANGE"];
    let header = header.map(str::to_owned).to_vec();
    let cells = rows.map(|Row { path, secrets, format, settings, on_change, .. }| {
        let hook = on_change.unwrap_or_else(|| "-".to_owned());
        let settings = settings::shown(settings);
        vec![path.display().to_string(), list_of(secrets), format.to_owned(), settings, hook]
    });
    let rows: Vec<_> = std::iter::once(header).chain(cells).collect();
    Ok(term.line(table::columns(&rows, "  "))?)
}

fn remove(target: &Path, purge: bool, paths: &Paths, term: &Term) -> Result<()> {
    let file = paths.config.as_path();
    let target = &named(target, file)?;
    edit(file, |document| {
        if let Some(targets) = document.get_mut("target").and_then(Item::as_array_of_tables_mut) {
            targets.retain(|table| !names(table, &target.path));
        }
        Ok(())
    })?;
    let shown = target.path.display();
    let left = match (purge, target.layout) {
        // A running agent has heard of its new configuration before it hears of this.
        (true, _) => purge::purge(target, &Written::new(&paths.state))
            .with_context(|| format!("`{shown}` is no target any more, but stays"))?
            .to_owned(),
        (false, _) if !is_there(&target.path) => "there is no file".to_owned(),
        (false, Layout::File) => {
            let file = quoted(&shown.to_string());
            format!("the file stays, values and all: `rm {file}` removes it")
        }
        (false, Layout::Block) => "the file stays, and its block too: delete the lines from \
             `# BEGIN vault-agent` to `# END vault-agent` if nothing reads them"
            .to_owned(),
    };
    term.say(format!("removed: `{shown}` is no target any more; {left}"));
    Ok(())
}

/// Tells whether there is a file; one whose disk does not answer counts as there.
fn is_there(path: &Path) -> bool {
    let path = path.to_owned();
    patiently(move || files::exists(&path).unwrap_or(true)).unwrap_or(true)
}

/// Finds the target in the configuration `file` whose file is named.
pub(crate) fn named(target: &Path, file: &Path) -> Result<Arc<Target>> {
    // The file and its folder may be gone, so the name counts as it was written too.
    let given = files::absolute(target)?;
    let config = Config::load_or_default(file)?;
    // A status shows some as `~/…`; whose home that is, its reader need not know.
    let is_shown =
        |it: &Arc<Target>| target.starts_with("~") && target.as_os_str() == called(it).as_str();
    let called: Vec<&Arc<Target>> = config.targets.iter().filter(|it| is_shown(it)).collect();
    if let [one] = called[..] {
        return Ok(Arc::clone(one));
    }
    // One that follows a link goes by the link's name, and what that leads to may be one as well.
    let find = |path: &Path| config.targets.iter().find(|target| target.path == path).cloned();
    // Its disk need not answer.
    if let Some(found) = find(&given) {
        return Ok(found);
    }
    let path = real(target).unwrap_or(given);
    find(&path).ok_or_else(|| {
        let text = format!("`{}` is no target", path.display());
        hinted(text, "`vault-agent target list` shows them")
    })
}

/// Returns what a status calls a target.
fn called(target: &Target) -> String {
    account::tilde(&target.path, target.owner.as_deref())
}

/// A target as JSON shows it.
#[derive(Serialize)]
struct Row<'a> {
    path: &'a Path,
    /// As it is called in a status.
    name: String,
    secrets: &'a [SecretPath],
    format: &'a str,
    settings: &'a toml::Table,
    on_change: Option<String>,
}

/// Makes the `[[target]]` table.
fn written(args: &Add, path: &Path, owner: Option<&str>) -> Result<Table> {
    let mut table = Table::new();
    table["path"] = value(path.to_str().context("the path is not UTF-8")?);
    table["secrets"] = value(args.secrets.iter().map(SecretPath::as_str).collect::<Array>());
    if let Some(format) = args.format {
        table["format"] = value(format.as_str());
    }
    if !args.keys.is_empty() {
        table["keys"] = value(args.keys.iter().map(String::as_str).collect::<Array>());
    }
    let texts = [
        ("owner", owner),
        ("group", args.group.as_deref()),
        ("mode", args.mode.as_deref()),
        ("git", args.git.as_deref()),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            table[key] = value(text);
        }
    }
    args.settings.write(&mut table, real)?;
    args.choice.write(&mut table);
    if let Some(line) = &args.on_change {
        table["on_change"] = hook(line);
    }
    Ok(table)
}

/// Returns the path with the links in its folder resolved, as the agent never follows any.
pub(crate) fn real(file: &Path) -> Result<PathBuf> {
    let path = files::absolute(file)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("`{}` is not a file", file.display());
    };
    let folder = folder.canonicalize().map_err(|_| FileError::NoFolder(folder.to_owned()))?;
    let path = folder.join(name);
    if path.is_dir() {
        bail!(hinted(
            format!("`{}` is a folder", path.display()),
            format!("name the file in it, e.g. `{}`", path.join(".env").display())
        ));
    }
    if path.is_symlink() {
        let hint = match path.canonicalize() {
            Ok(real) => format!("name `{}` instead, or follow it with `--follow`", real.display()),
            Err(_) => "name the real file instead, or follow it with `--follow`".to_owned(),
        };
        bail!(hinted(format!("`{}` is a link", path.display()), hint));
    }
    Ok(path)
}

/// Returns the first link on the way to a file, as it was named, that is at `path`.
fn link_to(named: &Path, path: &Path) -> Option<PathBuf> {
    let given = files::absolute(named).ok().filter(|given| given != path)?;
    let mut folders: Vec<&Path> = given.ancestors().collect();
    folders.reverse();
    folders.into_iter().find(|folder| folder.is_symlink()).map(Path::to_owned)
}

/// Returns the path as it is named: its links are followed at every write.
fn followed(file: &Path) -> Result<PathBuf> {
    let path = files::absolute(file)?;
    if path.components().any(|part| part == Component::ParentDir) {
        bail!(FileError::Relative(path));
    }
    Ok(path)
}

/// Returns whom the folder of `path` belongs to, if this is root's agent and the folder is somebody
/// else's.
fn folder_owner(path: &Path) -> Option<String> {
    let owner = path.parent()?.metadata().ok()?.uid();
    let foreign = rustix::process::geteuid().is_root() && owner != 0;
    foreign.then(|| {
        account::user(&owner.to_string()).map_or_else(|| owner.to_string(), |user| user.name)
    })
}

fn list_of(secrets: &[SecretPath]) -> String {
    secrets.iter().map(SecretPath::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod tests;
