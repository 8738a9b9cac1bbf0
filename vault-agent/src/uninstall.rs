//! `vault-agent uninstall`: takes away from this host what the agent has put there: its unit, its
//! keys, its state and its configuration. Files of targets stay unless told otherwise; which files
//! of the state folder are the agent's is [`own`]'s.

mod linger;
mod own;

use anyhow::{Context as _, Result, bail};
use shared::hash::Hash;
use shared::name::Name;

use crate::install;
use crate::place::Place;
use crate::targets;
use host::files;
use host::hint::{self, Exit, hinted, parsed};
use host::systemd::Whose;
use host::term::Term;
use machine::config::Config;
use machine::identity::{Key, MachineKeys, Pins};
use machine::paths::Paths;
use machine::running::answering;
use machine::written::Written;

/// Take the agent away from this host: unit, keys, state and configuration
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent of this user alone, not the host's
    #[arg(long)]
    user: bool,
    /// Remove the files of targets too, as far as they hold what the agent wrote
    #[arg(long)]
    with_targets: bool,
    /// Only if it is this machine
    #[arg(long, hide = true, requires = "of")]
    name: Option<String>,
    /// Only if it is of this vault
    #[arg(long, hide = true, requires = "name")]
    of: Option<Hash>,
    /// Only say whether anything is in the way; nothing is changed
    #[arg(long, hide = true)]
    check: bool,
    /// Only take the keys away with which no vault was joined
    #[arg(long, hide = true, conflicts_with_all = ["user", "with_targets", "name", "check"])]
    unjoined: bool,
}

/// Refuses first, then stops the agent, then removes.
pub fn run(args: &Args, place: &Place, term: &Term) -> Result<Exit> {
    let paths = place.paths()?;
    if args.unjoined {
        forget(&paths)?;
        return Ok(Exit::OK);
    }
    let whose = if args.user { Whose::User } else { Whose::Host };
    refuse(args, whose, &paths)?;
    if args.check {
        return Ok(Exit::OK);
    }
    install::uninstall(whose, term)?;
    if answering(&paths)?.is_some() {
        bail!(hinted(
            "an agent still runs here, started by somebody else than systemd",
            "end it, then run this again"
        ));
    }
    if args.with_targets {
        purge(&paths, term)?;
    }
    // First, as without a state nobody looks here for what it left.
    linger::end(&paths, term)?;
    clear(&paths, term)?;
    Ok(Exit::OK)
}

/// Takes keys away with which this host has joined no vault, and what was made for them.
fn forget(paths: &Paths) -> Result<()> {
    if let Some(pins) = Pins::load(paths)? {
        bail!(hinted(
            format!("this host is `{}` of vault {}", pins.name, pins.vault.short()),
            "run `vault-agent uninstall` to take all of it away"
        ));
    }
    wipe(paths)?;
    own::remove_empty(paths)
}

/// Wipes both keys, wherever they are.
fn wipe(paths: &Paths) -> Result<()> {
    for key in Key::ALL {
        for file in [key.file(paths), key.sealed(paths)].iter().filter(|file| file.exists()) {
            let why = || format!("cannot wipe `{}`", file.display());
            files::wipe(file).with_context(why)?;
        }
    }
    let next = paths.state.join("rekey/identity");
    if next.exists() {
        files::wipe_folder(&next).with_context(|| format!("cannot wipe `{}`", next.display()))?;
        std::fs::remove_dir_all(paths.state.join("rekey"))?;
    }
    Ok(())
}

/// Removes keys, configuration and state. Keys go first and pins last, so that running it again
/// after an interruption still knows which machine this is, and goes on where it stopped.
fn clear(paths: &Paths, term: &Term) -> Result<()> {
    wipe(paths)?;
    if paths.config.exists() {
        files::remove(&paths.config)?;
        files::remove(&paths.config.with_file_name("token"))?;
        // What else is in there is not the agent's.
        let _ = paths.config.parent().map(std::fs::remove_dir);
        term.say(format!("removed: `{}`", paths.config.display()));
    }
    own::remove(paths, term)
}

/// Refuses before anything is stopped or changed.
fn refuse(args: &Args, whose: Whose, paths: &Paths) -> Result<()> {
    refuse_others(args, paths)?;
    if paths.admin().exists() && paths.admin().read_dir()?.next().is_some() {
        bail!(hinted(
            format!("an admin key lies in `{}`", paths.admin().display()),
            "move it away first: without it, and without the recovery kit, nobody owns the vault"
        ));
    }
    if let Some(file) = own::begun(&paths.state) {
        bail!(hinted(
            format!("an admin key lies in `{}`, whose making is not finished", file.display()),
            "finish that with the command that began it, or move the file away first: it may be \
             the key's only copy"
        ));
    }
    if let Some(file) = own::server_below(&paths.state)? {
        bail!(hinted(
            format!("a vault server's data lies in the agent's state: `{}`", file.display()),
            "move the server's data folder away first: it holds the vault; nothing is changed here"
        ));
    }
    // It says where an agent may run still, and which files are targets.
    Config::load_or_default(&paths.config)?;
    if whose == Whose::Host && !rustix::process::geteuid().is_root() {
        bail!(hinted(
            "only root takes the host's agent away",
            "run it with `sudo`; or `vault-agent uninstall --user` for the one that is yours alone"
        ));
    }
    Ok(())
}

/// Refuses an agent that is another machine's than the one asked for, or does not say whose.
fn refuse_others(args: &Args, paths: &Paths) -> Result<()> {
    let (Some(name), Some(of)) = (&args.name, args.of) else { return Ok(()) };
    let name: Name = parsed(name.parse())?;
    let Some(pins) = Pins::load(paths)? else {
        // Without keys it is no machine any more, whatever else is left of it.
        if !MachineKeys::exist(paths) {
            return Ok(());
        }
        let shown = paths.state.display();
        bail!(hinted(
            format!("this host's agent has joined no vault (`{shown}`): it may not be `{name}`"),
            "if it is, run `vault-agent uninstall` there by hand; nothing is changed here"
        ));
    };
    if pins.vault == of && pins.name == name {
        return Ok(());
    }
    bail!(hinted(
        format!("this host is `{}` of vault {}, and not `{name}`", pins.name, pins.vault.short()),
        "name the host of the machine that was removed; nothing is changed here"
    ))
}

/// Removes the files of all targets, as far as they hold what the agent wrote. The configuration
/// stays as it is, so that running it again still knows all of them.
///
/// # Errors
/// If one of them cannot be removed, once the others are.
fn purge(paths: &Paths, term: &Term) -> Result<()> {
    let written = Written::new(&paths.state);
    let mut failed = 0;
    for target in Config::load_or_default(&paths.config)?.targets {
        let shown = target.path.display();
        match targets::purge(&target, &written) {
            Ok(done) => term.say(format!("target `{shown}`: {done}")),
            Err(why) => {
                let why = why.context(format!("target `{shown}` stays"));
                term.say_hinted(hint::shown(&why), hint::hint(&why).unwrap_or_default());
                failed += 1;
            }
        }
    }
    if failed == 0 {
        return Ok(());
    }
    let files = if failed == 1 { "the file of 1 target stays" } else { "files of targets stay" };
    bail!(hinted(
        format!("{files}, and so do this host's keys and configuration"),
        "mend that and run this again; without `--with-targets` it goes on, and leaves them"
    ))
}

#[cfg(test)]
mod tests;
