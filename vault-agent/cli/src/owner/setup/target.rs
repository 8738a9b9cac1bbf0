//! `--target`: has the agent keep a file right, with the choice of `vault-agent target add` where
//! the file is there already, and waits until it is.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::error::Code;
use shared::path::SecretPath;
use shared::report::HookResult;

use super::daemons::{self, Runs};
use super::patience::wait;
use crate::context::Global;
use crate::owner::absolute::absolute;
use crate::owner::first_contact;
use host::hint::Failure;
use host::shown::Shown;
use machine::config::Config;
use machine::local::{STATUS, Status, TargetRow};
use machine::paths::Paths;

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

    /// Run this when the target has changed, in its folder
    #[arg(long, value_name = "COMMAND", requires = "target")]
    pub on_change: Option<String>,
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
        Ok(Self { file: absolute(file)?, secret, choice })
    }

    /// Adds it unless it is there, and waits until it is right; returns the version in it.
    ///
    /// # Errors
    /// If it would lose lines that nobody has decided about, or does not become right.
    pub fn keep(&self, runs: &Runs, paths: &Paths, global: &Global) -> Result<u64> {
        if !self.is_added(paths)? {
            self.add(global)?;
            if let Runs::Units(whose) = runs {
                // The unit must let it be written.
                daemons::install_agent(*whose, global)?;
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

    fn is_added(&self, paths: &Paths) -> Result<bool> {
        let config = Config::load_or_default(&paths.config)?;
        let is_it = config.targets.iter().find(|target| target.path == self.file);
        Ok(is_it.is_some_and(|target| target.secrets.contains(self.secret)))
    }

    /// Runs `vault-agent target add`; asks what is to become of a file that is there.
    fn add(&self, global: &Global) -> Result<()> {
        let Choice { block, replace, import_target, follow, on_change } = self.choice;
        let mut flags: Vec<&str> = Vec::new();
        for (is_chosen, flag) in [
            (*block, "--block"),
            (*replace, "--replace"),
            (*import_target, "--import"),
            (*follow, "--follow"),
        ] {
            flags.extend(is_chosen.then_some(flag));
        }
        if let Some(command) = on_change {
            flags.extend(["--on-change", command]);
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
            let said = said.lines().filter(|line| !line.starts_with("hint: "));
            return Err(Failure::local(Shown::lines(said)).hint(hint).into());
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
