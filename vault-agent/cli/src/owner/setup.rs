//! `vault setup`: from nothing to a vault with its server and its first machine, in one command.
//!
//! Order of things only; each thing is done in a file of `setup/`. Every step looks first whether
//! it is done, so that the same line goes on wherever an earlier run was stopped.

mod addresses;
mod caller;
mod closing;
mod daemons;
pub(crate) mod detached;
mod import;
mod journal;
mod listening;
mod near;
mod patience;
mod places;
mod plan;
mod server;
mod target;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use shared::token::SetupLine;

use self::caller::Caller;
use self::closing::Outcome;
use self::daemons::Runs;
use self::import::Import;
use self::journal::{Begun, Stage};
use self::listening::{Listening, Said};
use self::near::Near;
use self::places::Server;
use self::plan::{Plan, Published};
use self::target::{Choice, Target};
use crate::context::Global;
use crate::owner::init::{Asked, Here, Keep, Keeping, Names};
use crate::owner::init::{ShownKit, check_kit_place, forget, set_up};
use crate::owner::signing::admin;
use crate::owner::signing::founding::{Unfinished, Wish};
use host::hint::{Exit, hinted};
use machine::config::Config;
use machine::identity::Pins;
use machine::paths::Paths;

pub(crate) use closing::first_step;

/// Make a vault on this host: its server, your keys, and this host as its first machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It shows what it will do, and asks, before it does anything. Interrupted, killed or failed, the same \
line goes on where it stopped. As root it makes units of the system, and who has called sudo may use
the agent; else both are this user's own.

Examples:
  vault setup
  vault setup --import /srv/secrets/.env.master secret/jjeco/api-keys --target ~/J-Jeco/.env
  vault setup --yes --passphrase-file pass --kit kit.txt --kit-confirmed"
)]
pub struct Args {
    /// Name of this machine [default: that of an earlier attempt, else the host's]
    #[arg(long, value_name = "HOST")]
    name: Option<String>,

    /// Name of the vault, for people [default: home]
    #[arg(long, value_name = "NAME")]
    vault_name: Option<String>,

    /// Name of the first admin [default: admin]
    #[arg(long, value_name = "NAME")]
    admin: Option<String>,

    #[command(flatten)]
    said: Said,

    /// Keep the server's data and configuration in this folder [env: VAULT_SERVER_DATA]
    #[arg(long, value_name = "DIR")]
    server_data: Option<PathBuf>,

    /// Have both run for this user alone, as they do anyway but for root; even where the host has a
    /// vault of root's
    #[arg(long)]
    user: bool,

    /// Publish a .env, JSON or YAML file as secret/FOLDER/NAME, named after the folder and the
    /// file, or as PATH; a secret that is there stays as it is
    #[arg(long, num_args = 1..=2, value_names = ["FILE", "PATH"])]
    import: Vec<String>,

    /// Keep this file right with the secret of --import, and wait until it is
    #[arg(long, value_name = "FILE", requires = "import")]
    target: Option<PathBuf>,

    #[command(flatten)]
    choice: Choice,

    #[command(flatten)]
    keep: Keep,

    /// Do not ask whether to go on
    #[arg(long, short)]
    yes: bool,
}

/// What was found by looking round, and is not changed any more.
struct Found<'a> {
    global: &'a Global,
    caller: Caller,
    paths: Paths,
    server: Server,
    runs: Runs,
    names: Names,
    listening: Listening,
    import: Option<Import>,
}

