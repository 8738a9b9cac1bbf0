//! `vault import`: takes a whole file into one secret, as one version, or not at all; or another
//! Vault's secrets, in `vault`. Values are never shown.

mod args;
mod vault;

use std::path::Path;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::context::Global;
use crate::kv::content;
use crate::kv::write::{self, Put};
use crate::kv::{Secret, Typed, read};
use crate::print::{self, Format};
use host::hint::{Exit, Failure};
use machine::render::Backslashes;

pub use args::Args;

/// Takes a file into a secret, as `vault import PATH FILE` does.
pub(crate) fn file(global: &Global, path: &str, file: &Path) -> anyhow::Result<Exit> {
    let (path, file) = (path.to_owned(), Some(file.to_owned()));
    run(global, &Args { path, file, ..Args::default() })
}

/// Reads the fields that [`file`] would take, and takes none.
pub(crate) fn fields(
    global: &Global,
    path: &str,
    file: &Path,
) -> anyhow::Result<Map<String, Value>> {
    let args = Args { path: path.to_owned(), ..Args::default() };
    Ok(parsed(global, file, &args)?)
}

pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    if let Some(address) = vault::Address::parse(&args.path, args.http, args.https)? {
        return vault::run(global, args, &address);
    }
    let format = global.format()?;
    let file = args.file.as_ref().ok_or_else(|| {
        Failure::local("no file is named").hint("give FILE, or - for standard input")
    })?;
    let new = parsed(global, file, args).map_err(|fault| turned(args, file, fault))?;
    let client = global.client()?;
    let place = Typed { mount: args.mount.clone(), path: args.path.clone() };
    let (route, secret) = read::before(&client, &place, 0)?;
    route.requires_versions("import")?;
    let version = secret.as_ref().and_then(Secret::version).unwrap_or(0);
    let empty = Map::new();
    let old = secret.as_ref().and_then(|secret| secret.part("data")).unwrap_or(&empty);
    let (content, counts) = merge(old, &new, args.replace);
    let mut written = version;
    if counts.writes() || secret.is_none() {
        let put = write::put_after(&client, &route.api("data"), &content, version)?;
        let Put::Written(answer) = put else {
            let text = format!("`{}` was changed meanwhile; nothing was imported", route.logical());
            return Err(Failure::remote(text).hint("run the import again").into());
        };
        let n = answer.and_then(|secret| secret.data?.get("version")?.as_u64());
        written = n.unwrap_or(version + 1);
    }
    report(global, format, &route.logical(), written, counts)?;
    Ok(Exit::OK)
}

/// Tells whoever has named the file first.
fn turned(args: &Args, file: &Path, fault: Failure) -> Failure {
    if file.exists() || !Path::new(&args.path).is_file() {
        return fault;
    }
    fault.hint(format!("the secret comes first: `vault import {} {}`", file.display(), args.path))
}

fn parsed(global: &Global, file: &Path, args: &Args) -> Result<Map<String, Value>, Failure> {
    let (bytes, name) = if file.as_os_str() == "-" {
        (global.term.read_all(), "standard input".to_owned())
    } else {
        (std::fs::read(file), format!("`{}`", file.display()))
    };
    let bytes =
        bytes.map(Zeroizing::new).map_err(|why| Failure::local(format!("{name}: {why}")))?;
    let dialect = args.dialect.unwrap_or_else(|| content::dialect(file, &bytes));
    let backslashes = args.backslashes.unwrap_or_default();
    let fields = content::read(dialect, &bytes, backslashes).map_err(|fault| {
        let text = format!("{name}: {}; nothing was imported", fault.text);
        let fault = Failure { text: text.into(), ..fault };
        // Only where that is all that stands in the way.
        if content::read(dialect, &bytes, Backslashes::Keep).is_err() {
            return fault;
        }
        let hint = fault.hint.clone().unwrap_or_default();
        fault.hint(format!("{hint}; or choose: `vault import --backslashes undo`, or `keep`"))
    })?;
    if fields.is_empty() {
        return Err(Failure::local(format!("{name} holds no variable; nothing was imported")));
    }
    Ok(fields)
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
        global.term.document(print::data(format, &value)?)?;
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
