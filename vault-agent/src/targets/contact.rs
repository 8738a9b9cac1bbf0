//! First contact of `target add` with a file that is there already: what would be lost is named,
//! and nothing is until its owner has chosen.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json, json};
use shared::error::Code;
use shared::path::SecretPath;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::patience::patiently;
use super::twice;
use crate::ask;
use host::files::binds::{Devices, Mounts};
use host::files::{self, FileError, LARGEST, mount};
use host::hint::{self, hinted};
use host::term::Term;
use machine::binary;
use machine::config::{Config, Target, WriteMode};
use machine::paths::Paths;
use machine::render::{self, Contact, Field, Layout, Rendered, Value};
use machine::written::{self, Written};

/// What an agent answers for want of a right.
pub(super) const DENIED: &str = "permission denied";

/// What to do where the file holds something else.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Choice {
    /// Publish into the last secret first what the file holds and the secrets do not
    #[arg(long, conflicts_with_all = ["block", "replace"])]
    import: bool,
    /// Keep the file's own lines, and the vault's in a marked block
    #[arg(long, conflicts_with = "replace")]
    block: bool,
    /// Replace the file; a copy stays beside it
    #[arg(long)]
    replace: bool,
    /// Follow links on the way to the file that belong to root, the agent's user or the owner
    #[arg(long)]
    pub(super) follow: bool,
}

impl Choice {
    /// Tells whether lines of the file stay, around a block.
    pub(super) const fn is_block(&self) -> bool {
        self.block
    }

    /// Tells whether the file is replaced.
    pub(super) const fn is_replace(&self) -> bool {
        self.replace
    }

    /// Writes what is chosen into the table of the target.
    pub(super) fn write(&self, table: &mut Table) {
        if self.block {
            table["layout"] = value("block");
        }
        if self.replace {
            table["existing"] = value("replace");
        }
        if self.follow {
            table["follow"] = value(true);
        }
    }
}

/// A secret as the agent shows it.
#[derive(Deserialize)]
struct Shown {
    data: ShownVersion,
}

#[derive(Deserialize)]
struct ShownVersion {
    data: Box<RawValue>,
    metadata: ShownMetadata,
}

#[derive(Deserialize)]
struct ShownMetadata {
    version: u64,
}

/// A secret's newest version; 0 and no fields if there is none.
struct Secret {
    path: SecretPath,
    fields: Vec<Field>,
    version: u64,
}

