//! The steps on a host that joins or leaves: each looks first what is there, and is safe to repeat.
//! In which order they go, and what is signed between them, does not live here.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use shared::error::Code;
use shared::name::Name;
use shared::signed::VaultId;
use shared::token::{Line as _, MachineLine};
use shared::words::LABEL;

use super::connection::{Ran, Step};
use super::program::{self, Folder};
use super::reached::{Joined, Reached};
use super::script::{Rights, Script};
use crate::context::Global;
use host::hint::{Failure, hinted, parsed};
use host::shown::Shown;
use machine::running::NOT_RUNNING;

/// A host that has the programs.
pub struct Host {
    /// How it is reached.
    pub at: Reached,
    agent: String,
    /// Whether the programs were sent just now.
    pub is_renewed: bool,
}

/// A target that is to be kept right there.
#[derive(Clone, Debug)]
pub struct TargetWish {
    /// The file, whole.
    pub file: String,
    /// Its secrets.
    pub secrets: Vec<String>,
    /// What follows: flags of `vault-agent target add`.
    pub flags: Vec<String>,
}

/// A target as `vault-agent target list --json` shows it.
#[derive(Deserialize)]
struct Listed {
    path: String,
    /// What the agent calls it in its reports.
    name: String,
    secrets: Vec<String>,
}

/// How an agent is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Unless it runs.
    Once,
    /// Anew, where it runs with what was there before.
    Anew,
    /// As [`Start::Anew`], by the unit that it has, if it has one.
    Again,
}

/// What became of a target.
#[derive(Debug)]
pub enum Added {
    /// It is kept right from now on; with what a person should know.
    Now(Vec<Shown>),
    /// It was before, and does now what is asked for; with what a person should know.
    Changed(Vec<Shown>),
    /// It was before, in this way.
    Before,
    /// It was, with these secrets, and stays so.
    Otherwise(Vec<String>),
    /// The file would lose something, and nothing is chosen.
    Foreign(Failure),
}

impl Host {
    /// Has the programs there: sends what is missing.
    ///
    /// # Errors
    /// What is in the way, and the way round it.
    pub fn equip(at: Reached, global: &Global) -> Result<Self> {
        let Reached { connection, probe, rights, folder } = &at;
        let found = probe.agent.as_ref().filter(|_| program::is_new_enough(probe));
        let (agent, is_renewed) = match found {
            Some((file, _)) => (file.clone(), false),
            None => {
                let host = connection.host();
                let why = if probe.agent.is_some() { "are older" } else { "are missing" };
                global.term.say(format!("{host}: the programs {why}: sending this host's own"));
                (program::send(connection, probe, *folder, rights)?, true)
            }
        };
        Ok(Self { at, agent, is_renewed })
    }

    /// Takes a host with the agent's program that is there, of whatever age.
    ///
    /// # Errors
    /// Gives the host back if there is none.
    pub fn as_is(at: Reached) -> Result<Self, Box<Reached>> {
        match at.probe.agent.clone() {
            Some((agent, _)) => Ok(Self { at, agent, is_renewed: false }),
            None => Err(Box::new(at)),
        }
    }

    /// Returns the host as the user named it.
    pub fn host(&self) -> &str {
        self.at.host()
    }

    /// Runs a script there, with the agent's program as `$agent`.
    fn run(&self, step: Step<'_>, script: &Script) -> Result<Ran> {
        self.at.run(step, &Script::default().set("agent", &self.agent).then(script.text()))
    }

    /// As [`Host::run`], for a step that must succeed.
    fn must(&self, step: Step<'_>, script: &Script) -> Result<Ran> {
        let ran = self.run(step, script)?;
        if ran.status.success() { Ok(ran) } else { Err(self.at.failed(step, &ran).into()) }
    }

    /// Has the host make its keys, or show those it has, and returns its machine line, once its six
    /// words are those that the host shows.
    ///
    /// # Errors
    /// If it belongs to another vault, or what arrives is not what it shows.
    pub fn init(&self, name: &Name, vault: VaultId) -> Result<MachineLine> {
        let script = Script::default()
            .arguments([name.as_str(), &vault.to_string()])
            .then("\"$agent\" init --name \"$1\" --of \"$2\" </dev/null");
        self.line_of(&self.must(Step::new("`vault-agent init`"), &script)?, name)
    }

    /// Has the host make its next keys beside those that it has, or show those that it has made
    /// and no agent there has run with yet; returns their line, as [`Host::init`].
    ///
    /// # Errors
    /// If it belongs to no vault, or what arrives is not what it shows.
    pub fn next(&self, name: &Name) -> Result<MachineLine> {
        let script = Script::default()
            .arguments([name.as_str()])
            .then("\"$agent\" init --rekey --name \"$1\" </dev/null");
        self.line_of(&self.must(Step::new("`vault-agent init --rekey`"), &script)?, name)
    }

