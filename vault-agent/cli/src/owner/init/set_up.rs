//! Setting a vault up: keys, kit, genesis, and last the pins that make this host belong to it.

use std::path::PathBuf;

use age::secrecy::SecretString;
use anyhow::{Result, bail};
use shared::keys::SignKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::time::Time;
use shared::token::SetupLine;
use shared::wire::v1::blob::Inline;
use zeroize::Zeroizing;

use super::begun::{Names, ShownKit};
use crate::context::Global;
use crate::owner::absolute::absolute;
use crate::owner::resumable::Resumable as _;
use crate::owner::signing::admin::{self, AdminKey, Work};
use crate::owner::signing::founding::{Unfinished, Wish, found};
use crate::owner::signing::kit::Kit;
use crate::owner::signing::paper;
use crate::owner::signing::passphrase::Source;
use crate::owner::signing::posting::{self, PostError};
use crate::owner::signing::sheet;
use host::files;
use host::hint::hinted;
use host::term::Term;
use machine::identity::{MachineKeys, Pins};
use machine::joining::write_config;
use machine::paths::Paths;

/// How the owner's secrets are kept.
#[derive(Debug)]
pub struct Keeping {
    pub passphrase: Source,
    /// How hard guessing at it is made.
    pub work: Work,
    /// The file of the kit, if it is not shown on the terminal.
    pub kit: Option<PathBuf>,
    /// Whether that file is a page to print, and not text.
    pub html: bool,
    /// Whether nobody needs to type it back.
    pub kit_confirmed: bool,
    /// The passphrase, once it has been asked for.
    pub chosen: Option<SecretString>,
}

impl Keeping {
    /// Asks for the passphrase of a new admin now, and not when it is needed.
    ///
    /// # Errors
    /// If there is a key of that name, or no passphrase is given.
    pub fn choose(&mut self, admin: &Name, paths: &Paths) -> Result<()> {
        self.chosen = Some(self.passphrase(admin, paths)?);
        Ok(())
    }

    fn passphrase(&self, admin: &Name, paths: &Paths) -> Result<SecretString> {
        let file = admin::place(paths, admin);
        if file.exists() {
            let text = format!("there is an admin key at `{}` already", file.display());
            bail!(hinted(text, "choose another `--admin NAME`, or move the file away"));
        }
        match &self.chosen {
            Some(chosen) => Ok(chosen.clone()),
            None => self.passphrase.fresh(admin),
        }
    }
}

/// What holds for the server's own host alone.
#[derive(Debug, Default)]
pub struct Here {
    /// Where it reaches the server without a network: tried first.
    pub near: Option<String>,
    /// Who may use its agent beside root.
    pub allow: Vec<String>,
}

impl Here {
    /// Returns where this host looks for a server that others find at `addresses`.
    fn addresses(&self, addresses: &[String]) -> Vec<String> {
        let others = addresses.iter().filter(|address| Some(*address) != self.near.as_ref());
        self.near.iter().chain(others).cloned().collect()
    }
}

