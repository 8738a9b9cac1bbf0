//! Who appoints and removes admins: root, by the recovery kit.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use shared::keys::SignKey;
use zeroize::Zeroizing;

use crate::context::Global;
use crate::owner::signing::act::Owner;
use crate::owner::signing::kit::Kit;
use host::hint::{Failure, hinted};
use machine::local::Admins;

/// Longest page that is read, in bytes.
const PAGE: u64 = 64 << 10;

/// Signing by the kit.
#[derive(Debug, clap::Args)]
pub struct Rooted {
    /// The recovery kit, or both of its secret lines; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    kit: Option<PathBuf>,

    /// Sign without asking
    #[arg(long, short)]
    yes: bool,
}

impl Rooted {
    /// Reads the kit, and compares its root key with the vault's.
    ///
    /// # Errors
    /// If no kit is given, or it is another vault's.
    pub fn owner<'a>(&self, all: &Admins, what: &str, global: &'a Global) -> Result<Owner<'a>> {
        let Some(file) = &self.kit else {
            return Err(hinted(
                format!("only the recovery kit {what} an admin"),
                "pass `--kit FILE`, or `--kit -` and type both secret lines of the page",
            ));
        };
        let root = root(file, global)?;
        if root.verify_key() != all.root {
            let vault = all.vault.short();
            return Err(Failure::remote(format!(
                "the kit's root key is not that of the vault {vault}"
            ))
            .hint("it belongs to another vault, or was replaced: look for the newest kit")
            .into());
        }
        Owner::root(global, root, None, self.yes)
    }
}

fn root(file: &Path, global: &Global) -> Result<SignKey> {
    let mut page = Zeroizing::new(String::with_capacity(4096));
    if file == Path::new("-") {
        while let Some(line) = global.term.read_line()?.map(Zeroizing::new) {
            page.push_str(&line);
            page.push('\n');
            // At a terminal the question whether to sign comes after it.
            if let Ok(kit) = Kit::from_page(&page) {
                return Ok(kit.root);
            }
        }
    } else {
        let named = || format!("cannot read the kit `{}`", file.display());
        let open = File::open(file).with_context(named)?;
        open.take(PAGE).read_to_string(&mut page).with_context(named)?;
    }
    Ok(Kit::from_page(&page)?.root)
}
