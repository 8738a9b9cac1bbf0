//! `vault recovery test`: proves that a recovery kit still works, by opening a secret with it. The
//! kit stays in this process.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shared::blob::{Blob, Expected, Place};
use zeroize::Zeroizing;

use crate::context::Global;
use crate::owner::signing::kit::Kit;
use host::hint::{Exit, Failure};
use machine::local::{SAMPLE, Sample, SampleSecret};

/// Longest page that is read, in bytes.
const PAGE: u64 = 64 << 10;

/// Prove that the recovery kit works
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Open one secret with the kit, and compare its keys with the vault's
    Test {
        /// The kit, or both of its secret lines; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        kit: PathBuf,
    },
}

/// Runs `vault recovery`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let Verb::Test { kit } = &args.verb;
    let kit = Kit::from_page(&page(kit, global)?)?;
    let Sample { vault, root, recovery, secret } = global.client()?.get(SAMPLE, &[])?;
    let other = |what: &str| {
        Failure::remote(format!("the kit's {what} key is not that of the vault {}", vault.short()))
            .hint("it belongs to another vault, or was replaced: look for the newest kit")
    };
    if kit.root_key() != root {
        bail!(other("root"));
    }
    if kit.recovery() != recovery {
        bail!(other("recovery"));
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
    kit.opens(&expected, &Blob::new(bytes.0)).map_err(|why| {
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
