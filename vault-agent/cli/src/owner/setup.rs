//! `vault setup`: from nothing to a vault with its server and its first machine, in one command.
//!
//! Order of things only; each thing is done in a file of `setup/`. Every step looks first whether
//! it is done, so that the same line goes on wherever an earlier run was stopped.

mod addresses;
mod closing;
mod daemons;
pub(crate) mod detached;
mod import;
mod journal;
mod patience;
mod places;
mod plan;
mod server;
mod target;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use shared::token::SetupLine;

use self::closing::{Outcome, typed};
use self::daemons::Runs;
use self::import::Import;
use self::journal::{Begun, Stage};
use self::places::Server;
use self::plan::{Address, Plan, Published};
use self::target::{Choice, Target};
use crate::context::Global;
use crate::owner::init::{Asked, Keep, Keeping, Names, ShownKit, check_kit_place, forget, set_up};
use crate::owner::signing::admin;
use crate::owner::signing::founding::{Unfinished, Wish};
use host::hint::{Exit, hinted};
use machine::identity::Pins;
use machine::paths::Paths;

pub(crate) use closing::first_step;

/// Make a vault on this host: its server, your keys, and this host as its first machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It shows what it will do, and asks, before it does anything. Interrupted, killed or failed, the same \
line goes on where it stopped. As root it serves the whole host, else this user alone.

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

    /// Tell the other machines to reach the server here, in this order, instead of at the addresses
    /// of this host's networks and VPNs; repeatable
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "public")]
    address: Vec<String>,

    /// Tell them this host's public addresses too; without the right keys nobody gets in there
    #[arg(long)]
    public: bool,

    /// Have the server listen on this port [default: 8443, or the next one that is free]
    #[arg(long, value_name = "N")]
    port: Option<u16>,

    /// Keep the server's data and configuration in this folder [env: VAULT_SERVER_DATA]
    #[arg(long, value_name = "DIR")]
    server_data: Option<PathBuf>,

    /// Have both run for this user alone, which is so anyway but for root
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
    paths: Paths,
    server: Server,
    runs: Runs,
    names: Names,
    addresses: Vec<Address>,
    port: u16,
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
    let found = look_round(args, paths, server, &stage, global)?;
    let Found { paths, import, .. } = &found;
    let target = match (&args.target, import) {
        (Some(file), Some(import)) => Some(Target::new(file, &import.path, &args.choice)?),
        (_, _) => None,
    };
    if let (Some(target), Some(import)) = (&target, import) {
        target.refuse_other(paths, import)?;
    }
    let keeping = args.keep.keeping(global);
    if !matches!(stage, Stage::Made(_)) && Unfinished::load(paths)?.is_none() {
        ShownKit::void(paths, &global.term)?;
        check_kit_place(&keeping, &global.term)?;
    }
    if !found.agreed(&stage, target.as_ref(), args.yes)? {
        global.term.say("nothing was done");
        return Ok(Exit::LOCAL);
    }
    let pins = match stage {
        Stage::Made(pins) => {
            // A run that was killed just then has left them.
            forget(paths)?;
            Begun::remove(paths)?;
            daemons::start_server(&found.server, &found.runs, paths, global)?;
            pins
        }
        Stage::Begun(begun) => found.make(begun, &keeping)?,
        Stage::Fresh => {
            let addresses = found.addresses.iter().map(|address| address.at.clone()).collect();
            found.make(Begun::new(global.now(), found.port, addresses), &keeping)?
        }
    };
    daemons::start_agent(&found.runs, paths, global)?;
    let client = global.own_client(paths)?;
    let version = import.as_ref().map(|import| import.publish(&client, global)).transpose()?;
    let kept = target.as_ref().map(|target| target.keep(&found.runs, paths, global)).transpose()?;
    let secret = import.as_ref().zip(kept.or(version));
    let outcome = Outcome {
        pins: &pins,
        secret: secret.map(|(import, version)| (&import.path, version)),
        target: target.as_ref().map(|target| target.file.as_path()),
    };
    closing::show(&outcome, global)?;
    Ok(Exit::OK)
}

