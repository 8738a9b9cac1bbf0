//! `vault init`: makes a vault on a fresh server, and this host its first machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shared::error::Code;
use shared::keys::SignKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::token::{Line as _, SetupLine};
use shared::wire::v1::blob::Inline;

use super::Global;
use super::owning::{passphrase, paths};
use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::identity::{MachineKeys, Pins};
use crate::output::Term;
use crate::owner::admin::{self, AdminKey, Work};
use crate::owner::founding::{Plan, Unfinished, found};
use crate::owner::kit::{About, Kit};
use crate::owner::passphrase::Source;
use crate::owner::posting::{self, PostError};
use crate::paths::Paths;

/// Make a vault on a fresh server, with this host as its first machine
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Line that `vault-server init` printed, or `-` to read it from standard input
    #[arg(value_name = "VLTS1-…")]
    setup: String,

    /// Name of this machine [default: the host's name]
    #[arg(long, value_name = "HOST")]
    name: Option<String>,

    /// Name of the vault, for people
    #[arg(long, value_name = "NAME", default_value = "home")]
    vault_name: String,

    /// Name of the first admin
    #[arg(long, value_name = "NAME", default_value = "admin")]
    admin: String,

    /// Write the recovery kit to a new file instead of the terminal
    #[arg(long, value_name = "FILE")]
    kit: Option<PathBuf>,

    /// Do not ask to type back part of the recovery kit
    #[arg(long)]
    kit_confirmed: bool,

    /// Read the passphrase of the admin key from the first line of a file [env: VAULT_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// A vault to be made.
#[derive(Debug)]
pub struct Wish {
    /// Where, and the right to.
    pub setup: SetupLine,
    /// This machine's name.
    pub host: Name,
    /// The vault's name.
    pub vault_name: Name,
    /// The first admin.
    pub admin: Name,
}

/// How the owner's secrets are kept.
#[derive(Debug)]
pub struct Keeping {
    /// The new admin key's passphrase.
    pub passphrase: Source,
    /// How hard guessing at it is made.
    pub work: Work,
    /// The file of the kit, if it is not shown on the terminal.
    pub kit: Option<PathBuf>,
    /// Whether nobody needs to type it back.
    pub kit_confirmed: bool,
}

/// A vault that was made.
#[derive(Debug)]
pub struct Made {
    /// Its id.
    pub vault: VaultId,
    /// The first admin.
    pub admin: Name,
    /// This machine's name.
    pub host: Name,
}

