//! The steps on a host that joins or leaves: each looks first what is there, and is safe to repeat.
//! In which order they go, and what is signed between them, does not live here.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use shared::name::Name;
use shared::signed::VaultId;
use shared::token::{Line as _, MachineLine};
use shared::words::LABEL;
use zeroize::Zeroizing;

use super::connection::{Connection, Ran};
use super::probe::{self, Probe, Root};
use super::program::{self, Folder};
use super::script::{OURS, Rights, Script};
use crate::context::Global;
use host::hint::{Failure, hinted, parsed};
use host::shown::Shown;

/// How often a password is asked for.
const TRIES: u32 = 3;

/// What every script needs beside [`OURS`]: a user's runtime folder.
const RUNTIME: &str = r#"
if [ -z "${XDG_RUNTIME_DIR:-}" ] && [ -d "/run/user/$(id -u)" ]; then
  XDG_RUNTIME_DIR=/run/user/$(id -u)
  export XDG_RUNTIME_DIR
fi"#;

/// A host that is reached, looked at, and has the programs.
pub struct Host {
    connection: Connection,
    /// What it is.
    pub probe: Probe,
    rights: Rights,
    folder: Folder,
    agent: String,
    /// Whether the programs were sent just now.
    pub is_renewed: bool,
}

/// How a host takes part.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Whether the agent is that user's own.
    pub user: bool,
    /// Where the server may answer.
    pub addresses: &'a [String],
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
    secrets: Vec<String>,
}

/// What became of a target.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// It is kept right from now on; with what a person should know.
    Now(Vec<Shown>),
    /// It was before.
    Before,
    /// It was, with these secrets, and stays so.
    Otherwise(Vec<String>),
}

/// Connects to a host and asks what it is; nothing is changed there.
///
/// # Errors
/// If it is not reached, or is nothing that an agent can live on.
pub fn look(ssh: &str, host: &str, wish: Wish<'_>) -> Result<(Connection, Probe)> {
    let connection = Connection::open(ssh, host)?;
    let script = probe::script(wish.user, wish.addresses);
    let (line, mut input) = Rights::Own.line("exec sh -s");
    input.push(script.text().as_bytes());
    let ran = connection.run(&line, &input)?;
    let read = Probe::read(&ran.out, wish.addresses);
    let probe = read.with_context(|| format!("looking at `{host}`"))?;
    Ok((connection, probe))
}

impl Host {
    /// Has the programs there: finds how to be root if that is needed, and sends what is missing.
    ///
    /// # Errors
    /// What is in the way, and the way round it.
    pub fn prepare(
        connection: Connection,
        probe: Probe,
        wish: Wish<'_>,
        global: &Global,
    ) -> Result<Self> {
        let rights = rights(&connection, &probe, wish.user, global)?;
        let folder = if wish.user { Folder::User } else { Folder::Host };
        let found = probe.agent.as_ref().filter(|_| program::is_new_enough(&probe));
        let (agent, is_renewed) = match found {
            Some((file, _)) => (file.clone(), false),
            None => {
                let host = connection.host();
                program::fits(host, &probe, folder)?;
                let why = if probe.agent.is_some() { "are older" } else { "are missing" };
                global.term.say(format!("{host}: the programs {why}: sending this host's own"));
                (program::send(&connection, &probe, folder, &rights)?, true)
            }
        };
        Ok(Self { connection, probe, rights, folder, agent, is_renewed })
    }

    /// Takes a host as it is, for one that is to leave.
    ///
    /// # Errors
    /// If the user cannot become root where that is needed.
    pub fn as_is(
        connection: Connection,
        probe: Probe,
        wish: Wish<'_>,
        global: &Global,
    ) -> Result<Option<Self>> {
        let Some((agent, _)) = probe.agent.clone() else { return Ok(None) };
        let rights = rights(&connection, &probe, wish.user, global)?;
        let folder = if wish.user { Folder::User } else { Folder::Host };
        Ok(Some(Self { connection, probe, rights, folder, agent, is_renewed: false }))
    }

    /// Returns the host as the user named it.
    pub fn host(&self) -> &str {
        self.connection.host()
    }

