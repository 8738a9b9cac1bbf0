//! `vault recovery admin`: appoints an admin as root, by the recovery kit, and removes another in
//! the same entry. It works without the passphrase of any admin, and against one who has it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use shared::keys::SignKey;
use shared::log::Op;
use shared::name::Name;
use shared::signed::VaultId;
use shared::wire::v1::blob::Inline;
use zeroize::Zeroizing;

use super::appointing::{self, Appointing, Replaced};
use super::{page, signed};
use crate::context::Global;
use crate::owner::owning::passphrase;
use crate::owner::resumable::Resumable as _;
use crate::owner::signing::act::{Owner, Signed};
use crate::owner::signing::admin::{self, AdminKey, Work};
use host::files::{self, Access};
use host::hint::{Exit, Failure, hinted, parsed};
use machine::local::{KEPT, Kept};
use machine::paths::Paths;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it on any machine of the vault: the new admin's key is made there. After --instead-of it prints
what the other admin has signed in the last 30 days: machines and grants that came from it stay
until you take them back.")]
pub struct Args {
    /// Name of the new admin
    name: String,

    /// The kit, or both of its secret lines; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    kit: PathBuf,

    /// Remove this admin in the same entry; it may have the same name
    #[arg(long, value_name = "NAME")]
    instead_of: Option<String>,

    /// Read the passphrase of the new key from the first line of a file [env:
    /// VAULT_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// Sign without asking
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let name: Name = parsed(args.name.parse())?;
    let old = args.instead_of.as_ref().map(|old| parsed(old.parse::<Name>())).transpose()?;
    let paths = global.paths()?;
    let kept: Kept = global.client()?.get(KEPT, &[])?;
    let wanted = |begun: &Appointing| {
        (&begun.name, begun.old.as_ref().map(|old| &old.name)) == (&name, old.as_ref())
    };
    let mut begun = Appointing::load(&paths)?.filter(|begun| begun.vault == kept.vault);
    if let Some(over) = begun.take_if(|begun| begun.is_over(&kept)) {
        Appointing::remove(&paths)?;
        let Appointing { begun, name, .. } = over;
        global.term.say(format!("what was begun on {begun} is over: `{name}` has another key now"));
    }
    if let Some(other) = begun.take_if(|begun| !wanted(begun)) {
        finish_other(&other, &kept, &paths, global)?;
    }
    // What can be refused is, before anything is typed.
    let replaced = match &begun {
        Some(begun) => {
            demand_passphrase(begun, args, &paths, global)?;
            None
        }
        None => demand_possible(&name, old, &kept, &paths)?,
    };
    page::demand_taken(global)?;
    let kit = page::read(&args.kit, global)?;
    page::demand_root(&kit, &kept)?;
    let appointing = match begun {
        Some(begun) => {
            global.term.say_hinted(
                format!(
                    "going on with what was begun on {}: the passphrase of that time holds",
                    begun.begun
                ),
                format!("if it is forgotten: {}", anew(&begun.name)),
            );
            begun
        }
        None => begin(name, replaced, kept.vault, args, global)?,
    };
    if kept.admins.get(&appointing.name) != Some(&appointing.key)
        && !appoint(&appointing, &kept, kit.root, args.yes, global)?
    {
        Appointing::remove(&paths)?;
        return Ok(Exit::LOCAL);
    }
    finish(&appointing, &paths, global)?;
    Ok(Exit::OK)
}

/// Returns what makes an admin another key, once this one is done.
fn anew(name: &Name) -> String {
    format!("afterwards `vault recovery admin {name} --instead-of {name} --kit FILE`")
}

/// Refuses a passphrase in a file that is not the one of the key that was made before.
fn demand_passphrase(
    begun: &Appointing,
    args: &Args,
    paths: &Paths,
    global: &Global,
) -> Result<()> {
    let Appointing { begun: at, name, admin_file, .. } = begun;
    let source = passphrase(args.passphrase_file.clone(), global);
    let placed = placed(begun, paths)?;
    let sealed = placed.as_ref().map_or(&admin_file.0[..], |file| &file[..]);
    if admin::opens(sealed, &source, name)? {
        return Ok(());
    }
    bail!(hinted(
        format!("the key of `{name}` that was made on {at} does not open with this passphrase"),
        format!(
            "give the one of that time, or go on with no file of one; if it is forgotten: {}",
            anew(name)
        )
    ))
}

/// Finishes an appointment under other names that is in the log: nothing else holds that key.
///
/// # Errors
/// If it is not in the log: it is to be finished, or given up.
fn finish_other(other: &Appointing, kept: &Kept, paths: &Paths, global: &Global) -> Result<()> {
    let Appointing { begun, name, key, old, .. } = other;
    if kept.admins.get(name) == Some(key) {
        return finish(other, paths, global);
    }
    let old = old.as_ref().map(|old| format!(" --instead-of {}", old.name)).unwrap_or_default();
    bail!(hinted(
        format!("the appointment of `{name}` that was begun on {begun} is not finished"),
        format!(
            "go on with it: `vault recovery admin {name}{old} --kit FILE`; a no to its question \
             gives it up"
        )
    ))
}

