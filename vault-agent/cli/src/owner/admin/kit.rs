//! Who appoints and removes admins: root, by the recovery kit.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::context::Global;
use crate::owner::recovery::page;
use crate::owner::signing::act::Owner;
use host::hint::hinted;
use machine::local::Admins;

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
            bail!(hinted(
                format!("only the recovery kit {what} an admin"),
                "pass `--kit FILE`, or `--kit -` and type both secret lines of the page",
            ));
        };
        page::demand_taken(global)?;
        let root = page::read(file, global)?.root;
        page::demand("root", root.verify_key() == all.root, all.vault)?;
        Owner::root(global, root, None, self.yes)
    }
}
