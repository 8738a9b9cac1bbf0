//! `vault recover`: makes this host a machine and an admin of a vault of which no machine is left,
//! by the recovery kit and its server. The kit stays in this process.

mod begun;
mod entry;
mod records;
mod rewrap;

use std::path::PathBuf;

use anyhow::{Result, bail};
use shared::keys::SignKey;
use shared::log::{Secret, State};
use shared::name::Name;
use shared::signed::VaultId;
use shared::wire::v1::blob::Inline;

use self::begun::Recovering;
use crate::context::Global;
use crate::owner::owning::passphrase;
use crate::owner::recovery::page;
use crate::owner::resumable::Resumable as _;
use crate::owner::resume;
use crate::owner::signing::admin::{self, AdminKey, Work};
use crate::owner::signing::kit::Kit;
use host::files::{self, Access};
use host::hint::{Exit, Failure, hinted, parsed};
use host::term::Term;
use machine::identity::{MachineKeys, Pins};
use machine::joining::{host_name, write_config};
use machine::paths::Paths;
use machine::remote::{Client, connect, connect_to_any};

/// Make this host a machine of a vault that has none left, with the recovery kit
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The same command goes on where it was interrupted. Where a machine of the vault is left, `vault
recovery admin` there is all that is needed. A server that was restored from a backup has its
one-time code in the file `resume-code` of its data directory; it is asked for.")]
pub struct Args {
    /// Where the vault's server is
    #[arg(value_name = "HOST:PORT")]
    server: String,

    /// The kit, or both of its secret lines; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    kit: PathBuf,

    /// The vault's id, where the kit is given without it
    #[arg(long, value_name = "ID")]
    vault: Option<String>,

    /// Name of this machine; an earlier one of that name is removed [default: the host's name]
    #[arg(long, value_name = "HOST")]
    name: Option<String>,

    /// Name of the admin; an earlier one of that name is removed [default: admin]
    #[arg(long, value_name = "NAME")]
    admin: Option<String>,

    /// Read the passphrase of the admin key from the first line of a file [env:
    /// VAULT_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// `-` reads the one-time code of a restored server from the first line of standard input
    #[arg(long, value_name = "-", conflicts_with = "code_file")]
    code: Option<String>,

    /// Read the one-time code of a restored server from this file
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,