/// Demands that the new admin may have that name, and that there is the one who goes; returns them.
fn demand_possible(
    name: &Name,
    old: Option<Name>,
    kept: &Kept,
    paths: &Paths,
) -> Result<Option<Replaced>> {
    let old = old.map(|old| replaced(old, kept, paths)).transpose()?;
    let is_other = old.as_ref().is_none_or(|old| old.name != *name);
    if is_other && kept.admins.contains_key(name) {
        bail!(
            Failure::remote(format!("`{name}` is an admin already"))
                .hint(format!("to give it another key: `--instead-of {name}`"))
        );
    }
    let file = admin::place(paths, name);
    if is_other && file.exists() {
        bail!(hinted(
            format!("`{}` is there: a key that is no admin's yet, or no more", file.display()),
            format!(
                "`vault admin add {name}` prints its line, to have it appointed; if nobody needs \
                 it, move the file away"
            )
        ));
    }
    Ok(old)
}

fn replaced(name: Name, kept: &Kept, paths: &Paths) -> Result<Replaced> {
    let Some(key) = kept.admins.get(&name).cloned() else {
        let names = kept.admins.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
        bail!(
            Failure::remote(format!("there is no admin `{name}`"))
                .hint(format!("there are: {names}"))
        );
    };
    let file = files::read_private(&admin::place(paths, &name))?;
    let file = file.map(|file| appointing::print(&file));
    Ok(Replaced { name, key, file })
}

/// Makes the key, and writes down what a second attempt needs.
fn begin(
    name: Name,
    old: Option<Replaced>,
    vault: VaultId,
    args: &Args,
    global: &Global,
) -> Result<Appointing> {
    let passphrase = passphrase(args.passphrase_file.clone(), global).fresh(&name)?;
    let key = AdminKey { name, vault, key: SignKey::generate() };
    let admin_file = Inline(key.seal(&passphrase, Work::Second)?);
    let AdminKey { name, key, .. } = key;
    let key = key.verify_key();
    let appointing = Appointing { begun: global.now(), vault, name, key, old, admin_file };
    appointing.store(&global.paths()?)?;
    Ok(appointing)
}

/// Signs as root; tells whether the person agreed.
fn appoint(
    appointing: &Appointing,
    kept: &Kept,
    root: SignKey,
    yes: bool,
    global: &Global,
) -> Result<bool> {
    let Appointing { name, key, old, .. } = appointing;
    let old = old.as_ref().filter(|old| kept.admins.get(&old.name) == Some(&old.key));
    let remove = old.map(|old| Op::AdminRemove { name: old.name.clone() });
    let add = Op::AdminAdd { name: name.clone(), key: key.clone() };
    let ops: Vec<Op> = remove.into_iter().chain([add]).collect();
    let owner = Owner::root(global, root, None, yes)?;
    Ok(owner.sign(|_| Ok(ops.clone()))? != Signed::Declined)
}

/// Returns the file of the new key's name, unless it is still the old one's.
fn placed(appointing: &Appointing, paths: &Paths) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let file = files::read_private(&admin::place(paths, &appointing.name))?;
    Ok(file.filter(|file| !appointing.is_old(file)))
}

/// Puts the key in its place, takes the old one's away, and shows what that has signed. A file that
/// is newer than what was begun is left as it is.
///
/// # Errors
/// If the key is not that of an admin.
fn finish(appointing: &Appointing, paths: &Paths, global: &Global) -> Result<()> {
    let Appointing { begun, name, key, old, admin_file, .. } = appointing;
    let kept: Kept = global.client()?.get(KEPT, &[])?;
    if kept.admins.get(name) != Some(key) {
        bail!(
            Failure::remote(format!("the key made on {begun} is not that of an admin `{name}`"))
                .hint("`vault admin list` shows who is one")
        );
    }
    files::create_dir_private(&paths.admin())?;
    let file = admin::place(paths, name);
    let placed = placed(appointing, paths)?;
    if placed.is_none() {
        files::replace(&file, &admin_file.0, Access::PRIVATE)?;
    }
    let shown = file.display();
    if placed.is_some_and(|placed| *placed != admin_file.0) {
        global.term.say_hinted(
            format!("`{name}` is an admin; `{shown}` is newer than {begun}, and stays as it is"),
            format!("if that does not sign: {}", anew(name)),
        );
    } else {
        global.term.say(format!("`{name}` is an admin; its key is in `{shown}`"));
    }
    if let Some(old) = old.as_ref().filter(|old| old.name != *name) {
        retire(old, &kept, paths, global)?;
    }
    // What follows may fail, and be left: nothing may hang on it.
    Appointing::remove(paths)?;
    old.as_ref().map_or(Ok(()), |old| signed::show(global, old.name.as_str(), &old.key))
}

/// Takes the file of a key away that is no admin's any more; one that has come since is another's.
fn retire(old: &Replaced, kept: &Kept, paths: &Paths, global: &Global) -> Result<()> {
    let (name, file) = (&old.name, admin::place(paths, &old.name));
    let is_same = files::read_private(&file)?.is_some_and(|found| old.is(&found));
    if is_same && kept.admins.get(name) != Some(&old.key) {
        files::remove(&file)?;
    }
    if !kept.admins.contains_key(name) {
        global.term.say(format!("`{name}` is none any more"));
    }
    Ok(())
}