/// Looks at the file of a target that is to be added, and does what is chosen; says what will
/// become of it.
///
/// # Errors
/// Refuses a file that would lose anything, unless that is chosen, and one that cannot be written.
pub(super) fn meet(
    choice: &Choice,
    target: &Target,
    config: &Config,
    paths: &Paths,
    term: &Term,
) -> Result<()> {
    let path = &*written::real(target).map_err(told)?;
    same_file(target, path, config)?;
    files::check_writable(path, target.write == WriteMode::InPlace).map_err(told)?;
    let Some(old) = files::read(path, LARGEST).map_err(told)? else { return Ok(()) };
    told_of_mounts(path, target, term)?;
    if old.access.mode & 0o007 != 0 && target.mode.is_none() {
        let mode = old.access.mode;
        term.say(format!(
            "its mode stays {mode:04o}, so that others may read it: `--mode 0600` ends that"
        ));
    }
    let shown = path.display();
    let part = written::part(target.layout, old.content.expose())
        .map_err(|broken| hinted(format!("`{shown}` {broken}"), "mend the markers first"))?;
    let known = Written::new(&paths.state).of(path);
    let is_foreign = |part: &&[u8]| known.as_ref().is_none_or(|known| !known.is(part));
    // In an empty one there is nothing to be lost.
    let part = part.filter(|part| !part.trim_ascii().is_empty()).filter(is_foreign);
    if part.is_none() && (target.layout == Layout::File || old.content.expose().is_empty()) {
        return Ok(());
    }
    let secrets = match newest(target, paths) {
        Ok(secrets) => secrets,
        Err(why) if choice.import => return Err(why),
        Err(_) if part.is_none() => return Ok(()),
        Err(why) => {
            term.say(format!(
                "`{shown}` is there already, and cannot be compared now ({}): it stays as it is \
                 if anything in it would be lost",
                hint::shown(&why).lines().next().unwrap_or_default()
            ));
            return Ok(());
        }
    };
    let new = match (rendered(target, &secrets), part) {
        (Ok(new), _) => new,
        // What cannot be written at all, the agent says.
        (Err(_), None) => return Ok(()),
        (Err(why), Some(_)) => return Err(why),
    };
    if target.layout == Layout::Block {
        twice::warn(target, old.content.expose(), new.content.expose(), term);
    }
    let Some(part) = part else { return Ok(()) };
    let met = render::contact(target.format, part, new.content.expose());
    match met.loss() {
        None => {
            if met == (Contact::Covered { lines: true }) {
                term.say(format!("a copy of what `{shown}` holds will be beside it"));
            }
            Ok(())
        }
        Some(_) if choice.replace => {
            term.say(format!("a copy of what `{shown}` holds will be beside it"));
            Ok(())
        }
        Some(_) if choice.import => import(target, part, &met, secrets, paths, term),
        Some(loss) => {
            let block = match target.format.has_comments() {
                true => "`--block` keeps its lines around the vault's, ",
                false => "",
            };
            bail!(hinted(
                format!("{}: `{shown}` holds what the secrets do not: {loss}", Code::TargetForeign),
                format!("`--import` publishes it first, {block}`--replace` keeps a copy beside it")
            ))
        }
    }
}

/// Returns the target that a table makes.
pub(super) fn typed(table: &Table, file: &Path) -> Result<Target> {
    let mut document = DocumentMut::new();
    let mut tables = ArrayOfTables::new();
    // What it comes after need not be in the same text.
    let mut table = table.clone();
    table.remove("after");
    tables.push(table);
    document["target"] = Item::ArrayOfTables(tables);
    let config = Config::parse(&document.to_string(), file)?;
    let target = config.targets.first().context("a table makes one target")?;
    Ok(Target::clone(target))
}

/// Refuses a file that is another target's under another name.
fn same_file(target: &Target, path: &Path, config: &Config) -> Result<()> {
    let Some(own) = files::file_id(path) else { return Ok(()) };
    let (devices, here) = (Devices::read(), path.to_owned());
    let is_it = move |other: &Target| {
        // A look at a disk that does not answer would keep this process from ending.
        if !other.follow && !devices.share(&here, &other.path) {
            return false;
        }
        let real = written::real(other).ok();
        real.is_some_and(|real| files::file_id(&real).as_ref() == Some(&own))
    };
    // The agent looks too, before it writes.
    let others = config.targets.clone();
    let other = patiently(move || others.into_iter().find(|other| is_it(other)));
    match other.flatten() {
        Some(other) => bail!(hinted(
            format!("`{}` is the same file as `{}`", target.path.display(), other.path.display()),
            "that one is a target already: its folder is mounted or linked under two names"
        )),
        None => Ok(()),
    }
}

/// Refuses a mount point that cannot be replaced, and warns of those who would not see a new file.
fn told_of_mounts(path: &Path, target: &Target, term: &Term) -> Result<()> {
    if target.write == WriteMode::InPlace {
        return Ok(());
    }
    if mount::is_point(path) {
        return Err(told(FileError::MountPoint(path.to_owned())));
    }
    if let Some(elsewhere) = Mounts::read().of(path).first() {
        term.say_hinted(
            format!(
                "warning: `{}` is mounted by itself at `{}`, where the old content will stay",
                path.display(),
                elsewhere.display()
            ),
            "mount its folder instead, or add it with `--in-place`",
        );
    }
    Ok(())
}

