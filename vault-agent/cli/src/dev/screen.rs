//! What `vault dev` shows once everything runs: on one screen, with this run's own paths.

use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::path::SecretPath;

use super::folder::{ENV, Folder};
use super::pairs::{self, Pair};
use super::settings::Out;
use crate::context::Global;
use crate::sibling;
use host::shown::Shown;
use host::shown::quoted;
use machine::render;

/// Prints it.
pub fn show(
    folder: &Folder,
    imports: &[Pair],
    outs: &[Out],
    listen: &str,
    global: &Global,
    inner: &Global,
) -> Result<()> {
    let here = std::env::current_dir().ok().and_then(|dir| dir.canonicalize().ok());
    let short = |path: &Path| {
        let within = here.as_ref().and_then(|here| path.strip_prefix(here).ok());
        within.filter(|path| !path.as_os_str().is_empty()).unwrap_or(path).to_owned()
    };
    let program = sibling::vault().unwrap_or_else(|_| PathBuf::from("vault"));
    let first = imports.first();
    let written = outs.first().and_then(|out| out.secrets.first());
    let named = first.map(|pair| &pair.path).or(written);
    let secret = named.map_or(pairs::DEFAULT, SecretPath::as_str);
    let route = secret.replacen('/', "/metadata/", 1);
    let answer = inner.client()?.send(hyper::Method::GET, &route, &[], None)?;
    // What is there would be replaced by a whole write.
    let exists = answer.status != 404;
    if exists {
        answer.success()?;
    }
    let first_name = |pair: &Pair| {
        let content = zeroize::Zeroizing::new(std::fs::read(&pair.file).ok()?);
        render::parse(&content).ok()?.into_iter().next().map(|variable| variable.name)
    };
    let facts = Facts {
        listen,
        folder: &short(&folder.path),
        env: &short(&folder.at(ENV)),
        program: &short(&program),
        exists,
        secret,
        key: first.and_then(first_name),
        outs: outs.iter().map(|out| short(&out.file)).collect(),
    };
    global.term.print(text(&facts))?;
    Ok(())
}

struct Facts<'a> {
    listen: &'a str,
    folder: &'a Path,
    env: &'a Path,
    program: &'a Path,
    secret: &'a str,
    exists: bool,
    key: Option<String>,
    outs: Vec<PathBuf>,
}

fn text(facts: &Facts<'_>) -> Shown {
    let word = |path: &Path| {
        let text = quoted(&path.display().to_string());
        // A bare word would be looked up in PATH.
        if text.contains('/') { text } else { format!("./{text}") }
    };
    let vault = word(facts.program);
    let secret = quoted(facts.secret);
    let key = facts.key.as_deref().unwrap_or("MY_KEY");
    let change = if facts.exists { "patch" } else { "put" };
    let mut lines = vec![
        String::new(),
        format!(
            "A server and an agent run on this machine; the local API is http://{}",
            facts.listen
        ),
        String::new(),
        "In another terminal, in this folder:".to_owned(),
        String::new(),
        format!("  . {}", word(facts.env)),
        format!("  {vault} kv {change} {secret} {key}=changed"),
    ];
    let cat = |out: &PathBuf| format!("  cat {}", quoted(&out.display().to_string()));
    lines.extend(facts.outs.iter().map(cat));
    lines.extend([
        format!("  {vault} kv get {secret}"),
        format!("  {vault} status"),
        format!("  {vault} audit log"),
        String::new(),
        format!(
            "Everything is kept in {}, logs too. For trying out only: the admin passphrase and",
            facts.folder.display()
        ),
        "the recovery kit lie there in the clear. Ctrl-C stops both programs.".to_owned(),
    ]);
    Shown::lines(lines).ended()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(exists: bool, key: Option<&str>, outs: &[&str]) -> Facts<'a> {
        Facts {
            listen: "127.0.0.1:8200",
            folder: Path::new(".vault-dev"),
            env: Path::new(".vault-dev/env"),
            program: Path::new("target/release/vault"),
            secret: "secret/dev",
            exists,
            key: key.map(str::to_owned),
            outs: outs.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn it_fits_one_screen_and_names_this_runs_paths() {
        let text = text(&facts(true, Some("OPENAI_API_KEY"), &[".env"]));
        assert!(text.lines().count() <= 24);
        insta::assert_snapshot!(&*text);
    }

    #[test]
    fn without_import_and_out_it_starts_with_a_first_secret() {
        insta::assert_snapshot!(&*text(&facts(false, None, &[])));
    }

    #[test]
    fn what_was_written_before_is_not_to_be_replaced() {
        let text = text(&facts(true, None, &[]));
        assert!(text.contains("vault kv patch secret/dev MY_KEY=changed\n"), "{text}");
    }
}
