//! `vault scan --install-hook`: a pre-commit hook that refuses commits with values of the vault in
//! them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;

use super::git::Repository;
use crate::context::Global;
use crate::sibling;
use host::files::{self, Access};
use host::hint::Failure;

/// The line by which a hook is known to be ours, whatever else has changed in it.
const MARK: &str = "# Written by `vault scan --install-hook`";
/// The hook that ours runs first.
const LOCAL: &str = "pre-commit.local";
/// Larger hooks are not ours.
const LARGEST: u64 = 64 << 10;

/// Installs the hook of the repository around `folder`; `flags` go into its call of `vault scan`.
pub fn install(
    global: &Global,
    folder: &Path,
    flags: &[String],
    is_forced: bool,
) -> anyhow::Result<()> {
    let (hooks, is_set) = Repository::around(folder)?.hooks()?;
    std::fs::create_dir_all(&hooks).with_context(|| format!("`{}`", hooks.display()))?;
    let hooks = hooks.canonicalize()?;
    let hook = hooks.join("pre-commit");
    let wanted = script(&sibling::vault()?, flags);
    match ours(&hook)? {
        Some(text) if text == wanted => {
            global.term.say(format!("`{}` is installed already", hook.display()));
            return Ok(());
        }
        Some(_) => {}
        None if is_forced => keep(global, &hook)?,
        None => {
            return Err(Failure::remote(format!("`{}` is another hook", hook.display()))
                .hint(format!(
                    "add the line `vault scan --staged || exit 1` to it, or use --force: the old one then becomes `{LOCAL}` and runs first"
                ))
                .into());
        }
    }
    let about = hooks.metadata()?;
    let is_root = rustix::process::geteuid().is_root();
    let (uid, gid) = (is_root.then(|| about.uid()), is_root.then(|| about.gid()));
    let access = Access { uid, gid, mode: 0o755 };
    files::replace(&hook, wanted.as_bytes(), access)?;
    global.term.say(format!(
        "installed `{}`: commits that carry a value of the vault are refused",
        hook.display()
    ));
    global.term.say(format!(
        "your own checks go into `{}`, which runs first",
        hooks.join(LOCAL).display()
    ));
    if is_set {
        global
            .term
            .say("core.hooksPath leads there: every repository with that setting runs the hook");
    }
    Ok(())
}

/// Returns the text of a hook of ours, empty where there is none; `None` if it is somebody else's.
fn ours(hook: &Path) -> anyhow::Result<Option<String>> {
    let about = || format!("`{}`", hook.display());
    match hook.symlink_metadata() {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Some(String::new())),
        Err(why) => Err(why).with_context(about),
        Ok(found) if !found.is_file() || found.len() > LARGEST => Ok(None),
        Ok(_) => {
            let bytes = std::fs::read(hook).with_context(about)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let is_ours = text.lines().nth(1).is_some_and(|line| line.starts_with(MARK));
            Ok(is_ours.then_some(text))
        }
    }
}

/// Moves a foreign hook to where ours finds it.
fn keep(global: &Global, hook: &Path) -> anyhow::Result<()> {
    let local = hook.with_file_name(LOCAL);
    if local.symlink_metadata().is_ok() {
        let text =
            format!("`{}` is there already: the old hook has nowhere to go", local.display());
        return Err(Failure::remote(text).hint("join the two by hand, or move one away").into());
    }
    std::fs::rename(hook, &local).with_context(|| format!("moving `{}`", hook.display()))?;
    global.term.say(format!("the old hook is `{}` now", local.display()));
    Ok(())
}

/// Writes the hook; it calls the very program that installed it, or else the one in PATH.
fn script(vault: &Path, flags: &[String]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let program = quoted(&vault.to_string_lossy());
    let flags: String = flags.iter().map(|flag| format!(" {}", quoted(flag))).collect();
    format!(
        r#"#!/bin/sh
{MARK}: refuses commits that carry a value of the vault.
# `{LOCAL}` beside this file runs first, if it may be run. Past both: git commit --no-verify
local=$(dirname -- "$0")/{LOCAL}
if [ -x "$local" ]; then
	"$local" "$@" || exit
fi
vault={program}
[ -x "$vault" ] || vault=$(command -v vault) || {{
	echo "pre-commit: there is no program vault: the commit was not searched for values of the vault" >&2
	exit 2
}}
"$vault" scan --staged{flags}
code=$?
case $code in
0) ;;
1) echo "pre-commit: refused: values of the vault are staged (git commit --no-verify commits them anyway)" >&2 ;;
*) echo "pre-commit: refused: the commit could not be searched (git commit --no-verify commits it anyway)" >&2 ;;
esac
exit $code
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_a_program_for_any_shell() {
        let flags = ["--not-key".to_owned(), "A'B".to_owned()];
        let text = script(Path::new("/opt/it's here/vault"), &flags);
        assert_eq!(text.lines().nth(1).map(|line| line.starts_with(MARK)), Some(true));
        assert!(text.contains("vault='/opt/it'\\''s here/vault'\n"), "{text}");
        assert!(text.contains("\"$vault\" scan --staged '--not-key' 'A'\\''B'\n"), "{text}");
        let mut sh = std::process::Command::new("sh");
        assert!(sh.args(["-n", "-c", &text]).status().unwrap().success());
    }
}