/// Runs `vault setup`.
///
/// # Errors
/// Before anything is made if an argument is wrong, a program is not installed, or this host is on
/// another way already; later with the step that failed: the same line goes on from there.
pub(crate) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let server = Server::find(args.server_data.as_deref(), global)?;
    let paths = global.paths()?;
    let stage = Stage::of(&paths, &server)?;
    if matches!(stage, Stage::Fresh) && !args.user && !global.has_chosen_place() {
        journal::refuse_second(&paths, &Paths::of_host(None))?;
    }
    let unfinished = Unfinished::load(&paths)?;
    let found = look_round(args, paths, server, (&stage, unfinished.as_ref()), global)?;
    let Found { paths, import, caller, .. } = &found;
    let target = match (&args.target, import) {
        (Some(file), Some(import)) => Some(Target::new(file, &import.path, &args.choice)?),
        (_, _) => None,
    };
    if let (Some(target), Some(import)) = (&target, import) {
        target.refuse_other(paths, import)?;
    }
    let mut keeping = args.keep.keeping(global);
    let is_to_be_made = !matches!(stage, Stage::Made(_)) && unfinished.is_none();
    if is_to_be_made {
        ShownKit::void(paths, &global.term)?;
        check_kit_place(&keeping, &global.term)?;
    }
    if !found.agreed(&stage, target.as_ref(), args.yes)? {
        global.term.say("nothing was done");
        return Ok(Exit::LOCAL);
    }
    if is_to_be_made {
        // Asked for at once: what is typed while programs start is seen on the terminal.
        keeping.choose(&found.names.admin, paths)?;
    }
    let pins = match stage {
        Stage::Made(pins) => {
            // A run that was killed just then has left them.
            forget(paths)?;
            Begun::remove(paths)?;
            daemons::start_server(&found.server, &pins.server, &found.runs, paths, global)?;
            pins
        }
        Stage::Begun(begun) => found.make(begun, &keeping)?,
        Stage::Fresh => {
            let Listening { at, .. } = found.listening;
            let addresses = found.listening.addresses();
            found.make(Begun::new(global.now(), at.port(), addresses), &keeping)?
        }
    };
    daemons::start_agent(&found.runs, paths, global)?;
    let client = global.own_client(paths)?;
    let version = import.as_ref().map(|import| import.publish(&client, global)).transpose()?;
    let kept = target.as_ref().map(|target| target.keep(&found.runs, paths, global)).transpose()?;
    let secret = import.as_ref().zip(kept.or(version));
    let outcome = Outcome {
        pins: &pins,
        caller,
        secret: secret.map(|(import, version)| (&import.path, version)),
        target: target.as_ref().map(|target| target.file.as_path()),
        is_empty: secret.is_none() && import::is_vault_empty(&client),
    };
    closing::show(&outcome, global)?;
    Ok(Exit::OK)
}

fn look_round<'a>(
    args: &Args,
    paths: Paths,
    server: Server,
    (stage, unfinished): (&Stage, Option<&Unfinished>),
    global: &'a Global,
) -> Result<Found<'a>> {
    let Args { name, vault_name, admin, said, .. } = args;
    let asked = Asked { host: name.clone(), vault: vault_name.clone(), admin: admin.clone() };
    let mut names = Names::choose(asked, &paths)?;
    // Signed with the kit that was confirmed, or in the log: nobody calls them otherwise any more.
    if let Some(Unfinished { host, admin, .. }) = unfinished {
        journal::refuse_other("--name", &names.host, host, name.is_some())?;
        journal::refuse_other("--admin", &names.admin, admin, args.admin.is_some())?;
    }
    let settings = server.settings()?;
    let listening = match stage {
        Stage::Fresh => said.unmade(None, settings.as_ref())?,
        Stage::Begun(begun) => said.unmade(Some(begun), settings.as_ref())?,
        Stage::Made(pins) => {
            journal::refuse_other("--name", &names.host, &pins.name, name.is_some())?;
            names.host = pins.name.clone();
            let settings = settings.with_context(|| {
                format!("there is no configuration `{}`", server.config.display())
            })?;
            let configured = Config::load_or_default(&paths.config)?.server;
            said.made(pins, &configured, settings.listen, [&server.config, &paths.config])?
        }
    };
    let runs = Runs::find(args.user);
    let import = match &*args.import {
        [] => None,
        words => Some(Import::read(words, global)?),
    };
    let caller = Caller::find(global);
    Ok(Found { global, caller, paths, server, runs, names, listening, import })
}

