//! `vault import`: takes a whole `.env` or JSON file into one secret, as one version, or not at all. Values are never shown.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::Global;
use super::kv::{Secret, Typed, context, current};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::render;

/// Take in a .env or JSON file
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  vault import secret/jjeco/api-keys .env.master\n  vault import secret/app all.json\n  sops -d x.json | vault import secret/app -"
)]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// .env or JSON file; - for stdin
    file: PathBuf,
    /// Remove the keys that the file does not have
    #[arg(long)]
    replace: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let new = read(global, &args.file)?;
    let client = global.client()?;
    let (route, secret) = current(&client, &args.place)?;
    if !route.is_versioned() {
        return Err(Failure::remote("K/V engine mount must be version 2 for import").into());
    }
    let version = secret.as_ref().and_then(Secret::version).unwrap_or(0);
    let empty = Map::new();
    let old = secret.as_ref().and_then(|secret| secret.part("data")).unwrap_or(&empty);
    let (content, counts) = merge(old, &new, args.replace);
    let mut written = version;
    if counts.writes() || secret.is_none() {
        let path = route.api("data");
        let body = json!({ "data": content, "options": { "cas": version } });
        let answer =
            client.put(&path, &body).map_err(|error| context(error, "writing data to", &path))?;
        let outrun = answer.status == 400
            && answer.refusal().errors.is_ok_and(|all| {
                all.iter().any(|e| e.contains("did not match the current version"))
            });
        if outrun {
            let text = format!("`{}` was changed meanwhile; nothing was imported", route.logical());
            return Err(Failure::remote(text).hint("run the import again").into());
        }
        let answer = answer.success().map_err(|error| context(error, "writing data to", &path))?;
        let data = Secret::of(&answer)?.and_then(|secret| secret.data);
        written = data.and_then(|data| data.get("version")?.as_u64()).unwrap_or(version + 1);
    }
    report(global, format, &route.logical(), written, counts)?;
    Ok(Exit::OK)
}

fn read(global: &Global, file: &Path) -> Result<Map<String, Value>, Failure> {
    let (bytes, name) = if file.as_os_str() == "-" {
        (global.term.read_all(), "standard input".to_owned())
    } else {
        (std::fs::read(file), format!("`{}`", file.display()))
    };
    let bytes =
        bytes.map(Zeroizing::new).map_err(|why| Failure::local(format!("{name}: {why}")))?;
    let is_json = file.extension().is_some_and(|ext| ext == "json")
        || bytes.trim_ascii_start().starts_with(b"{");
    let fields = if is_json { from_json(&bytes) } else { from_env(&bytes) };
    let fields = fields.map_err(|(why, hint)| {
        Failure::local(format!("{name}: {why}; nothing was imported")).hint(hint)
    })?;
    if fields.is_empty() {
        return Err(Failure::local(format!("{name} holds no variable; nothing was imported")));
    }
    Ok(fields)
}

fn from_json(bytes: &[u8]) -> Result<Map<String, Value>, (String, &'static str)> {
    serde_json::from_slice(bytes).map_err(|why| {
        let why = format!("line {}: not a JSON object", why.line());
        (why, "check it with `python3 -m json.tool`")
    })
}

fn from_env(bytes: &[u8]) -> Result<Map<String, Value>, (String, &'static str)> {
    let variables = render::parse(bytes).map_err(|error| (error.to_string(), error.hint()))?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    Ok(variables.into_iter().map(|v| (v.name, text(v.value.expose()).into())).collect())
}

/// What an import does to the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    added: usize,
    changed: usize,
    unchanged: usize,
    kept: usize,
    removed: usize,
}

impl Counts {
    const fn writes(self) -> bool {
        self.added + self.changed + self.removed > 0
    }
}

fn merge(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    replace: bool,
) -> (Map<String, Value>, Counts) {
    let mut counts = Counts::default();
    for (key, value) in new {
        match old.get(key) {
            None => counts.added += 1,
            Some(before) if before == value => counts.unchanged += 1,
            Some(_) => counts.changed += 1,
        }
    }
    let others = old.iter().filter(|(key, _)| !new.contains_key(*key));
    let mut content = new.clone();
    if replace {
        counts.removed = others.count();
    } else {
        counts.kept = others.clone().count();
        content.extend(others.map(|(key, value)| (key.clone(), value.clone())));
    }
    (content, counts)
}

fn report(
    global: &Global,
    format: Format,
    path: &str,
    version: u64,
    counts: Counts,
) -> anyhow::Result<()> {
    let Counts { added, changed, unchanged, kept, removed } = counts;
    if format != Format::Table {
        let value = json!({
            "path": path, "version": version, "written": counts.writes(), "added": added, "changed": changed,
            "unchanged": unchanged, "kept": kept, "removed": removed,
        });
        global.term.line(output::data(format, &value)?)?;
        return Ok(());
    }
    let mut text = format!(
        "{path}: version {version}, {added} added, {changed} changed, {unchanged} unchanged"
    );
    for (count, word) in [(kept, "not in the file and kept"), (removed, "removed")] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    if !counts.writes() {
        text.push_str("; nothing to write");
    }
    global.term.line(text)?;
    Ok(())
}