fn look_round<'a>(
    args: &Args,
    paths: Paths,
    server: Server,
    stage: &Stage,
    global: &'a Global,
) -> Result<Found<'a>> {
    let asked = Asked {
        host: args.name.clone(),
        vault: args.vault_name.clone(),
        admin: args.admin.clone(),
    };
    let mut names = Names::choose(asked, &paths)?;
    let settings = server.settings()?;
    let given = |list: &[String], port| {
        list.iter().map(|text| Address::given(text, port)).collect::<Vec<_>>()
    };
    let (port, addresses) = match stage {
        Stage::Begun(begun) => (begun.port, given(&begun.addresses, begun.port)),
        Stage::Made(pins) => {
            names.host = pins.name.clone();
            let port = settings.map_or(0, |settings| settings.listen.port());
            (port, given(&pins.addresses, port))
        }
        Stage::Fresh => {
            // A configuration that is there stays, and the server obeys it.
            let port = match &settings {
                Some(settings) => settings.listen.port(),
                None => server::port(args.port)?,
            };
            let known = settings.map(|settings| settings.addresses).unwrap_or_default();
            let list = if args.address.is_empty() { &known } else { &args.address };
            let addresses = match &**list {
                [] => {
                    let chosen = addresses::choose(&addresses::read()?, args.public)?;
                    chosen.iter().map(|one| Address::of(one, port)).collect()
                }
                list => given(list, port),
            };
            (port, addresses)
        }
    };
    let runs = Runs::find(args.user);
    let import = match &*args.import {
        [] => None,
        words => Some(Import::read(words, global)?),
    };
    Ok(Found { global, paths, server, runs, names, addresses, port, import })
}

impl Found<'_> {
    /// Shows what will be done, and asks.
    fn agreed(&self, stage: &Stage, target: Option<&Target<'_>>, yes: bool) -> Result<bool> {
        let (global, term) = (self.global, &self.global.term);
        match stage {
            Stage::Fresh => term.say("this will be made on this host:"),
            Stage::Begun(begun) => {
                term.say(format!("going on with what was begun at {}:", begun.begun));
            }
            Stage::Made(pins) => term.say(format!(
                "this host is `{}` of vault {} already; what is missing is added:",
                pins.name,
                pins.vault.short()
            )),
        }
        term.say(self.plan(target).shown());
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

    fn plan(&self, target: Option<&Target<'_>>) -> Plan<'_> {
        let Self { paths, server, import, .. } = self;
        let published = import.as_ref().map(|import| Published {
            path: &import.path,
            file: typed(&import.file),
            keys: import.keys(),
            target: target.map(|target| typed(&target.file)),
        });
        Plan {
            names: &self.names,
            addresses: &self.addresses,
            port: self.port,
            runs: &self.runs,
            files: [&server.data, &server.config, &paths.state, &paths.config].map(|it| typed(it)),
            published,
        }
    }

    /// Makes server and vault, or goes on with them.
    fn make(&self, begun: Begun, keeping: &Keeping) -> Result<Pins> {
        let Self { global, paths, server, runs, .. } = self;
        let setup = server::make(server, begun, paths, &global.term)?;
        daemons::start_server(server, runs, paths, global)?;
        self.found(setup, keeping)?;
        Begun::remove(paths)?;
        Pins::load(paths)?.context("the vault was made, and this host has no pins")
    }

    /// Makes the vault, with its kit, its first admin, and this machine.
    fn found(&self, setup: SetupLine, keeping: &Keeping) -> Result<()> {
        let Self { global, paths, names, .. } = self;
        let Names { host, vault, admin } = names.clone();
        let wish = Wish { setup, host, vault_name: vault, admin };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let made = runtime.block_on(set_up(wish, keeping, paths, global))?;
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
