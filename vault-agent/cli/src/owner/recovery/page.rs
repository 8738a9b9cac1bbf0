//! A recovery kit that is given back: from a file, standard input, or typed at the terminal; and
//! whether it is this vault's.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use shared::error::Code;
use shared::signed::VaultId;
use zeroize::Zeroizing;

use crate::context::Global;
use crate::owner::signing::kit::Kit;
use crate::owner::signing::paper;
use crate::owner::signing::sheet::Sheet;
use host::hint::Failure;
use machine::local::{Kept, STATUS, Status};

/// Longest page that is read, in bytes.
const PAGE: usize = 64 << 10;

/// Reads a kit.
///
/// # Errors
/// What cannot be read, or which of its rows was mistyped.
pub(in crate::owner) fn read(file: &Path, global: &Global) -> Result<Kit> {
    Ok(read_whole(file, global)?.0)
}

/// As [`read`], with the vault's id if that stands on the page.
pub(in crate::owner) fn read_whole(file: &Path, global: &Global) -> Result<(Kit, Option<VaultId>)> {
    let whole = |page: &[u8]| {
        let page = paper::text(std::str::from_utf8(page).context("the kit is not text")?);
        Ok((Kit::from_page(&page)?, Kit::vault_on(&page)))
    };
    // Room for all of it: growing would leave copies behind.
    let mut page = Zeroizing::new(Vec::with_capacity(PAGE));
    if file != Path::new("-") {
        let named = || format!("cannot read the kit `{}`", file.display());
        let open = File::open(file).with_context(named)?;
        open.take(PAGE as u64).read_to_end(&mut page).with_context(named)?;
        return whole(&page);
    }
    if global.term.in_is_tty {
        return typed(global, "type both secrets of the kit, as they stand on the page");
    }
    global.term.read_up_to(PAGE as u64, &mut page).context("reading the kit")?;
    whole(&page)
}

/// Has the kit typed at the terminal, until both of its secrets are there. A row that was mistyped
/// is told at once, and typed again.
pub(super) fn typed(global: &Global, asked: &str) -> Result<(Kit, Option<VaultId>)> {
    let term = &global.term;
    term.say(format!("{asked}; the last row ends it, Ctrl-C gives up:"));
    let (mut sheet, mut id, mut before) = (Sheet::default(), None, Zeroizing::new(String::new()));
    while let Some(line) = term.read_line()?.map(Zeroizing::new) {
        let both = Zeroizing::new([before.as_str(), "\n", line.as_str()].concat());
        id = id.or_else(|| Kit::vault_on(&both));
        if let Err(wrong) = sheet.line(&line) {
            term.say(format!("{wrong}: type it again"));
        } else if sheet.is_whole() {
            match Kit::from_sheet(&sheet) {
                Ok(kit) => return Ok((kit, id)),
                Err(wrong) => term.say(format!("{wrong}: type that one again, name and all")),
            }
        }
        before = line;
    }
    Ok((Kit::from_sheet(&sheet)?, id))
}

/// Demands that the server takes what the kit signs, before it is typed.
///
/// # Errors
/// While the server waits for `vault resume`.
pub(in crate::owner) fn demand_taken(global: &Global) -> Result<()> {
    let status: Status = global.client()?.get(STATUS, &[])?;
    // Until this machine has healed it, a server may merely be behind.
    let is_behind = status.alarms.iter().any(|alarm| alarm.code == Code::ServerBehind.as_str());
    if !status.restored && !is_behind {
        return Ok(());
    }
    bail!(Failure::remote("the server was restored from a copy, and takes no change yet").hint(
        "run `vault heal` on every machine, then `vault resume --kit -` here, then this again"
    ))
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
