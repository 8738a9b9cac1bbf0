//! Taking a program's unit away again: stopped, forgotten, its file gone. What else a program
//! leaves on a host lives with that program.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::install::{HOST_UNITS, Program};
use super::shielding;
use super::systemctl;
use super::unit::{Found, Whose, compare};
use crate::account;
use crate::files;
use crate::term::Term;

/// Stops the program, and removes its unit; one that somebody has edited is kept beside it.
///
/// # Errors
/// If systemd does not stop it, or the unit cannot be removed.
pub fn uninstall<P: Program>(whose: Whose, term: &Term) -> Result<()> {
    let service = format!("{}.service", P::NAME);
    let file = folder(whose)?.join(&service);
    let text = match files::settings(&file) {
        Ok((_, text)) => text,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(why).with_context(|| format!("cannot read `{}`", file.display())),
    };
    let runs = systemctl::runs(whose);
    if runs {
        systemctl::call(whose, &["disable", "--now", "--quiet", &service])?;
    }
    if compare(Some(text.as_str()), "") == Found::Edited {
        let old = file.with_extension("service.old");
        let why = || format!("cannot keep `{}`", old.display());
        std::fs::rename(&file, &old).with_context(why)?;
        term.say(format!("kept, as somebody has edited it: `{}`", old.display()));
    } else {
        remove(&file)?;
    }
    let dropped = shielding::file(&file);
    if dropped.exists() {
        remove(&dropped)?;
        // Others may have put something there.
        let _ = dropped.parent().map(std::fs::remove_dir);
    }
    if runs {
        systemctl::call(whose, &["daemon-reload"])?;
    }
    term.say(format!("removed: `{}`", file.display()));
    Ok(())
}

/// Returns where the units of a manager are.
fn folder(whose: Whose) -> Result<PathBuf> {
    match whose {
        Whose::Host => Ok(PathBuf::from(HOST_UNITS)),
        Whose::User => Ok(account::folder("XDG_CONFIG_HOME", ".config")
            .context("neither `HOME` nor `XDG_CONFIG_HOME` is set")?
            .join("systemd/user")),
    }
}

fn remove(file: &Path) -> Result<()> {
    std::fs::remove_file(file).with_context(|| format!("cannot remove `{}`", file.display()))
}
