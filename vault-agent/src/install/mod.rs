//! `vault-agent install`: writes the agent's unit for systemd, fit for what `agent.toml` says, and starts it. What stands in
//! the unit, and how systemd is asked, have files of their own.

mod seal;
mod unit;

use std::env;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use host::systemd::{self, Found, compare, lets_write, marked};

use crate::api::token_file;
use crate::arguments::Place;
use host::account;
use host::files::{self, Access};
use host::hint::{Exit, Failure};
use host::term::Term;
use machine::config::{Auth, Config};
use machine::identity::{MachineKeys, Pins};
use machine::paths::Paths;

use unit::{Facts, Whose};

const UNIT: &str = "vault-agent.service";

/// Where the host's units are that an administrator writes.
const HOST: &str = "/etc/systemd/system";

/// Arguments of `vault-agent install`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Install for this user alone, without root
    #[arg(long)]
    user: bool,
    /// Print the unit and touch nothing
    #[arg(long, conflicts_with_all = ["root", "force", "no_start", "seal_keys"])]
    print: bool,
    /// Write the unit below this folder and ask systemd nothing, as packagers do
    #[arg(long, value_name = "DIR", conflicts_with = "seal_keys")]
    root: Option<PathBuf>,
    /// Replace a unit that somebody has written or edited; the old one is kept beside it
    #[arg(long)]
    force: bool,
    /// Have it start with the host, but not now
    #[arg(long, conflicts_with = "seal_keys")]
    no_start: bool,
    /// Have systemd seal this machine's keys, and remove the files they are in once the agent runs without
    #[arg(long, conflicts_with = "user")]
    seal_keys: bool,
}

/// Where the unit is to be, and for which agent.
struct Job {
    whose: Whose,
    paths: Paths,
    /// Variables of the environment that count: for a user's folders.
    home: Option<PathBuf>,
    config_home: Option<PathBuf>,
    runtime: Option<PathBuf>,
}

/// Writes the unit, and has systemd start it.
///
/// # Errors
/// If somebody has edited the unit, or systemd refuses; never with half a unit.
pub fn run(args: &Args, place: &Place, term: &Term) -> Result<Exit> {
    let job = Job::new(if args.user { Whose::User } else { Whose::Host }, place)?;
    let root = args.root.as_deref();
    let is_root = rustix::process::geteuid().is_root();
    if job.whose == Whose::Host && !is_root && !args.print && root.is_none() {
        bail!(
            Failure::local("only root installs an agent for the whole host")
                .hint("run it with `sudo`; or `vault-agent install --user` for you alone")
        );
    }
    if args.print {
        term.print(job.text(None, place)?)?;
        return Ok(Exit::OK);
    }
    let runs = root.is_none() && systemd::runs(job.whose, job.runtime.as_deref());
    if args.seal_keys {
        if !runs {
            bail!(
                Failure::local("keys are sealed for an agent that systemd starts, and systemd does not run here")
                    .hint("`vault-agent install` without `--seal-keys` writes the unit")
            );
        }
        job.joined().context("keys are sealed once the agent can start")?;
        // A unit in the way is told before anything is sealed.
        job.check(root, args.force, place)?;
        seal::seal(&job.paths)?;
    }
    let text = job.text(root, place)?;
    let file = job.file(root)?;
    let written = write(&file, &text, args.force, term)?;
    warn_of_program(&job, term);
    if root.is_some() {
        return Ok(Exit::OK);
    }
    if !runs {
        let enable = systemd::line(job.whose, &["enable", "--now", UNIT]);
        term.say(format!(
            "systemd does not run here: nothing is started. Where it does: `{enable}`"
        ));
        return Ok(Exit::OK);
    }
    start(&job, args, written, term)?;
    if args.seal_keys && seal::wipe(&job.paths)? {
        term.say("the keys are sealed to this host: their files are wiped");
    }
    Ok(Exit::OK)
}

