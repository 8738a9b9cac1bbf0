//! Setting a vault up: keys, kit, genesis, and last the pins that make this host belong to it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use shared::keys::SignKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::token::SetupLine;
use shared::wire::v1::blob::Inline;

use crate::context::Global;
use crate::owner::absolute::absolute;
use crate::owner::signing::admin::{self, AdminKey, Work};
use crate::owner::signing::founding::{Plan, Unfinished, found};
use crate::owner::signing::kit::{About, Kit};
use crate::owner::signing::passphrase::Source;
use crate::owner::signing::posting::{self, PostError};
use host::files;
use host::hint::Failure;
use host::term::Term;
use machine::identity::{MachineKeys, Pins};
use machine::joining::write_config;
use machine::paths::Paths;

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
        Ok(()) => finish(unfinished, paths),
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
            if !keeping.kit_confirmed {
                term.say(format!("the recovery kit is in `{}`: print it now", file.display()));
            }
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