    /// Runs a script there, with the agent's program as `$agent`.
    fn run(&self, script: &Script) -> Result<Ran> {
        let role = if self.folder == Folder::User { "user" } else { "host" };
        let before = Script::new().set("agent", &self.agent).set("role", role).then(OURS);
        let before = before.then(RUNTIME);
        let (line, mut input) = self.rights.line("exec sh -s");
        input.extend([before.text().as_bytes(), script.text().as_bytes()]);
        self.connection.run(&line, &input)
    }

    /// As [`Host::run`], for a step that must succeed.
    fn must(&self, step: &str, script: &Script) -> Result<Ran> {
        let ran = self.run(script)?;
        if ran.status.success() {
            return Ok(ran);
        }
        let said = match &*ran.said() {
            "" => Shown::line(ran.status),
            _ => ran.said(),
        };
        let text = Shown::from(format!("{step} on `{}` failed: ", self.host())) + said;
        let text = Shown::lines([text].into_iter().chain(ran.advice(self.host())));
        bail!(Failure::local(text).hint("nothing is lost: mend it and run the same command again"))
    }

    /// Has the host make its keys, or show those it has, and returns its machine line, once its six
    /// words are those that the host shows.
    ///
    /// # Errors
    /// If it belongs to another vault, or what arrives is not what it shows.
    pub fn init(&self, name: &Name, vault: VaultId) -> Result<MachineLine> {
        let (host, vault) = (self.host(), vault.to_string());
        let script = Script::default()
            .arguments([name.as_str(), &vault])
            .then("\"$agent\" init --name \"$1\" --of \"$2\" </dev/null");
        let printed = self.must("`vault-agent init`", &script)?.out;
        let mut lines = printed.lines().map(str::trim);
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
        // Not as an argument: all users of the host could read it.
        // Who may be root there may use the agent of root.
        let login = if matches!(self.rights, Rights::Own) { "" } else { &*self.probe.user };
        let script = Script::default()
            .set("line", pin_line)
            .arguments(
                ["join", "-"]
                    .into_iter()
                    .chain(["--allow", login].into_iter().filter(|_| !login.is_empty())),
            )
            .then("printf '%s\\n' \"$line\" | \"$agent\" \"$@\"");
        let ran = self.must("`vault-agent join`", &script)?;
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
        Ok(self.run(&script)?.status.success())
    }

    /// Has a file kept right there, unless it is already.
    ///
    /// # Errors
    /// If the file would lose anything and nothing is chosen: the choices are named.
    pub fn add_target(&self, wish: &TargetWish) -> Result<Added> {
        let script = Script::default().arguments([&*wish.file]).then(
            "folder=$(cd \"$(dirname -- \"$1\")\" 2>/dev/null && pwd -P) || folder=\n\
             printf '%s/%s\\n' \"${folder%/}\" \"$(basename -- \"$1\")\"\n\
             \"$agent\" target list --json </dev/null",
        );
        let ran = self.must("`vault-agent target list`", &script)?;
        let (real, list) = ran.out.split_once('\n').unwrap_or_default();
        let listed: Vec<Listed> = serde_json::from_str(list)
            .with_context(|| format!("`{}` lists its targets oddly", self.host()))?;
        if let Some(found) = listed.into_iter().find(|it| it.path == real || it.path == wish.file) {
            let same = found.secrets == wish.secrets;
            return Ok(if same { Added::Before } else { Added::Otherwise(found.secrets) });
        }
        let words = [&wish.file].into_iter().chain(&wish.secrets).chain(&wish.flags);
        let script = Script::default()
            .arguments(words.map(String::as_str))
            .then("\"$agent\" target add \"$@\" </dev/null");
        let ran = self.must("`vault-agent target add`", &script)?;
        Ok(Added::Now(ran.warnings(self.host())))
    }