    /// Reads a machine line, and compares its six words with those that the host shows.
    fn line_of(&self, ran: &Ran, name: &Name) -> Result<MachineLine> {
        let host = self.host();
        let mut lines = ran.out.lines().map(str::trim);
        let Some(line) = lines.find(|line| line.starts_with(MachineLine::PREFIX)) else {
            bail!(hinted(
                format!("`vault-agent init` on `{host}` printed no machine line"),
                "compare `vault-agent --version` there with this machine's"
            ));
        };
        let line = parsed(MachineLine::from_line(line))?;
        let (words, shown) = (line.words().to_string(), lines.find_map(|l| l.strip_prefix(LABEL)));
        if shown != Some(words.as_str()) {
            let shown = shown.unwrap_or_default();
            bail!(hinted(
                format!("`{host}` shows the words `{shown}`, but its line has `{words}`"),
                "something changes what it prints on the way here: nothing was signed; run \
                 `vault-agent init` there and compare the words yourself"
            ));
        }
        if line.name != *name {
            bail!(hinted(
                format!("`{host}` calls itself `{}` already", line.name),
                format!("add it by that name: `vault machine add {} --ssh …`", line.name)
            ));
        }
        Ok(line)
    }

    /// Has the host pin the vault; returns what it says of the server, or of the agent that runs.
    ///
    /// # Errors
    /// If it belongs to another vault, or the vault does not know its keys.
    pub fn join(&self, pin_line: &str) -> Result<Shown> {
        // Who may be root there may use the agent of root.
        let login = if matches!(self.at.rights, Rights::Own) { "" } else { &*self.at.probe.user };
        let script = Script::default()
            .set("line", pin_line)
            .arguments(
                ["join", "-"]
                    .into_iter()
                    .chain(["--allow", login].into_iter().filter(|_| !login.is_empty())),
            )
            .then("printf '%s\\n' \"$line\" | \"$agent\" \"$@\"");
        let ran = self.must(Step::slow("`vault-agent join`"), &script)?;
        let says = |line: &&str| ["the server ", "an agent "].iter().any(|it| line.starts_with(it));
        let server = ran.err.lines().find(says);
        Ok(Shown::line(server.unwrap_or_default()))
    }

    /// Tells whether a file is there already.
    ///
    /// # Errors
    /// If the connection is cut.
    pub fn has(&self, file: &str) -> Result<bool> {
        let script = Script::default().arguments([file]).then("[ -e \"$1\" ] || [ -h \"$1\" ]");
        Ok(self.run(Step::new("looking at the target"), &script)?.status.success())
    }

    /// Has a file kept right there as asked for, unless it is already; returns what its agent calls
    /// it, too.
    ///
    /// # Errors
    /// If it cannot be a target there.
    pub fn add_target(&self, wish: &TargetWish) -> Result<(Added, Vec<String>)> {
        let script = Script::default().arguments([&*wish.file]).then(
            "folder=$(cd \"$(dirname -- \"$1\")\" 2>/dev/null && pwd -P) || folder=\n\
             printf '%s/%s\\n' \"${folder%/}\" \"$(basename -- \"$1\")\"\n\
             \"$agent\" target list --json </dev/null",
        );
        let ran = self.must(Step::new("`vault-agent target list`"), &script)?;
        let (real, list) = ran.out.split_once('\n').unwrap_or_default();
        let known = self.listed(list, [real, &wish.file])?;
        let names = |it: Listed| vec![it.path, it.name];
        let is_known = match known {
            Some(it) if it.secrets != wish.secrets => {
                return Ok((Added::Otherwise(it.secrets.clone()), names(it)));
            }
            Some(it) if wish.flags.is_empty() => return Ok((Added::Before, names(it))),
            Some(_) => true,
            None => false,
        };
        let update = is_known.then_some("--update");
        let words = [&wish.file].into_iter().chain(&wish.secrets).chain(&wish.flags);
        let script = Script::default()
            .arguments(words.map(String::as_str).chain(update))
            .then(include_str!("target.sh"));
        let step = Step::slow("`vault-agent target add`");
        let ran = self.run(step, &script)?;
        if !ran.status.success() {
            let failure = self.at.failed(step, &ran);
            if ran.err.contains(Code::TargetForeign.as_str()) {
                return Ok((Added::Foreign(failure), Vec::new()));
            }
            bail!(failure);
        }
        let (changed, list) = ran.out.split_once('\n').unwrap_or_default();
        let called = self.listed(list, [real, &wish.file])?.map(names).unwrap_or_default();
        let mut notes = ran.warnings(self.host());
        // It is started next, unless somebody wants to do that themselves.
        notes.retain(|note| !note.starts_with(NOT_RUNNING));
        Ok(match (is_known, changed) {
            (false, _) => (Added::Now(notes), called),
            (true, "vault-changed") => (Added::Changed(notes), called),
            (true, _) => (Added::Before, called),
        })
    }

    /// Returns the targets of its agent, each by the names by which that may report it.
    ///
    /// # Errors
    /// If it does not list them.
    pub fn targets(&self) -> Result<Vec<Vec<String>>> {
        let script = Script::default().then("\"$agent\" target list --json </dev/null");
        let ran = self.must(Step::new("`vault-agent target list`"), &script)?;
        let names = |it: Listed| vec![it.path, it.name];
        Ok(self.parsed(&ran.out)?.into_iter().map(names).collect())
    }