/// Makes the vault, or goes on with one whose making was interrupted. What makes this host belong
/// to the vault, its pins, is written last.
pub async fn set_up(
    wish: Wish,
    keeping: &Keeping,
    here: &Here,
    paths: &Paths,
    global: &Global,
) -> Result<Unfinished> {
    let term = &global.term;
    Pins::refuse_any(
        paths,
        "add further hosts with `vault machine add`; for a second vault use `--state DIR`",
    )?;
    let begun = Unfinished::load(paths)?;
    let fresh = begun.is_none();
    if fresh {
        ShownKit::void(paths, term)?;
        check_kit_place(keeping, term)?;
    }
    let keys = MachineKeys::load_or_create(paths)?;
    if fresh {
        let Wish { host, vault_name, admin, .. } = &wish;
        let (host, vault, admin) = (host.clone(), vault_name.clone(), admin.clone());
        Names { host, vault, admin }.store(paths)?;
    }
    let addresses = here.addresses(&wish.setup.addresses);
    let client = posting::reach(&addresses, &wish.setup.server, &keys.sign).await?;
    let unfinished = match begun {
        Some(begun) => resume(begun, &wish.setup, paths, term)?,
        None => begin(wish, keeping, &keys, paths, global)?,
    };
    match posting::post(&client, &unfinished.request).await {
        Ok(()) => finish(&unfinished, here, paths).map(|()| unfinished),
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

/// Refuses, before anything is made, a kit that could not be shown, kept or confirmed.
pub fn check_kit_place(keeping: &Keeping, term: &Term) -> Result<()> {
    if let Some(file) = &keeping.kit
        && file.symlink_metadata().is_ok()
    {
        let text = format!("`{}` exists already", file.display());
        bail!(hinted(text, "a kit never overwrites a file: choose another name"));
    }
    if keeping.kit.is_none() && !term.out_is_tty {
        bail!(hinted(
            "there is no terminal to show the recovery kit on",
            "pass `--kit FILE`, and keep the file off this machine afterwards"
        ));
    }
    if !keeping.kit_confirmed && !term.in_is_tty {
        bail!(hinted(
            "there is no terminal to confirm the recovery kit at",
            "pass `--kit-confirmed` in scripts"
        ));
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
        bail!(hinted(
            format!("a set-up with another server was begun on {} and not finished", begun.begun),
            format!(
                "use its setup line; if that server is gone for good, remove `{}` and destroy \
                 the kit of that attempt",
                Unfinished::place(paths).display()
            )
        ));
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
    let passphrase = keeping.passphrase(&wish.admin, paths)?;
    let (kit, key, now) = (Kit::generate(), SignKey::generate(), global.now());
    let (vault, request) = found(&wish, keys, &kit, &key, now)?;
    keep_kit(&kit, &wish.vault_name, (vault, now), keeping, paths, &global.term)?;
    let admin_key = AdminKey { name: wish.admin.clone(), vault, key };
    let unfinished = Unfinished {
        v: 1,
        begun: now,
        setup: wish.setup,
        admin: wish.admin,
        admin_file: Inline(admin_key.seal(&passphrase, keeping.work)?),
        host: wish.host,
        vault,
        request,
    };
    unfinished.store(paths)?;
    ShownKit::remove(paths)?;
    Ok(unfinished)
}

/// Shows the kit or writes its file, and has it confirmed.
pub fn keep_kit(
    kit: &Kit,
    name: &Name,
    (vault, now): (VaultId, Time),
    keeping: &Keeping,
    paths: &Paths,
    term: &Term,
) -> Result<()> {
    let mut page = kit.page(vault, name, now);
    if keeping.html {
        page = paper::html(&sheet::grouped(&page), &kit.code(vault));
    }
    let place = keeping.kit.as_deref().map(absolute).transpose()?;
    ShownKit::note(&page, place, now, paths)?;
    match &keeping.kit {
        None => term.data(Zeroizing::new(format!("\n{}\n", *sheet::grouped(&page))))?,
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
    let confirmed = kit.confirm(term);
    if confirmed.is_err()
        && let Some(file) = &keeping.kit
    {
        // Its secrets belong to no vault.
        let _ = files::remove(&absolute(file)?);
    }
    confirmed
}

/// Writes admin key, configuration and, last, the pins.
fn finish(made: &Unfinished, here: &Here, paths: &Paths) -> Result<()> {
    files::create_dir_private(&paths.admin())?;
    let file = admin::place(paths, &made.admin);
    files::replace(&file, &made.admin_file.0, files::Access::PRIVATE)?;
    write_config(paths, &here.addresses(&made.setup.addresses), &here.allow)?;
    let pins = Pins {
        vault: made.vault,
        server: vec![made.setup.server.clone()],
        name: made.host.clone(),
        addresses: made.setup.addresses.clone(),
        checkpoint: None,
    };
    pins.store(paths)?;
    forget(paths)
}

/// Forgets, once the pins are there, what an attempt has noted for the next one.
pub fn forget(paths: &Paths) -> Result<()> {
    Names::remove(paths)?;
    ShownKit::remove(paths)?;
    Unfinished::remove(paths)
}