/// Has systemd know the unit, start it at boot, and run it now.
fn start(job: &Job, args: &Args, written: bool, term: &Term) -> Result<()> {
    let whose = job.whose;
    let enabled = systemd::is(whose, &["is-enabled", "--quiet", UNIT]);
    if written {
        systemd::call(whose, &["daemon-reload"])?;
    }
    if !enabled {
        systemd::call(whose, &["enable", "--quiet", UNIT])?;
    }
    let begin = systemd::line(whose, &["start", UNIT]);
    let active = systemd::is(whose, &["is-active", "--quiet", UNIT]);
    // Keys in files are there to be given up by an agent that has them from systemd.
    let again = written || (args.seal_keys && !seal::open(&job.paths).is_empty());
    if active && !again {
        term.say(if enabled {
            "it runs, and starts with the host: nothing to do"
        } else {
            "it runs; it starts with the host now"
        });
        return Ok(());
    }
    if args.no_start {
        term.say(format!("it starts with the host; now with `{begin}`"));
        return Ok(());
    }
    if let Err(why) = job.joined() {
        term.say(format!("not started: {why:#}; then `{begin}`"));
        return Ok(());
    }
    systemd::call(whose, &["restart", UNIT]).map_err(|why| {
        let user = if whose == Whose::User { " --user" } else { "" };
        Failure::local(format!("the unit is written, but the agent does not start: {why:#}"))
            .hint(format!("`journalctl{user} -u vault-agent -n 20` says why"))
    })?;
    term.say("it runs, and starts with the host");
    if whose == Whose::User {
        linger(term);
    }
    Ok(())
}

/// Says how a user's agent runs without him.
fn linger(term: &Term) {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let name = account::user(&uid).map_or(uid, |user| user.name);
    if !Path::new("/var/lib/systemd/linger").join(&name).exists() {
        term.say("it ends when you log out, unless you run `loginctl enable-linger` once");
    }
}

impl Job {
    fn new(whose: Whose, place: &Place) -> Result<Self> {
        let set = |name| place.env(name).map(PathBuf::from);
        let chosen = place.state.is_some() || set("VAULT_STATE_DIR").is_some();
        let root = rustix::process::geteuid().is_root();
        let mut paths = if whose == Whose::User || root || chosen {
            place.paths()?
        } else {
            Paths::of_host(place.config.clone())
        };
        paths.state = paths.state.canonicalize().or_else(|_| std::path::absolute(&paths.state))?;
        paths.config = std::path::absolute(&paths.config)?;
        let (home, config_home) = (set("HOME"), set("XDG_CONFIG_HOME"));
        Ok(Self { whose, paths, home, config_home, runtime: set("XDG_RUNTIME_DIR") })
    }

    /// Returns the folder of the unit.
    fn folder(&self) -> Result<PathBuf> {
        if self.whose == Whose::Host {
            return Ok(HOST.into());
        }
        let below_home = || self.home.as_ref().map(|home| home.join(".config"));
        let config = self.config_home.clone().or_else(below_home);
        Ok(config.context("neither `HOME` nor `XDG_CONFIG_HOME` is set")?.join("systemd/user"))
    }

    /// Returns where the unit belongs, and makes the folder.
    fn file(&self, root: Option<&Path>) -> Result<PathBuf> {
        let folder = self.folder()?;
        let folder = match root {
            Some(root) => root.join(folder.strip_prefix("/").unwrap_or(&folder)),
            None => folder,
        };
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make folder `{}`", folder.display()))?;
        // A link in a home directory is the user's own business.
        Ok(folder.canonicalize()?.join(UNIT))
    }

    /// Gathers what the unit is made from.
    fn facts(&self, root: Option<&Path>, place: &Place) -> Result<Facts> {
        let config = Config::load_or_default(&self.paths.config)?;
        let program = env::current_exe().context("cannot find this program's own file")?;
        // What lies in a package's folder now will lie in `/`.
        let inside = root.and_then(|root| program.strip_prefix(root.canonicalize().ok()?).ok());
        let program = inside.map_or(program.clone(), |inside| Path::new("/").join(inside));
        let work_tree = |path: &Path| {
            path.ancestors().skip(1).find(|folder| folder.join(".git").exists()).map(Path::to_owned)
        };
        let mut facts = Facts::new(self.whose, program, &config, work_tree);
        let chosen = place.state.is_some() || place.env("VAULT_STATE_DIR").is_some();
        facts.state = chosen.then(|| self.paths.state.clone());
        facts.config = place.config.is_some().then(|| self.paths.config.clone());
        facts.sealed = seal::sealed(&self.paths);
        if config.api.listen.is_some() && config.api.auth == Auth::Token {
            facts.write_in(token_file(&self.paths, &config.api).parent());
        }
        if self.whose == Whose::User && !chosen {
            let places = ["XDG_STATE_HOME", "XDG_CONFIG_HOME"];
            facts.variables =
                places.into_iter().filter_map(|name| Some((name, place.env(name)?))).collect();
        }
        if let Some(odd) = facts.unnamable() {
            bail!(
                Failure::local(format!(
                    "no unit can name `{}`",
                    odd.display().to_string().escape_debug()
                ))
                .hint("give it a name without control characters, in UTF-8")
            );
        }
        Ok(facts)
    }

