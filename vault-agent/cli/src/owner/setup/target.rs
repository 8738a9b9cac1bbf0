//! `--target`: has the agent keep a file right, with the choice of `vault-agent target add` where
//! the file is there already, and waits until it is.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::error::Code;
use shared::path::SecretPath;
use shared::report::HookResult;

use super::daemons::{self, Runs};
use super::import::Import;
use super::patience::wait;
use crate::context::Global;
use crate::owner::absolute::absolute;
use crate::owner::first_contact::{self, told};
use host::hint::{Failure, hinted};
use host::shown::{Shown, quoted};
use machine::config::{self, Config, Existing, parse_mode};
use machine::local::{STATUS, Status, TargetRow};
use machine::paths::Paths;
use machine::render::Layout;

/// How long a file may take to become right.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to do with a file that is there, and when it changes.
#[derive(Debug, Default, clap::Args)]
pub struct Choice {
    /// Keep the target's own lines, and the vault's in a marked block
    #[arg(long, requires = "target", conflicts_with_all = ["replace", "import_target"])]
    pub block: bool,

    /// Replace the target; a copy of what it holds stays beside it
    #[arg(long, requires = "target", conflicts_with = "import_target")]
    pub replace: bool,

    /// Publish first what the target holds and the secret does not
    #[arg(long, requires = "target")]
    pub import_target: bool,

    /// Follow links on the way to the target
    #[arg(long, requires = "target")]
    pub follow: bool,

    /// Permissions of the target [default: those that it has, else 0600]
    #[arg(long, requires = "target")]
    pub mode: Option<String>,

    /// Run this when the target has changed, in its folder
    #[arg(long, value_name = "COMMAND", requires = "target")]
    pub on_change: Option<String>,
}

impl Choice {
    /// Names the flags that ask for something else than a target is that is there.
    fn differing(&self, there: &config::Target) -> Vec<&'static str> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let hook = there.on_change.as_ref().map(ToString::to_string).unwrap_or_default();
        let mode = self.mode.as_deref().and_then(parse_mode);
        let all = [
            ("--block", self.block && there.layout != Layout::Block),
            ("--replace", self.replace && there.existing != Existing::Replace),
            ("--follow", self.follow && !there.follow),
            ("--mode", mode.is_some() && mode != there.mode),
            (
                "--on-change",
                self.on_change.as_ref().is_some_and(|line| words(line) != words(&hook)),
            ),
        ];
        all.into_iter().filter_map(|(flag, differs)| differs.then_some(flag)).collect()
    }
}

/// A file to be kept right.
pub struct Target<'a> {
    pub file: PathBuf,
    pub secret: &'a SecretPath,
    choice: &'a Choice,
}

impl<'a> Target<'a> {
    /// Takes a file in a folder that exists.
    pub fn new(file: &Path, secret: &'a SecretPath, choice: &'a Choice) -> Result<Self> {
        if let Some(mode) = &choice.mode {
            parse_mode(mode)
                .with_context(|| format!("mode `{mode}` is not an octal number such as 0600"))?;
        }
        Ok(Self { file: absolute(file)?, secret, choice })
    }

    /// Refuses, before anything is published, a file that holds other secrets.
    ///
    /// # Errors
    /// Names them, and what to type.
    pub fn refuse_other(&self, paths: &Paths, import: &Import) -> Result<()> {
        let Some(there) = self.configured(paths)? else { return Ok(()) };
        if there.secrets.contains(self.secret) {
            return Ok(());
        }
        let (file, secrets) = (self.file.display(), &there.secrets);
        let all = secrets.iter().map(SecretPath::as_str).collect::<Vec<_>>().join(", ");
        let hint = match secrets.last().filter(|_| !import.is_named) {
            Some(last) => format!(
                "to go on with it, name it behind the file: `--import {} {last}`",
                quoted(&import.file.to_string_lossy())
            ),
            None => format!(
                "`vault-agent target remove {}` ends that; then run the same line again",
                quoted(&self.file.to_string_lossy())
            ),
        };
        bail!(hinted(
            format!("`{file}` is a target already: it holds {all}, and not {}", self.secret),
            hint
        ))
    }

    /// Adds it unless it is there, and waits until it is right; returns the version in it.
    ///
    /// # Errors
    /// If it would lose lines that nobody has decided about, or does not become right.
    pub fn keep(&self, runs: &Runs, paths: &Paths, global: &Global) -> Result<u64> {
        match self.configured(paths)? {
            Some(there) => self.say_differing(&there, global),
            None => {
                self.add(global)?;
                if let Runs::Units(whose) = runs {
                    // The unit must let it be written.
                    daemons::install_agent(*whose, paths, global)?;
                }
            }
        }
        let row = self.wait(paths, global)?;
        let hook = match row.hook {
            HookResult::Ok => ", hook ok",
            HookResult::None
            | HookResult::Pending
            | HookResult::Failed
            | HookResult::RollingBack
            | HookResult::RolledBack => "",
        };
        let (file, path, version) = (self.file.display(), self.secret, row.applied);
        global.term.say(format!("target   `{file}` holds {path}, version {version}{hook}"));
        Ok(version)
    }

    /// Returns the target that the file is already.
    fn configured(&self, paths: &Paths) -> Result<Option<Arc<config::Target>>> {
        let config = Config::load_or_default(&paths.config)?;
        Ok(config.targets.into_iter().find(|target| target.path == self.file))
    }