/// Runs `vault init`.
///
/// # Errors
/// Before anything is made if the line or a name is malformed, this host belongs to a vault, or
/// the server does not answer; later if the server refuses. Running it again is safe.
pub fn run(args: Args, global: &Global) -> Result<Exit> {
    let term = &global.term;
    let line = match args.setup.as_str() {
        "-" => term.read_line()?.unwrap_or_default(),
        line => line.to_owned(),
    };
    let host = args.name.map_or_else(host_name, Ok)?;
    let wish = Wish {
        setup: parsed(SetupLine::from_line(&line))?,
        host: parsed(host.parse())?,
        vault_name: parsed(args.vault_name.parse())?,
        admin: parsed(args.admin.parse())?,
    };
    let keeping = Keeping {
        passphrase: passphrase(args.passphrase_file, global),
        work: Work::Second,
        kit: args.kit,
        kit_confirmed: args.kit_confirmed,
    };
    let (name, paths) = (wish.vault_name.clone(), paths(global)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(set_up(wish, &keeping, &paths, global))?;
    term.line(format!("vault    {name} {}", made.vault))?;
    term.line(format!("machine  {}", made.host))?;
    let file = admin::place(&paths, &made.admin);
    term.line(format!("admin    {} ({})", made.admin, file.display()))?;
    term.say("next: start `vault-agent run`, then `vault import secret/NAME FILE`");
    Ok(Exit::OK)
}

/// Turns a malformed argument into a failure with its hint.
///
/// # Errors
/// The argument's own.
pub fn parsed<T>(result: shared::error::Result<T>) -> Result<T, Failure> {
    result.map_err(|fault| Failure::local(fault.to_string()).hint(fault.code.hint()))
}

/// Makes the vault, or goes on with one whose making was interrupted. What makes this host belong
/// to the vault, its pins, is written last.
///
/// # Errors
/// As [`run`].
pub async fn set_up(wish: Wish, keeping: &Keeping, paths: &Paths, global: &Global) -> Result<Made> {
    let term = &global.term;
    refuse_second(paths)?;
    let begun = Unfinished::load(paths)?;
    let fresh = begun.is_none();
    if fresh {
        check_kit_place(keeping, term)?;
    }
    let keys = MachineKeys::load_or_create(paths)?;
    let client = posting::reach(&wish.setup, &keys.sign).await?;
    let unfinished = match begun {
        Some(begun) => resume(begun, &wish.setup, paths, term)?,
        None => begin(wish, keeping, &keys, paths, global)?,
    };
    match posting::post(&client, &unfinished.request).await {
        Ok(()) => {
            let made = finish(unfinished, paths)?;
            if let Err(why) = Engine::first_sync(paths).await?.1 {
                term.say(format!("the first sync comes later: {why:#}"));
            }
            Ok(made)
        }
        Err(PostError::Unknown(failure)) => Err(failure.into()),
        Err(PostError::Refused(failure)) => {
            discard(fresh, keeping, paths, term)?;
            Err(failure.into())
        }
    }
}

/// Removes what belongs to a vault that will never be.
fn discard(fresh: bool, keeping: &Keeping, paths: &Paths, term: &Term) -> Result<()> {
    Unfinished::remove(paths)?;
    match &keeping.kit {
        Some(file) if fresh => {
            files::remove(&absolute(file)?)?;
        }
        Some(_) | None => term.say("destroy the recovery kit of this attempt: it opens nothing"),
    }
    Ok(())
}

fn refuse_second(paths: &Paths) -> Result<()> {
    let Some(pins) = Pins::load(paths)? else { return Ok(()) };
    bail!(
        Failure::local(format!(
            "this host is `{}` of vault {} already",
            pins.name,
            pins.vault.short()
        ))
        .hint("add further hosts with `vault machine add`; for a second vault use `--state DIR`")
    )
}

/// Refuses, before anything is made, a kit that could not be shown, kept or confirmed.
fn check_kit_place(keeping: &Keeping, term: &Term) -> Result<()> {
    if let Some(file) = &keeping.kit
        && file.symlink_metadata().is_ok()
    {
        bail!(
            Failure::local(format!("`{}` exists already", file.display()))
                .hint("a kit never overwrites a file: choose another name")
        );
    }
    if keeping.kit.is_none() && !term.out_is_tty {
        bail!(
            Failure::local("there is no terminal to show the recovery kit on")
                .hint("pass `--kit FILE`, and keep the file off this machine afterwards")
        );
    }
    if !keeping.kit_confirmed && !term.in_is_tty {
        bail!(
            Failure::local("there is no terminal to confirm the recovery kit at")
                .hint("pass `--kit-confirmed` in scripts")
        );
    }
    Ok(())
}

fn resume(
    mut begun: Unfinished,
    setup: &SetupLine,
    paths: &Paths,
    term: &Term,
) -> Result<Unfinished> {
    if begun.setup.claim != setup.claim || begun.setup.server != setup.server {
        bail!(
            Failure::local(format!(
                "a set-up with another server was begun on {} and not finished",
                begun.begun
            ))
            .hint(format!(
                "use its setup line; if that server is gone for good, remove `{}` and destroy \
                 the kit of that attempt",
                Unfinished::shown(paths)
            ))
        );
    }
    term.say(format!(
        "going on with the set-up begun on {}: the kit and the passphrase of that time hold",
        begun.begun
    ));
    begun.setup.addresses.clone_from(&setup.addresses);
    Ok(begun)
}

/// Makes all keys, has the kit kept, and writes down what a second attempt needs.
fn begin(
    wish: Wish,
    keeping: &Keeping,
    keys: &MachineKeys,
    paths: &Paths,
    global: &Global,
) -> Result<Unfinished> {
    let file = admin::place(paths, &wish.admin);
    if file.exists() {
        bail!(
            Failure::local(format!("there is an admin key at `{}` already", file.display()))
                .hint("choose another `--admin NAME`, or move the file away")
        );
    }
    let passphrase = keeping.passphrase.fresh(&wish.admin)?;
    let (kit, admin_key, now) = (Kit::generate(), SignKey::generate(), global.now());
    let plan = Plan {
        setup: &wish.setup,
        vault_name: wish.vault_name.clone(),
        admin: wish.admin.clone(),
        machine: keys.line(wish.host.clone()),
        now,
    };
    let founded = found(&plan, &kit, &admin_key)?;
    let about = About { vault: founded.vault, name: &wish.vault_name, made: now };
    keep_kit(&kit, about, keeping, &global.term)?;
    let admin_key = AdminKey::new(wish.admin.clone(), founded.vault, admin_key);
    let unfinished = Unfinished {
        v: 1,
        begun: now,
        setup: wish.setup,
        admin: wish.admin,
        admin_file: Inline(admin_key.seal(&passphrase, keeping.work)?),
        host: wish.host,
        vault: founded.vault,
        request: founded.request,
    };
    unfinished.store(paths)?;
    Ok(unfinished)
}

/// Shows the kit or writes its file, and has it confirmed.
fn keep_kit(kit: &Kit, about: About<'_>, keeping: &Keeping, term: &Term) -> Result<()> {
    let page = kit.page(about);
    match &keeping.kit {
        None => term.print(format!("\n{}\n", *page))?,
        Some(file) => {
            files::write_private(&absolute(file)?, page.as_bytes())?;
            term.say(format!("the recovery kit is in `{}`: print it", file.display()));
        }
    }
    if keeping.kit_confirmed {
        return Ok(());
    }
    let confirmed = kit.confirm(|question| {
        term.say(question);
        Ok(term.read_line()?)
    });
    if confirmed.is_err()
        && let Some(file) = &keeping.kit
    {
        // Its secrets belong to no vault.
        let _ = files::remove(&absolute(file)?);
    }
    confirmed
}

/// Writes admin key, configuration and, last, the pins.
fn finish(made: Unfinished, paths: &Paths) -> Result<Made> {
    files::create_dir_private(&paths.admin())?;
    let file = admin::place(paths, &made.admin);
    files::replace(&file, &made.admin_file.0, files::Access::PRIVATE)?;
    write_config(paths, &made.setup.addresses)?;
    let pins = Pins {
        vault: made.vault,
        server: vec![made.setup.server],
        name: made.host.clone(),
        addresses: made.setup.addresses,
    };
    pins.store(paths)?;
    Unfinished::remove(paths)?;
    Ok(Made { vault: made.vault, admin: made.admin, host: made.host })
}

/// Writes a first configuration unless there is one.
///
/// # Errors
/// If the file or its folder cannot be made.
pub fn write_config(paths: &Paths, addresses: &[String]) -> Result<()> {
    if paths.config.exists() {
        return Ok(());
    }
    if let Some(folder) = paths.config.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("making folder `{}`", folder.display()))?;
    }
    Ok(files::write_private(&paths.config, first_config(addresses).as_bytes())?)
}