    fn text(&self, root: Option<&Path>, place: &Place) -> Result<String> {
        Ok(marked("vault-agent", &self.facts(root, place)?.unit()))
    }

    /// Refuses what [`write`] would refuse.
    fn check(&self, root: Option<&Path>, force: bool, place: &Place) -> Result<()> {
        let file = self.file(root)?;
        match compare(there(&file)?.as_deref(), &self.text(root, place)?) {
            Found::Edited if !force => bail!(edited(&file)),
            Found::Edited | Found::Absent | Found::Same | Found::Ours => Ok(()),
        }
    }

    /// Tells what is missing before the agent can run, as an error.
    fn joined(&self) -> Result<()> {
        if !MachineKeys::exist(&self.paths) {
            bail!(Failure::local(
                "this machine has no keys: run `vault-agent init` and `vault-agent join`"
            ));
        }
        if Pins::load(&self.paths)?.is_none() {
            bail!(Failure::local("this machine has not joined a vault: run `vault-agent join`"));
        }
        Ok(())
    }
}

/// Reads the unit that is there.
fn there(file: &Path) -> Result<Option<String>> {
    if file.is_symlink() {
        bail!(
            Failure::local(format!("`{}` is a link", file.display()))
                .hint(format!("if it leads to /dev/null, `systemctl unmask {UNIT}` removes it; else remove it yourself"))
        );
    }
    match files::settings(file) {
        Ok((_, text)) => Ok(Some(text.to_string())),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why).with_context(|| format!("cannot read `{}`", file.display())),
    }
}

fn edited(file: &Path) -> Failure {
    Failure::local(format!("somebody has written or edited `{}`", file.display())).hint(format!(
        "move what it adds to `systemctl edit {UNIT}`; then `vault-agent install --force` replaces it, and keeps it as `{UNIT}.old`"
    ))
}

/// Writes the unit unless it is there; tells whether it was written.
fn write(file: &Path, text: &str, force: bool, term: &Term) -> Result<bool> {
    let access = Access { mode: 0o644, ..Access::PRIVATE };
    let there = there(file)?;
    match compare(there.as_deref(), text) {
        Found::Same => {
            term.say(format!("`{}` is right already", file.display()));
            return Ok(false);
        }
        Found::Edited if !force => bail!(edited(file)),
        Found::Edited => {
            let old = file.with_extension("service.old");
            files::replace(&old, there.unwrap_or_default().as_bytes(), access)?;
            term.say(format!("kept: `{}`", old.display()));
        }
        Found::Absent | Found::Ours => {}
    }
    files::replace(file, text.as_bytes(), access)?;
    term.say(format!("written: `{}`", file.display()));
    Ok(true)
}

/// Warns if somebody else could exchange what root runs.
fn warn_of_program(job: &Job, term: &Term) {
    let Ok(program) = env::current_exe() else { return };
    let open = |path: &Path| {
        path.metadata().is_ok_and(|found| found.uid() != 0 || found.mode() & 0o022 != 0)
    };
    if job.whose == Whose::Host && (open(&program) || program.parent().is_some_and(open)) {
        term.say(format!(
            "warning: others than root can exchange `{}`, which root will run: move it to /usr/local/bin, and install again",
            program.display()
        ));
    }
}

/// Names the folders that the installed unit keeps the agent from writing in, if one is installed for this very agent.
///
/// # Errors
/// If the configuration is wrong.
pub fn remind(place: &Place, term: &Term) -> Result<()> {
    // A user's manager takes nothing from the agent that the user has.
    let root = rustix::process::geteuid().is_root();
    if !root || !Path::new(HOST).join(UNIT).exists() || !systemd::runs(Whose::Host, None) {
        return Ok(());
    }
    let Ok(unit) = systemd::text(Whose::Host, UNIT) else { return Ok(()) };
    let job = Job::new(Whose::Host, place)?;
    let facts = job.facts(None, place)?;
    let starts = [" ", &facts.arguments()].concat();
    let ours = |line: &str| line.starts_with("ExecStart=") && line.ends_with(&starts);
    if !unit.lines().any(ours) || !unit.contains("\nProtectSystem=strict\n") {
        return Ok(());
    }
    for folder in facts.writable.iter().filter(|folder| !lets_write(&unit, folder)) {
        term.say(format!(
            "systemd keeps the agent from writing in `{}`: run `vault-agent install` again",
            folder.display()
        ));
    }
    Ok(())
}