/// Asks the agent for the newest version of each secret.
fn newest(target: &Target, paths: &Paths) -> Result<Vec<Secret>> {
    let one = |path: &SecretPath| {
        let found: Option<Shown> = ask::find(paths, &ask::route("data", path))?;
        let Some(Shown { data }) = found else {
            return Ok(Secret { path: path.clone(), fields: Vec::new(), version: 0 });
        };
        let fields = render::fields(data.data.get().as_bytes())
            .with_context(|| format!("`{path}` is no secret of keys and values"))?;
        Ok(Secret { path: path.clone(), fields, version: data.metadata.version })
    };
    target.secrets.iter().map(one).collect()
}

/// Returns what would be in the file, or in its block.
fn rendered(target: &Target, secrets: &[Secret]) -> Result<Rendered> {
    let secrets: Vec<(SecretPath, Vec<Field>)> =
        secrets.iter().map(|secret| (secret.path.clone(), secret.fields.clone())).collect();
    let template = match &target.template_file {
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read template `{}`", file.display()))?,
        None => target.template.clone().unwrap_or_default(),
    };
    let rules = target.rules(None, &template);
    render::render(target.format, &secrets, &rules).map_err(|refused| {
        let hint = refused.faults.first().map_or("", |fault| fault.why.hint);
        hinted(format!("the secrets {refused}"), hint)
    })
}

/// Publishes into the last secret what the file holds and the secrets do not.
fn import(
    target: &Target,
    part: &[u8],
    met: &Contact,
    mut secrets: Vec<Secret>,
    paths: &Paths,
    term: &Term,
) -> Result<()> {
    let by_hand = |why: &str| {
        let last = target.secrets.last().map_or("", SecretPath::as_str);
        let hint = format!("publish it with `vault import {last} {}`", target.path.display());
        hinted(format!("`{}` cannot be imported: {why}", target.path.display()), hint)
    };
    let Contact::Differs { gone, changed } = met else {
        bail!(by_hand(&met.loss().unwrap_or_default()))
    };
    let is_renamed = !target.prefix.is_empty() || target.upper || !target.rename.is_empty();
    if is_renamed || target.keys.is_some() {
        bail!(by_hand("names in the file are others than in the secret"));
    }
    let fields = render::assignments(target.format, part).map_err(|why| by_hand(&why))?;
    let secret = secrets.pop().context("a target has a secret")?;
    let mut data = Map::new();
    for Field { name, value } in &secret.fields {
        data.insert(name.clone(), as_json(value)?);
    }
    let news =
        fields.iter().filter(|field| gone.contains(&field.name) || changed.contains(&field.name));
    for Field { name, value } in news {
        data.insert(name.clone(), as_json(value)?);
    }
    let body = json!({ "data": data, "options": { "cas": secret.version } });
    let posted = ask::post(paths, &ask::route("data", &secret.path), &body);
    let _written: Json = posted.map_err(|why| unpublished(why, &secret.path))?;
    let count = gone.len() + changed.len();
    let keys = if count == 1 { "key" } else { "keys" };
    term.say(format!(
        "published: {count} {keys} of `{}` in {}",
        target.path.display(),
        secret.path
    ));
    Ok(())
}

/// Says what to do where this machine may read a secret only.
fn unpublished(why: anyhow::Error, path: &SecretPath) -> anyhow::Error {
    if why.to_string() != DENIED {
        return why;
    }
    hinted(
        format!("this machine may not write `{path}`: nothing is published, and nothing is added"),
        "`--block` and `--replace` need no such right; `vault access set` on an admin's host \
         gives it",
    )
}

fn as_json(value: &Value) -> Result<Json> {
    Ok(match value {
        Value::Text(text) => Json::String(std::str::from_utf8(text.expose())?.to_owned()),
        Value::Scalar(json) | Value::Structure(json) => serde_json::from_slice(json.expose())?,
        Value::Bytes(bytes) => json!({ (binary::MARK): *binary::base64(bytes.expose()) }),
    })
}

fn told(error: FileError) -> anyhow::Error {
    let hint = error.hint();
    hinted(format!("{:#}", anyhow::Error::from(error)), hint)
}
