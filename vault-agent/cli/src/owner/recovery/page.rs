//! A recovery kit that is given back: from a file, standard input, or typed at the terminal; and
//! whether it is this vault's.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use shared::signed::VaultId;
use zeroize::Zeroizing;

use crate::context::Global;
use crate::owner::signing::kit::Kit;
use host::hint::Failure;
use machine::local::Kept;

/// Longest page that is read, in bytes.
const PAGE: u64 = 64 << 10;

/// Reads a kit.
///
/// # Errors
/// What cannot be read, or which of its rows was mistyped.
pub(in crate::owner) fn read(file: &Path, global: &Global) -> Result<Kit> {
    Ok(read_whole(file, global)?.0)
}

/// As [`read`], with the vault's id if that stands on the page.
pub(in crate::owner) fn read_whole(file: &Path, global: &Global) -> Result<(Kit, Option<VaultId>)> {
    let whole = |page: &str| Ok((Kit::from_page(page)?, Kit::vault_on(page)));
    if file != Path::new("-") {
        let named = || format!("cannot read the kit `{}`", file.display());
        let mut page = Zeroizing::new(String::new());
        File::open(file)
            .with_context(named)?
            .take(PAGE)
            .read_to_string(&mut page)
            .with_context(named)?;
        return whole(&page);
    }
    if global.term.in_is_tty {
        let kit = typed(global, "type both secrets of the kit, as they stand on the page")?;
        return Ok((kit, None));
    }
    let input = Zeroizing::new(global.term.read_all()?);
    whole(std::str::from_utf8(&input).context("the kit is not text")?)
}

/// Has the kit typed at the terminal, until both of its secrets are there.
pub(super) fn typed(global: &Global, asked: &str) -> Result<Kit> {
    global.term.say(format!("{asked}; Ctrl-D ends:"));
    let mut page = Zeroizing::new(String::with_capacity(4096));
    while let Some(line) = global.term.read_line()?.map(Zeroizing::new) {
        page.push_str(&line);
        page.push('\n');
        if let Ok(kit) = Kit::from_page(&page) {
            return Ok(kit);
        }
    }
    Kit::from_page(&page)
}

/// Demands that both keys of the kit hold in this vault.
pub(super) fn demand_valid(kit: &Kit, kept: &Kept) -> Result<(), Failure> {
    demand_root(kit, kept)?;
    demand("recovery", kit.recovery.recipient() == kept.recovery, kept.vault)
}

/// Demands that the kit's root key holds in this vault.
pub(super) fn demand_root(kit: &Kit, kept: &Kept) -> Result<(), Failure> {
    demand("root", kit.root.verify_key() == kept.root, kept.vault)
}

/// Demands that a key of the kit is the `same` as the vault's.
pub(in crate::owner) fn demand(key: &str, same: bool, vault: VaultId) -> Result<(), Failure> {
    if same {
        return Ok(());
    }
    let vault = vault.short();
    Err(Failure::remote(format!("the kit's {key} key is not that of the vault {vault}"))
        .hint("it belongs to another vault, or was replaced: look for the newest kit"))
}
