//! `vault recovery test`: proves that a recovery kit still works, by opening a secret with it. The
//! kit stays in this process.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shared::blob::{self, Blob, Expected, Place};
use zeroize::Zeroizing;

use crate::context::Global;
use crate::owner::signing::kit::Kit;
use host::hint::{Exit, Failure};
use machine::local::{SAMPLE, Sample, SampleSecret};

/// Longest page that is read, in bytes.
const PAGE: u64 = 64 << 10;

/// Prove that the recovery kit works
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Open one secret with the kit, and compare its keys with the vault's
    Test {
        /// The kit, or both of its secret lines; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        kit: PathBuf,
    },
}

pub(crate) fn run(global: &Global, Command::Test { kit }: &Command) -> Result<Exit> {
    let kit = Kit::from_page(&page(kit, global)?)?;
    let Sample { vault, root, recovery, secret } = global.client()?.get(SAMPLE, &[])?;
    let keys = [
        ("root", kit.root.verify_key() == root),
        ("recovery", kit.recovery.recipient() == recovery),
    ];
    if let Some((other, _)) = keys.iter().find(|(_, same)| !same) {
        let vault = vault.short();
        bail!(
            Failure::remote(format!("the kit's {other} key is not that of the vault {vault}"))
                .hint("it belongs to another vault, or was replaced: look for the newest kit")
        );
    }
    global.term.say("both keys of the kit are those of the vault");
    let Some(SampleSecret { path, ver, blob, size, commit, readers, bytes }) = secret else {
        global.term.say("no secret was opened: this machine reads none yet");
        return Ok(Exit::OK);
    };
    let readers = usize::try_from(readers).context("too many readers")?;
    // The recovery recipient is the last of the readers.
    let position = readers.saturating_sub(1);
    let place = Place { vault: &vault, path: &path, ver };
    let expected = Expected { place, blob, size, commit, readers, position };
    blob::open(&kit.recovery, &expected, &Blob::new(bytes.0)).map_err(|why| {
        Failure::remote(format!("the kit does not open version {ver} of `{path}`: {why}"))
            .hint("re-encrypt it with `vault access set` on an admin's machine")
    })?;
    global.term.say(format!("it opens version {ver} of `{path}`: the kit works"));
    Ok(Exit::OK)
}

fn page(file: &Path, global: &Global) -> Result<Zeroizing<String>> {
    let mut page = Zeroizing::new(String::new());
    if file == Path::new("-") {
        let input = Zeroizing::new(global.term.read_all()?);
        page.push_str(std::str::from_utf8(&input).context("the kit is not text")?);
    } else {
        let named = || format!("cannot read the kit `{}`", file.display());
        let open = File::open(file).with_context(named)?;
        open.take(PAGE).read_to_string(&mut page).with_context(named)?;
    }
    Ok(page)
}
