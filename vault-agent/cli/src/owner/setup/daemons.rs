//! Server and agent as units of systemd, or where that does not run as plain processes: started
//! unless they run, and looked at afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::net::sockopt::socket_peercred;
use shared::keys::VerifyKey;

use super::detached::{self, Detached};
use super::near::Near;
use super::patience::wait;
use super::places::Server;
use crate::context::Global;
use crate::sibling;
use host::files::{self, Access};
use host::hint::{Failure, hinted};
use host::shown::Shown;
use host::systemd::{self, Whose};
use host::{account, term::Term};
use machine::local::{STATUS, Status};
use machine::paths::Paths;
use machine::running::answering;

/// How long a program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long another one of the same may take that was found starting.
const RIVAL: Duration = Duration::from_secs(5);
/// Lines of a log that are shown when its program has failed.
const LAST_LINES: usize = 8;

/// How both run.
#[derive(Debug)]
pub enum Runs {
    Units(Whose),
    /// And why.
    Processes(&'static str),
}

impl Runs {
    /// Chooses units of the system for root, of the user for anybody else and for `--user`; plain
    /// processes where no such manager runs.
    pub fn find(user: bool) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let whose = if user || !is_root { Whose::User } else { Whose::Host };
        match whose {
            _ if systemd::runs(whose) => Self::Units(whose),
            Whose::User if systemd::runs(Whose::Host) => {
                Self::Processes("no systemd of this user runs (log in anew, not by `su`)")
            }
            Whose::Host | Whose::User => Self::Processes("systemd does not run here"),
        }
    }
}

/// Where logs and process ids of plain processes are.
fn folder(paths: &Paths) -> Result<PathBuf> {
    Ok(std::path::absolute(&paths.state)?.join("run"))
}

/// Has the server run, and returns when it answers with one of its `keys`.
///
/// # Errors
/// If it does not start, with what it said, or something else listens where it should.
pub fn start_server(
    server: &Server,
    keys: &[VerifyKey],
    runs: &Runs,
    paths: &Paths,
    global: &Global,
) -> Result<()> {
    let near = Near::new(server, keys)?;
    near.refuse_stranger()?;
    match runs {
        Runs::Units(whose) => {
            install(server.command("install"), *whose, &global.term)?;
            let there = wait(PATIENCE, || Ok(near.answers()?.then_some(())))?;
            if there.is_none() {
                near.refuse_stranger()?;
                return Err(silent("server", &near.at.to_string(), *whose));
            }
        }
        Runs::Processes(_) => {
            let folder = folder(paths)?;
            if !near.answers()? {
                let started = detached::start("server", &server.command("run"), &folder, global)?;
                await_process("server", started, || near.answers())?;
            }
            note("server", server.holder(), &folder)?;
        }
    }
    global.term.say(format!("server   runs, and answers at {}", near.at));
    Ok(())
}

/// Ends a server without a vault that is not reached where it is to listen now; one that another
/// run has just started gets the time to be.
///
/// # Errors
/// If it does not end.
pub fn end_elsewhere(server: &Server, near: &Near<'_>, runs: &Runs) -> Result<()> {
    let reached = || Ok(near.answers()?.then_some(()));
    if !server.is_running()? || wait(RIVAL, reached)?.is_some() {
        return Ok(());
    }
    match runs {
        Runs::Units(whose) => systemd::call(*whose, &["stop", "vault-server.service"])?,
        Runs::Processes(_) => server.terminate()?,
    }
    let ended = wait(PATIENCE, || Ok((!server.is_running()?).then_some(())))?;
    ended.ok_or_else(|| {
        hinted(
            format!("the server in `{}` listens elsewhere, and goes on", server.data.display()),
            "end it, and run the same line again",
        )
    })
}

/// Has the agent run, and returns when it follows the server.
///
/// # Errors
/// If it does not start, or does not reach the server.
pub fn start_agent(runs: &Runs, paths: &Paths, global: &Global) -> Result<()> {
    match runs {
        Runs::Units(whose) => install_agent(*whose, paths, global)?,
        Runs::Processes(_) => {
            let folder = folder(paths)?;
            if answering(paths)?.is_none() {
                let command = own_agent(paths, global)?;
                let started = detached::start("agent", &command, &folder, global)?;
                await_process("agent", started, || Ok(answering(paths)?.is_some()))?;
            }
            let peer = answering(paths)?.and_then(|stream| socket_peercred(stream).ok());
            let pid = peer.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
            note("agent", pid, &folder)?;
        }
    }
    let client = global.own_client(paths)?;
    let mut last = None;
    let online = wait(PATIENCE, || {
        if answering(paths)?.is_none() {
            return Ok(None);
        }
        match client.get::<Status>(STATUS, &[]) {
            Ok(status) if status.online => Ok(Some(status.server.unwrap_or_default())),
            Ok(status) => {
                last = status.trouble;
                Ok(None)
            }
            Err(why) => {
                last = Some(why.to_string());
                Ok(None)
            }
        }
    })?;
    let Some(server) = online else {
        let why = last.map(|why| format!(": {why}")).unwrap_or_default();
        bail!(
            Failure::remote(format!("the agent runs, but does not follow the server{why}"))
                .hint("`vault-agent status` says how it stands; then run the same line again")
        )
    };
    global.term.say(format!("agent    runs, and follows the server at {server}"));
    Ok(())
}