    /// Sign without asking
    #[arg(long, short)]
    yes: bool,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let paths = global.paths()?;
    let begun = Recovering::load(&paths)?;
    if begun.is_none() {
        Pins::refuse_any(&paths, "`vault recovery admin` appoints an admin on a machine")?;
    }
    let named = args.vault.as_ref().map(|id| id.replace(char::is_whitespace, ""));
    let named = named.map(|id| parsed(id.parse::<VaultId>())).transpose()?;
    let (kit, on_page) = page::read_whole(&args.kit, global)?;
    let Some(vault) = named.or(on_page) else {
        bail!(hinted("the kit was given without the vault's id", "pass it: `--vault ID`"));
    };
    if let Some(other) = begun.as_ref().filter(|begun| begun.vault != vault) {
        refuse_other(other, &paths)?;
    }
    if let Some(begun) = &begun {
        demand_same(begun, args, &paths, global)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(recover(args, &kit, vault, begun, &paths, global))
}

/// Refuses to give up the recovery of another vault: nothing else may hold its admin key.
fn refuse_other(other: &Recovering, paths: &Paths) -> Result<()> {
    let Recovering { begun, vault, machine, admin, .. } = other;
    let (short, file) = (vault.short(), Recovering::place(paths));
    bail!(hinted(
        format!("the recovery of another vault, {short}, was begun on {begun} and not finished"),
        format!(
            "finish it: `vault recover HOST:PORT --vault {vault} --kit FILE` makes this `{machine}` \
             there, and `{admin}` an admin; or recover this vault with another `--state DIR`; if \
             the other is given up, remove `{}`",
            file.display()
        )
    ))
}

/// Refuses names and a passphrase that are not those of the recovery that was begun.
fn demand_same(begun: &Recovering, args: &Args, paths: &Paths, global: &Global) -> Result<()> {
    let Recovering { begun: at, machine, admin, admin_file, .. } = begun;
    let asked = [("name", &args.name, machine), ("admin", &args.admin, admin)];
    for (flag, asked, begun) in asked {
        if let Some(asked) = asked.as_ref().filter(|asked| *asked != begun.as_str()) {
            bail!(hinted(
                format!("`--{flag} {asked}`, but the recovery begun on {at} has `{begun}`"),
                format!("go on with it: `--{flag} {begun}`; where it asks, a no gives it up")
            ));
        }
    }
    let source = passphrase(args.passphrase_file.clone(), global);
    // One that is in its place may have another passphrase by now.
    let placed = files::read_private(&admin::place(paths, admin))?;
    let sealed = placed.as_ref().map_or(&admin_file.0[..], |file| &file[..]);
    if admin::opens(sealed, &source, admin)? {
        return Ok(());
    }
    bail!(hinted(
        format!("the key of `{admin}` that was made on {at} does not open with this passphrase"),
        format!(
            "give the one of that time, or go on with no file of one; if it is forgotten: \
             afterwards `vault recovery admin {admin} --instead-of {admin} --kit FILE`"
        )
    ))
}

async fn recover(
    args: &Args,
    kit: &Kit,
    vault: VaultId,
    begun: Option<Recovering>,
    paths: &Paths,
    global: &Global,
) -> Result<Exit> {
    let keys = MachineKeys::load_or_create(paths)?;
    let reached = connect_to_any(&args.server, &kit.root).await;
    let (client, server) = reached.map_err(entry::unreached)?;
    let state = records::read_from(&client, &server, vault).await?;
    demand_kit(kit, &state)?;
    let begun = match begun {
        Some(begun) => {
            global.term.say(format!(
                "going on with what was begun on {}: the passphrase of that time holds",
                begun.begun
            ));
            begun
        }
        None => begin(args, vault, paths, global)?,
    };
    let code = resume::Args::of_code(args.code.clone(), args.code_file.clone());
    let wish = entry::Wish { server: &args.server, yes: args.yes, code };
    let added = entry::add(&wish, state, kit, &keys, &begun, global).await?;
    let Some(state) = added else {
        Recovering::remove(paths)?;
        return Ok(Exit::LOCAL);
    };
    settle(&begun, &state, &args.server, paths)?;
    let reached = connect(&args.server, state.server(), &keys.sign).await;
    let client = reached.map_err(entry::unreached)?;
    finish(&client, state, kit, &begun, paths, global).await
}

fn demand_kit(kit: &Kit, state: &State) -> Result<(), Failure> {
    let vault = state.vault().short();
    if entry::holds(kit, state) {
        return Ok(());
    }
    Err(Failure::remote(format!("the keys of the kit are not those of the vault {vault} today"))
        .hint("it was replaced by another: look for the newest kit"))
}

/// Makes the admin key, and writes down what a second attempt needs.
fn begin(args: &Args, vault: VaultId, paths: &Paths, global: &Global) -> Result<Recovering> {
    let machine: Name = parsed(args.name.clone().map_or_else(host_name, Ok)?.parse())?;
    let name: Name = parsed(args.admin.as_deref().unwrap_or("admin").parse())?;
    let file = admin::place(paths, &name);
    if file.exists() {
        let why = format!("there is a key of an admin `{name}` already: `{}`", file.display());
        bail!(hinted(why, "move the file away, or choose another name: `--admin NAME`"));
    }
    let passphrase = passphrase(args.passphrase_file.clone(), global).fresh(&name)?;
    let key = AdminKey { name, vault, key: SignKey::generate() };
    let admin_file = Inline(key.seal(&passphrase, Work::Second)?);
    let AdminKey { name: admin, key, .. } = key;
    let admin_key = key.verify_key();
    let begun = Recovering { begun: global.now(), vault, machine, admin, admin_key, admin_file };
    begun.store(paths)?;
    Ok(begun)
}

/// Writes what makes this host a machine and an admin: all of it is in the log by now.
fn settle(begun: &Recovering, state: &State, server: &str, paths: &Paths) -> Result<()> {
    files::create_dir_private(&paths.admin())?;
    let file = admin::place(paths, &begun.admin);
    // One that is there is of an earlier attempt, and may have another passphrase by now.
    if !file.exists() {
        files::replace(&file, &begun.admin_file.0, Access::PRIVATE)?;
    }
    let addresses = vec![server.to_owned()];
    write_config(paths, &addresses, &[])?;
    let (server, name) = (state.server().to_vec(), begun.machine.clone());
    Pins { vault: state.vault(), server, name, addresses, checkpoint: None }.store(paths)
}

/// Re-encrypts everything to those who read it now, and shows what is there again.
async fn finish(
    client: &Client,
    state: State,
    kit: &Kit,
    begun: &Recovering,
    paths: &Paths,
    global: &Global,
) -> Result<Exit> {
    let (state, closed) = rewrap::all(client, state, kit, global).await?;
    let term = &global.term;
    say_all(&state, begun, term);
    for (path, ver, why) in &closed {
        term.say(format!("not recovered: version {ver} of `{path}`: {why}"));
    }
    term.say(
        "next: `vault-agent install --user`, as root without --user; then `vault recovery test \
         --all --kit -`",
    );
    if closed.is_empty() {
        Recovering::remove(paths)?;
        return Ok(Exit::OK);
    }
    bail!(
        Failure::remote(format!("the recovery is not finished: {} not recovered", closed.len()))
            .hint(
                "run the same command again once the server has them; what nobody has any more is \
                 taken off with `vault kv destroy`"
            )
    )
}

fn say_all(state: &State, begun: &Recovering, term: &Term) {
    let Recovering { machine, admin, .. } = begun;
    let secrets = state.secrets().values();
    let versions = secrets.flat_map(Secret::versions).filter(|(_, it)| !it.destroyed).count();
    term.say(format!(
        "`{machine}` is a machine of the vault `{}`, and `{admin}` an admin: {} secrets in \
         {versions} versions",
        state.name(),
        state.secrets().len()
    ));
    let active = state.machines().values().filter(|it| it.active && it.name != *machine);
    for other in active {
        term.say_hinted(
            format!("`{}` is still a machine of the vault", other.name),
            format!("if it is lost: vault machine remove {}", other.name),
        );
    }
    for other in state.admins().keys().filter(|name| *name != admin) {
        term.say_hinted(
            format!("`{other}` is still an admin"),
            format!(
                "if its key is lost: vault recovery admin NAME --instead-of {other} --kit FILE"
            ),
        );
    }
}