impl Found<'_> {
    /// Shows what will be done, and asks.
    fn agreed(&self, stage: &Stage, target: Option<&Target<'_>>, yes: bool) -> Result<bool> {
        let (global, term) = (self.global, &self.global.term);
        match stage {
            Stage::Fresh => {
                if self.caller.has_own_vault() {
                    term.say(
                        "note: the user who called sudo has a vault already, which `vault setup` \
                         without sudo goes on with; this makes another one",
                    );
                }
                term.say("this will be made on this host:");
            }
            Stage::Begun(begun) => {
                term.say(format!("going on with what was begun at {}:", begun.begun));
            }
            Stage::Made(_) => {
                term.say("this host has its vault; what of this is not there is added:");
            }
        }
        let made = match stage {
            Stage::Made(pins) => Some(pins.vault.short().to_string()),
            Stage::Fresh | Stage::Begun(_) => None,
        };
        term.say(self.plan(made, target).shown());
        if yes {
            return Ok(true);
        }
        if !global.can_ask() {
            bail!(hinted(
                "there is no terminal to agree at",
                "pass `--yes` in scripts; nothing was made"
            ));
        }
        term.say("Enter goes on; anything else ends it here.");
        Ok(term.read_line()?.is_some_and(|answer| answer.trim().is_empty()))
    }

    fn plan(&self, made: Option<String>, target: Option<&Target<'_>>) -> Plan<'_> {
        let Self { paths, server, import, listening, caller, .. } = self;
        let published = import.as_ref().map(|import| Published {
            path: &import.path,
            file: caller.typed(&import.file),
            keys: import.keys(),
            target: target.map(|target| caller.typed(&target.file)),
        });
        // A configuration that is there says itself who may use the agent.
        let allowed = caller.allowed(paths).filter(|_| !paths.config.exists());
        Plan {
            names: &self.names,
            made,
            addresses: &listening.addresses,
            port: listening.at.port(),
            runs: &self.runs,
            allowed,
            files: [&server.data, &server.config, &paths.state, &paths.config]
                .map(|it| caller.typed(it)),
            published,
        }
    }

    /// Makes server and vault, or goes on with them.
    fn make(&self, begun: Begun, keeping: &Keeping) -> Result<Pins> {
        let Self { global, paths, server, runs, listening, .. } = self;
        let setup = server::make(server, listening, begun, paths, &global.term)?;
        let keys = std::slice::from_ref(&setup.server);
        let near = Near::new(server, keys)?;
        daemons::end_elsewhere(server, &near, runs)?;
        daemons::start_server(server, keys, runs, paths, global)?;
        let near = near.at.to_string();
        self.found(setup, near, keeping)?;
        Begun::remove(paths)?;
        Pins::load(paths)?.context("the vault was made, and this host has no pins")
    }

    /// Makes the vault, with its kit, its first admin, and this machine.
    fn found(&self, setup: SetupLine, near: String, keeping: &Keeping) -> Result<()> {
        let Self { global, paths, names, caller, .. } = self;
        let Names { host, vault, admin } = names.clone();
        let wish = Wish { setup, host, vault_name: vault, admin };
        let allow = caller.allowed(paths).into_iter().collect();
        let here = Here { near: Some(near), allow };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let made = runtime.block_on(set_up(wish, keeping, &here, paths, global))?;
        let (term, key) = (&global.term, admin::place(paths, &made.admin));
        term.say(format!("vault    {} made; machine `{}`", made.vault.short(), made.host));
        term.say(format!("admin    `{}`, key in `{}`", made.admin, key.display()));
        let kept = match &keeping.kit {
            Some(kit) => format!("in `{}`: print it, then delete the file", kit.display()),
            None => "once it is on paper, clear this terminal and its scrollback".to_owned(),
        };
        term.say(format!("kit      {kept}"));
        Ok(())
    }
}