/// Prepares to run the agent by itself.
fn own_agent(paths: &Paths, global: &Global) -> Result<Command> {
    let handed_on = |name: &str| detached::KEPT.contains(&name).then(|| global.env(name)).flatten();
    let usual = Paths::resolve_in(None, None, handed_on).ok();
    let mut command = Command::new(sibling::find("agent")?);
    for (flag, place) in to_tell(paths, usual.as_ref()) {
        command.arg(flag).arg(std::path::absolute(place)?);
    }
    command.arg("run");
    Ok(command)
}

/// Returns those places that an agent has to be told of, as it would choose others itself. One that
/// is told of its folder listens in there, where nobody looks who is told nothing.
fn to_tell<'p>(paths: &'p Paths, usual: Option<&Paths>) -> Vec<(&'static str, &'p Path)> {
    let usual = (usual.map(|usual| &usual.state), usual.map(|usual| &usual.config));
    let state = ("--state", Some(&paths.state) == usual.0, &paths.state);
    let config = ("--config", Some(&paths.config) == usual.1, &paths.config);
    let told = [state, config].into_iter().filter(|(_, is_usual, _)| !is_usual);
    told.map(|(flag, _, place)| (flag, place.as_path())).collect()
}

/// Writes the agent's unit anew, as a target may have to be let in, and has it run.
pub fn install_agent(whose: Whose, paths: &Paths, global: &Global) -> Result<()> {
    if whose == Whose::User {
        linger(paths, &global.term)?;
    }
    install(agent(global, &["install"])?, whose, &global.term)
}

/// Prepares a command of the agent with the places that were named.
pub fn agent(global: &Global, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(sibling::find("agent")?);
    let flags = &global.flags;
    for (flag, place) in [("--state", &flags.state), ("--config", &flags.config)] {
        if let Some(place) = place {
            command.arg(flag).arg(place);
        }
    }
    for name in ["VAULT_TOKEN", "VAULT_PASSPHRASE_FILE"] {
        command.env_remove(name);
    }
    if let Some(reason) = &flags.reason {
        command.env("VAULT_REASON", reason);
    }
    command.args(arguments);
    Ok(command)
}

/// Runs `… install`, whose words reach the user.
fn install(mut command: Command, whose: Whose, term: &Term) -> Result<()> {
    if whose == Whose::User {
        command.arg("--user");
    }
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("starting `{program}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(hinted(
            Shown::text(format!("`{program} install` failed: {}", said.trim())),
            "once that is mended, run the same line again",
        ));
    }
    for line in said.lines() {
        term.say(format!("         {line}"));
    }
    Ok(())
}

/// Has the user's programs run without the user being logged in, or says who can. What was not
/// there before goes again with the agent.
fn linger(paths: &Paths, term: &Term) -> Result<()> {
    let name = account::own_name();
    let lingers = || Path::new("/var/lib/systemd/linger").join(&name).exists();
    if lingers() {
        return Ok(());
    }
    // Whether it may is the policy's; what it says in its own words helps nobody here.
    let _ = Command::new("loginctl").arg("enable-linger").stdin(Stdio::null()).output();
    if lingers() {
        let note = std::path::absolute(paths.lingering())?;
        files::replace_trusted(&note, b"", Access::PRIVATE)?;
    } else {
        term.say(format!(
            "both end when you log out, until you run once: `sudo loginctl enable-linger {name}`"
        ));
    }
    Ok(())
}

/// Notes which process it is, for whoever wants to end it; of one started by an interrupted run
/// too.
fn note(name: &str, pid: Option<u32>, folder: &Path) -> Result<()> {
    let file = folder.join(format!("{name}.pid"));
    match pid {
        Some(pid) => {
            files::create_dir_private(folder)?;
            files::replace_trusted(&file, format!("{pid}\n").as_bytes(), Access::PRIVATE)?;
        }
        None => {
            files::remove_trusted(&file)?;
        }
    }
    Ok(())
}

fn silent(name: &str, at: &str, whose: Whose) -> anyhow::Error {
    let user = if whose == Whose::User { " --user" } else { "" };
    Failure::remote(format!("the {name} was started, but nothing answers at {at}"))
        .hint(format!("`journalctl{user} -u vault-{name} -n 20` says why"))
        .into()
}

/// Waits until a process is ready that was started detached.
fn await_process(name: &str, started: Detached, is_ready: impl Fn() -> Result<bool>) -> Result<()> {
    let Detached { mut process, log } = started;
    let mut ended = None;
    let ready = wait(PATIENCE, || {
        if is_ready()? {
            return Ok(Some(true));
        }
        // One that an interrupted run has started may be on its way.
        if ended.is_none() && process.try_wait().context("looking at a process")?.is_some() {
            ended = Some(Instant::now());
        }
        Ok(ended.is_some_and(|at| at.elapsed() > RIVAL).then_some(false))
    })?;
    if ready == Some(true) {
        return Ok(());
    }
    let what = if ready.is_some() { "ended at once" } else { "does not become ready" };
    let mut lines = vec![Shown::from(format!("the {name} {what}:"))];
    lines.extend(last_lines(&log).iter().map(|line| Shown::from(format!("  {line}"))));
    bail!(
        Failure::local(Shown::lines(lines))
            .hint(format!("its log is `{}`; run the same line again once mended", log.display()))
    )
}

fn last_lines(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_told_of_no_place_that_it_chooses_itself() {
        let usual = Paths::of_host(None);
        assert_eq!(to_tell(&usual, Some(&usual)), []);
        let elsewhere = Paths::of_host(Some("/srv/agent.toml".into()));
        assert_eq!(to_tell(&elsewhere, Some(&usual)), [("--config", Path::new("/srv/agent.toml"))]);
        assert_eq!(to_tell(&usual, None).len(), 2);
    }
}