    /// Finds a target in a list, by one of two names of its file.
    fn listed(&self, list: &str, files: [&str; 2]) -> Result<Option<Listed>> {
        Ok(self.parsed(list)?.into_iter().find(|it| files.contains(&&*it.path)))
    }

    fn parsed(&self, list: &str) -> Result<Vec<Listed>> {
        serde_json::from_str(list)
            .with_context(|| format!("`{}` lists its targets oddly", self.host()))
    }

    /// Has the agent run; returns what a person should know.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, how: Start) -> Result<Vec<Shown>> {
        let script = Script::default().set(
            "how",
            match how {
                Start::Once => "once",
                Start::Anew => "anew",
                Start::Again => "again",
            },
        );
        let script = script.then(include_str!("processes.sh")).then(include_str!("start.sh"));
        let ran = self.must(Step::slow("`vault-agent install`"), &script)?;
        let host = self.host();
        let mut notes = ran.warnings(self.host());
        for line in ran.out.lines() {
            match line {
                "vault-linger=no" => notes.push(Shown::line(format_args!(
                    "its agent ends when `{0}` logs out of `{host}`, and is away after a restart: \
                     `sudo loginctl enable-linger {0}` there ends that",
                    self.at.probe.user
                ))),
                "vault-start=process" => notes.push(Shown::line(format_args!(
                    "systemd does not run on `{host}`: the agent runs as a process, and is away \
                     after a restart: have what starts there run `{} run`",
                    self.agent
                ))),
                _ => {}
            }
        }
        Ok(notes)
    }

    /// Says whether anything is in the way of [`Start::Again`]; nothing is changed.
    ///
    /// # Errors
    /// If an agent runs there that nobody here can end.
    pub fn may_start(&self) -> Result<()> {
        let script = Script::default().then(include_str!("processes.sh")).then("demand_startable");
        self.must(Step::new("looking for its agent"), &script).map(drop)
    }

    /// Returns what the agent there says of itself, and the last it has logged.
    pub fn diagnosis(&self) -> Shown {
        let script = Script::default().then(
            "\"$agent\" status 2>&1 </dev/null || :\n\
             if [ -d /run/systemd/system ]; then\n\
               user=; [ \"$role\" = host ] || user=--user\n\
               journalctl $user -u vault-agent -n 5 -o cat --no-pager 2>&1 </dev/null || :\n\
             else tail -n 5 \"$state/agent.log\" 2>&1 || :; fi",
        );
        match self.run(Step::new("asking what is wrong"), &script) {
            Ok(ran) => Shown::lines(
                ran.out.lines().take(40).map(|line| Shown::line(format_args!("  {line}"))),
            ),
            Err(why) => host::hint::shown(&why),
        }
    }

    /// Takes away again the keys that were made for a machine that the vault does not get.
    ///
    /// # Errors
    /// If the host has joined a vault by now, or they cannot be removed.
    pub fn forget(&self) -> Result<()> {
        let script = Script::default().then("\"$agent\" uninstall --unjoined </dev/null");
        self.must(Step::new("taking the keys away"), &script).map(drop)
    }

    /// Says whether anything is in the way of [`Host::uninstall`]; nothing is changed.
    ///
    /// # Errors
    /// What is in the way.
    pub fn may_leave(&self, joined: Option<&Joined>) -> Result<()> {
        let script = Script::default().arguments(self.leaving(joined).iter().map(|it| &**it));
        let script = script.then(include_str!("processes.sh")).then(include_str!("leave.sh"));
        self.must(Step::new("`vault-agent uninstall --check`"), &script).map(drop)
    }

    /// Takes the agent's unit, state and keys away, and the programs that were sent; files of
    /// targets only if that is asked for. `joined` is the machine that it has to be.
    ///
    /// # Errors
    /// If the agent there is another machine's, or something cannot be removed.
    pub fn uninstall(&self, joined: Option<&Joined>, with_targets: bool) -> Result<Shown> {
        let mut words = self.leaving(joined);
        words.extend(with_targets.then(|| "--with-targets".to_owned()));
        // Whatever is in the way is told before anything is stopped.
        let script = Script::default()
            .arguments(words.iter().map(|it| &**it))
            .then(include_str!("processes.sh"))
            .then(include_str!("leave.sh"))
            .then(include_str!("stop.sh"))
            .then("\"$agent\" \"$@\" </dev/null")
            .then(&format!("folder={}", self.at.folder.word()))
            .then(include_str!("clear.sh"));
        Ok(self.must(Step::slow("`vault-agent uninstall`"), &script)?.said())
    }

    fn leaving(&self, joined: Option<&Joined>) -> Vec<String> {
        let mut words = vec!["uninstall".to_owned()];
        if let Some(Joined { vault, name }) = joined {
            let (name, vault) = (name.to_string(), vault.to_string());
            words.extend(["--name".to_owned(), name, "--of".to_owned(), vault]);
        }
        words.extend((self.at.folder == Folder::User).then(|| "--user".to_owned()));
        words
    }
}

#[cfg(test)]
mod tests;
