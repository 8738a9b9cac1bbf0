//! `vault-agent install`: facts for the agent's unit, and what it needs before it can start. The
//! text of the unit has a file of its own; how a unit is written and started is `host::systemd`'s.

mod unit;

use std::env;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use host::hint::Exit;
use host::systemd::{self, Credential, HOST_UNITS, InstallFlags, Program, Whose, lets_write};
use host::term::Term;
use machine::config::Config;
use machine::identity::{Key, MachineKeys, Pins};
use machine::paths::Paths;

use crate::api::token_file;
use crate::place::Place;
use machine::written::real;
use unit::Facts;

/// Have systemd run the agent, in a unit fit for what it is to do
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: InstallFlags,
    /// Have systemd seal this machine's keys, and remove the files they are in once the agent runs
    /// without
    #[arg(long, conflicts_with_all = ["user", "print", "root", "no_start"])]
    seal_keys: bool,
}

/// Writes the unit, never half of it, and has systemd start it.
pub fn run(args: &Args, place: &Place, term: &Term) -> Result<Exit> {
    let agent = Agent { root: args.flags.root.clone(), ..Agent::new(args.flags.whose(), place)? };
    systemd::install(&agent, &args.flags, args.seal_keys, term)?;
    Ok(Exit::OK)
}

/// Stops the agent, and takes its unit away.
pub fn uninstall(whose: Whose, term: &Term) -> Result<()> {
    systemd::uninstall::<Agent<'_>>(whose, term)
}

/// The agent that is installed.
struct Agent<'a> {
    whose: Whose,
    place: &'a Place,
    paths: Paths,
    /// The host whose unit is written, if it is not the one that this program runs on.
    root: Option<PathBuf>,
}

impl<'a> Agent<'a> {
    fn new(whose: Whose, place: &'a Place) -> Result<Self> {
        let root = rustix::process::geteuid().is_root();
        let mut paths = if whose == Whose::User || root || is_chosen(place) {
            place.paths()?
        } else {
            Paths::of_host(place.config.clone())
        };
        paths.state = paths.state.canonicalize().or_else(|_| std::path::absolute(&paths.state))?;
        paths.config = std::path::absolute(&paths.config)?;
        Ok(Self { whose, place, paths, root: None })
    }

    /// Gathers what the unit is made from.
    fn facts(&self, program: PathBuf) -> Result<Facts> {
        let Self { whose, place, ref paths, .. } = *self;
        let chosen = is_chosen(place) || place.config.is_some();
        let elsewhere = self.root.as_ref().filter(|_| !chosen);
        let config = match elsewhere.zip(paths.config.strip_prefix("/").ok()) {
            Some((root, config)) => Config::load_or_default(&root.join(config))?,
            None => Config::load_or_default(&paths.config)?,
        };
        let work_tree = |path: &Path| {
            path.ancestors().skip(1).find(|folder| folder.join(".git").exists()).map(Path::to_owned)
        };
        let mut facts = Facts::new(whose, program, &config, work_tree);
        for target in config.targets.iter().filter(|target| target.follow) {
            // Where they lead to nobody trusted, the agent does not write.
            if let Ok(real) = real(target) {
                facts.leads_to(target, &real, work_tree);
            }
        }
        facts.state = is_chosen(place).then(|| paths.state.clone());
        facts.config = place.config.is_some().then(|| paths.config.clone());
        if elsewhere.is_none() {
            facts.sealed = self.credentials().into_iter().filter(Credential::is_sealed).collect();
        }
        if config.api.wants_token() {
            facts.write_in(token_file(paths, &config.api).parent());
        }
        if whose == Whose::User && !is_chosen(place) && elsewhere.is_none() {
            let places = ["XDG_STATE_HOME", "XDG_CONFIG_HOME"];
            facts.variables =
                places.into_iter().filter_map(|name| Some((name, place.env(name)?))).collect();
        }
        facts.check_names()?;
        Ok(facts)
    }
}

impl Program for Agent<'_> {
    const NAME: &'static str = "vault-agent";

    fn unit(&self, program: PathBuf) -> Result<String> {
        Ok(self.facts(program)?.unit())
    }

    fn is_set_up(&self) -> Result<()> {
        if !MachineKeys::exist(&self.paths) {
            bail!("this machine has no keys: run `vault-agent init` and `vault-agent join`");
        }
        if Pins::load(&self.paths)?.is_none() {
            bail!("this machine has not joined a vault: run `vault-agent join`");
        }
        Ok(())
    }

    fn running(&self) -> Option<u32> {
        let config = Config::load_or_default(&self.paths.config).unwrap_or_default();
        let stream = UnixStream::connect(config.api.socket.as_ref().unwrap_or(&self.paths.socket));
        let peer = rustix::net::sockopt::socket_peercred(stream.ok()?).ok()?;
        u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
    }

    fn credentials(&self) -> Vec<Credential> {
        let credential = |key: Key| Credential {
            name: key.credential(),
            open: key.file(&self.paths),
            sealed: key.sealed(&self.paths),
        };
        Key::ALL.map(credential).into()
    }
}

/// Tells whether the state folder was chosen by hand.
fn is_chosen(place: &Place) -> bool {
    place.state.is_some() || place.env("VAULT_STATE_DIR").is_some()
}

/// Names the folders that the installed unit keeps the agent from writing in, if one is installed
/// for this very agent.
pub fn remind(place: &Place, term: &Term) -> Result<()> {
    // A user's manager takes nothing from the agent that the user has.
    let root = rustix::process::geteuid().is_root();
    let service = format!("{}.service", Agent::NAME);
    let wanted = Path::new(HOST_UNITS).join("multi-user.target.wants").join(&service);
    let installed = Path::new(HOST_UNITS).join(&service).exists() || wanted.is_symlink();
    if !root || !installed || !systemd::runs(Whose::Host) {
        return Ok(());
    }
    let Ok(unit) = systemd::text(Whose::Host, &service) else { return Ok(()) };
    let facts = Agent::new(Whose::Host, place)?.facts(env::current_exe()?)?;
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