fn first_config(addresses: &[String]) -> String {
    let list: Vec<String> = addresses.iter().map(|address| format!("{address:?}")).collect();
    format!(
        "# The agent of this machine; `vault-agent target add` adds files.\n\
         server = [{}]     # tried in order\n",
        list.join(", ")
    )
}

/// Returns an absolute path without links in its folder, as `files` wants it.
///
/// # Errors
/// If the folder does not exist.
pub fn absolute(file: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(file)
        .with_context(|| format!("finding out where `{}` is", file.display()))?;
    let (Some(folder), Some(name)) = (whole.parent(), whole.file_name()) else {
        bail!("`{}` names no file", file.display());
    };
    let folder = folder
        .canonicalize()
        .with_context(|| format!("folder `{}` of `{}`", folder.display(), file.display()))?;
    Ok(folder.join(name))
}

/// Returns this host's name in the grammar of machine names.
///
/// # Errors
/// If it cannot be bent into it.
pub fn host_name() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = as_name(text.trim());
    name.ok_or_else(|| {
        Failure::local(format!("this host's name `{}` cannot name a machine", text.trim()))
            .hint(format!("pass `--name HOST`: {}", Code::Name.hint()))
            .into()
    })
}

/// Bends a host name into the grammar: lower case, up to the first dot, `-` for what is not allowed.
fn as_name(host: &str) -> Option<String> {
    let first = host.split('.').next()?.to_lowercase();
    let bent: String = first
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    let bent = bent.trim_matches(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    bent.parse::<Name>().ok().map(|name| name.to_string())
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;

    use super::*;
    use crate::cli::testing::World;

    fn setup_line() -> String {
        // Nobody listens on port 1.
        let addresses = vec!["127.0.0.1:1".to_owned()];
        let server = SignKey::from_seed(&[1; 32]).verify_key();
        SetupLine { addresses, server, claim: Hash::ZERO }.to_line().unwrap()
    }

    /// Runs `vault init` on a fresh host.
    fn run(world: &World, line: &str, flags: &str) -> String {
        let state = world.path().join("state");
        world.run(&format!("init {line} --state {} {flags}", state.display())).shown()
    }

    fn scripted(world: &World) -> String {
        format!("--name host --kit-confirmed --kit {}/kit", world.path().display())
    }

    #[test]
    fn wrong_and_truncated_lines_are_named_with_the_way_out() {
        let (line, world) = (setup_line(), World::new(""));
        let cut = &line[..line.len() - 9];
        let shown = ["hello", cut, "VLTM1-abc"].map(|line| run(&world, line, &scripted(&world)));
        insta::assert_snapshot!(shown.join("\n"));
        insta::assert_snapshot!(run(&world, &line, "--name 4770k"), @r"
        exit 1
        --- stdout
        --- stderr
        E_NAME: name `4770k` breaks the grammar
        hint: use a to z, 0 to 9 and `-`, starting with a letter, 32 characters at most
        ");
    }

    #[test]
    fn a_server_that_does_not_answer_leaves_nothing_but_keys() {
        let world = World::new("");
        insta::assert_snapshot!(run(&world, &setup_line(), &scripted(&world)));
        let names = |dir: &Path| {
            let entries = std::fs::read_dir(dir).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
        };
        assert_eq!(names(&world.path()), ["state"]);
        assert_eq!(names(&world.path().join("state")), ["identity"]);
    }

    #[test]
    fn without_a_terminal_the_kit_needs_a_file_and_no_typing() {
        let (world, line) = (World::new(""), setup_line());
        let kit = world.file("old-kit", "x");
        let shown = [
            "--kit-confirmed".to_owned(),
            format!("--kit {}/kit", world.path().display()),
            format!("--kit-confirmed --kit {kit}"),
        ]
        .map(|flags| run(&world, &line, &format!("--name host {flags}")));
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_host_belongs_to_one_vault() {
        let world = World::new("");
        let pins = Pins {
            vault: Hash::of(&[b"vault"]),
            server: vec![SignKey::from_seed(&[1; 32]).verify_key()],
            name: "host".parse().unwrap(),
            addresses: Vec::new(),
        };
        let paths = Paths::resolve(Some(world.path().join("state")), None).unwrap();
        pins.store(&paths).unwrap();
        insta::assert_snapshot!(run(&world, &setup_line(), &scripted(&world)));
    }

    #[test]
    fn host_names_become_machine_names() {
        for (host, expected) in [
            ("rtx1080", Some("rtx1080")),
            ("Thinkpad.fritz.box", Some("thinkpad")),
            ("jonas_homelab-vps", Some("jonas-homelab-vps")),
            ("--x--", Some("x")),
            ("4770k", None),
            ("", None),
            ("ÄÖ", None),
        ] {
            assert_eq!(as_name(host).as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn the_first_configuration_is_toml() {
        let text = first_config(&["10.8.0.3:8443".into(), "[::1]:1".into()]);
        let config = crate::config::Config::parse(&text, Path::new("/agent.toml")).unwrap();
        assert_eq!(config.server, ["10.8.0.3:8443", "[::1]:1"]);
        insta::assert_snapshot!(text, @r#"
        # The agent of this machine; `vault-agent target add` adds files.
        server = ["10.8.0.3:8443", "[::1]:1"]     # tried in order
        "#);
    }
}