    /// Says which flags change nothing any more.
    fn say_differing(&self, there: &config::Target, global: &Global) {
        let differing = self.choice.differing(there);
        if differing.is_empty() {
            return;
        }
        let file = quoted(&self.file.to_string_lossy());
        global.term.say_hinted(
            format!(
                "target   `{}` is there, and stays as it is, without what is said now by {}",
                self.file.display(),
                differing.join(", ")
            ),
            format!("`vault-agent target remove {file}`, and then the same line again, take it"),
        );
    }

    /// Runs `vault-agent target add`; asks what is to become of a file that is there.
    fn add(&self, global: &Global) -> Result<()> {
        let Choice { block, replace, import_target, follow, mode, on_change } = self.choice;
        let mut flags: Vec<&str> = Vec::new();
        for (is_chosen, flag) in [
            (*block, "--block"),
            (*replace, "--replace"),
            (*import_target, "--import"),
            (*follow, "--follow"),
        ] {
            flags.extend(is_chosen.then_some(flag));
        }
        for (flag, value) in [("--mode", mode), ("--on-change", on_change)] {
            flags.extend(value.iter().flat_map(|value| [flag, value]));
        }
        let Some(said) = self.run(&flags, global)? else { return Ok(()) };
        let is_decided = *block || *replace || *import_target;
        let is_foreign = said.contains(Code::TargetForeign.as_str());
        let chosen = match is_foreign && !is_decided && global.can_ask() {
            true => first_contact::ask(&said, global)?,
            false => None,
        };
        let Some(choice) = chosen else {
            let hint = if is_foreign {
                "run the same line again with `--block`, `--replace` or `--import-target`"
            } else {
                "once that is mended, run the same line again"
            };
            return Err(Failure::local(Shown::lines(told(&said))).hint(hint).into());
        };
        flags.push(choice);
        match self.run(&flags, global)? {
            None => Ok(()),
            Some(said) => bail!(Failure::local(Shown::text(said.trim()))),
        }
    }

    /// Runs it once; `None` if it is added, else what it said.
    fn run(&self, flags: &[&str], global: &Global) -> Result<Option<String>> {
        let mut command = daemons::agent(global, &["target", "add"])?;
        command.arg(&self.file).arg(self.secret.as_str()).args(flags);
        let output = command.stdin(Stdio::null()).output();
        let output = output.context("starting `vault-agent target add`")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Ok(Some(said));
        }
        for line in said.lines() {
            global.term.say(format!("         {line}"));
        }
        Ok(None)
    }

    fn wait(&self, paths: &Paths, global: &Global) -> Result<TargetRow> {
        let client = global.own_client(paths)?;
        let mut last = None;
        let right = wait(PATIENCE, || {
            let status: Status = client.get(STATUS, &[])?;
            let found = status.targets.into_iter().find(|row| self.is_of(row, &status.machine));
            let Some(row) = found else { return Ok(None) };
            let is_done = row.is_right() && row.applied == row.wanted && row.applied > 0;
            let ends = (is_done && row.hook != HookResult::Pending) || row.fails();
            last = Some(row.clone());
            Ok(ends.then_some(row))
        })?;
        match right {
            Some(row) if !row.fails() => Ok(row),
            Some(_) | None => Err(self.wrong(last.as_ref())),
        }
    }

    fn is_of(&self, row: &TargetRow, machine: &shared::name::Name) -> bool {
        // Its owner's home may be written as `~`.
        let name = row.target.strip_prefix('~').unwrap_or(&row.target);
        let is_it = self.file.to_str().is_some_and(|file| file.ends_with(name));
        row.machine == *machine && row.secret == *self.secret && is_it
    }

    fn wrong(&self, row: Option<&TargetRow>) -> anyhow::Error {
        let why = row.and_then(TargetRow::remark).map(|why| format!(": {why}")).unwrap_or_default();
        Failure::remote(format!("`{}` is not right{why}", self.file.display()))
            .hint("`vault status` says what to do; then run the same line again")
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_change_nothing_any_more_are_named() {
        let check = |choice: &Choice, settings: &str, expected: &[&str]| {
            let text = format!("[[target]]\npath = \"/e\"\nsecrets = [\"secret/a\"]\n{settings}\n");
            let config = Config::parse(&text, Path::new("agent.toml")).unwrap();
            assert_eq!(choice.differing(&config.targets[0]), expected, "{settings}");
        };
        let of = |line: &str| Choice { on_change: Some(line.to_owned()), ..Choice::default() };
        check(&Choice::default(), "layout = \"block\"\non_change = \"x\"", &[]);
        check(&of("docker  compose up"), "on_change = [\"docker\", \"compose\", \"up\"]", &[]);
        check(&of("a && b"), "on_change = \"a && b\"", &[]);
        check(&of("a && c"), "on_change = \"a && b\"", &["--on-change"]);
        check(&of("a"), "", &["--on-change"]);
        let mode = |mode: &str| Choice { mode: Some(mode.to_owned()), ..Choice::default() };
        check(&mode("640"), "mode = \"0640\"", &[]);
        check(&mode("0600"), "", &["--mode"]);
        let all = Choice { block: true, follow: true, ..Choice::default() };
        check(&all, "layout = \"block\"\nfollow = true", &[]);
        check(&all, "existing = \"replace\"", &["--block", "--follow"]);
        let replace = Choice { replace: true, ..Choice::default() };
        check(&replace, "existing = \"replace\"", &[]);
        check(&replace, "layout = \"block\"", &["--replace"]);
    }
}