    /// Has the agent run, `anew` if one runs already with what was here before; returns what a
    /// person should know.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, anew: bool) -> Result<Vec<Shown>> {
        let script = Script::default().set("anew", if anew { "1" } else { "0" });
        let script = script.then(include_str!("start.sh"));
        let ran = self.must("`vault-agent install`", &script)?;
        let host = self.host();
        let mut notes = ran.warnings(self.host());
        for line in ran.out.lines() {
            match line {
                "vault-linger=no" => notes.push(Shown::line(format_args!(
                    "its agent ends when `{0}` logs out of `{host}`, and is away after a restart: \
                     `sudo loginctl enable-linger {0}` there ends that",
                    self.probe.user
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

    /// Returns what the agent there says of itself, and the last it has logged.
    pub fn diagnosis(&self) -> Shown {
        let script = Script::default().then(
            "\"$agent\" status 2>&1 </dev/null || :\n\
             if [ -d /run/systemd/system ]; then\n\
               user=; [ \"$role\" = host ] || user=--user\n\
               journalctl $user -u vault-agent -n 5 -o cat --no-pager 2>&1 </dev/null || :\n\
             else tail -n 5 \"$state/agent.log\" 2>&1 || :; fi",
        );
        match self.run(&script) {
            Ok(ran) => Shown::lines(
                ran.out.lines().take(40).map(|line| Shown::line(format_args!("  {line}"))),
            ),
            Err(why) => host::hint::shown(&why),
        }
    }

    /// Takes the agent's unit, state and keys away, and the programs that were sent; files of
    /// targets only if that is asked for.
    ///
    /// # Errors
    /// If the agent there is another machine's, or something cannot be removed.
    pub fn uninstall(&self, name: &Name, vault: VaultId, with_targets: bool) -> Result<Shown> {
        let vault = vault.to_string();
        let mut words = vec!["uninstall", "--name", name.as_str(), "--of", &vault];
        if self.folder == Folder::User {
            words.push("--user");
        }
        if with_targets {
            words.push("--with-targets");
        }
        // Whatever is in the way is told before anything is stopped.
        let script = Script::default()
            .arguments(words)
            .then("\"$agent\" \"$@\" --check </dev/null")
            .then(include_str!("stop.sh"))
            .then("\"$agent\" \"$@\" </dev/null")
            .then(&format!("folder={}", self.folder.word()))
            .then(include_str!("clear.sh"));
        Ok(self.must("`vault-agent uninstall`", &script)?.said())
    }
}

/// Finds out how to have root's rights, and asks for the password that `sudo` wants.
fn rights(connection: &Connection, probe: &Probe, user: bool, global: &Global) -> Result<Rights> {
    let (host, login) = (connection.host(), &probe.user);
    if user {
        return Ok(Rights::Own);
    }
    match probe.root {
        Root::Own => Ok(Rights::Own),
        Root::Sudo => Ok(Rights::Sudo),
        Root::None => Err(hinted(
            format!("`{login}` cannot become root on `{host}`: there is no `sudo`"),
            "add `--user`, which installs the agent for that user alone, or log in as root: \
             `--ssh root@HOST`",
        )),
        Root::Password if !global.can_ask() => Err(hinted(
            format!("`sudo` on `{host}` asks for a password, and there is no terminal to ask at"),
            "run this at a terminal, log in as root, or add `--user`",
        )),
        Root::Password => asked(connection, login),
    }
}

/// Asks for the password, and tries it.
fn asked(connection: &Connection, login: &str) -> Result<Rights> {
    let host = connection.host();
    let (mut prompt, mut tries) = (String::new(), 0);
    loop {
        prompt += &format!("[sudo] password of {login} on {host}: ");
        let password = rpassword::prompt_password(&*Shown::line(&prompt));
        let password = Zeroizing::new(password.context("cannot ask for the password of `sudo`")?);
        let rights = Rights::Password(password);
        let (line, input) = rights.line("exec true");
        // The password alone: what comes behind it would count as a second try.
        let ran = connection.run(&line, &input[..2])?;
        if ran.status.success() {
            return Ok(rights);
        }
        tries += 1;
        if !ran.err.contains("try again") && !ran.err.contains("incorrect") {
            let text = Shown::from(format!("`sudo` on `{host}` refuses: ")) + ran.said();
            bail!(Failure::local(text).hint(
                "add `--user`, which installs the agent for that user alone, or log in as root: \
                 `--ssh root@HOST`"
            ));
        }
        if tries == TRIES {
            bail!(hinted(
                format!("`sudo` on `{host}` took none of {TRIES} passwords"),
                "nothing was signed, and nothing is changed there"
            ));
        }
        prompt = "That is not it. ".to_owned();
    }
}

#[cfg(test)]
mod tests;
