//! `vault admin passphrase`: seals an admin's key with another passphrase. The new file is whole
//! and on disk before it takes the old one's name, and nothing of the old one stays beside it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shared::name::Name;

use crate::context::Global;
use crate::owner::owning::passphrase;
use crate::owner::signing::admin::{AdminFile, AdminKey, Work, place};
use crate::owner::signing::passphrase::Source;
use host::files::{self, Access};
use host::hint::{Exit, hinted, parsed};
use host::shown::quoted;
use machine::identity::Pins;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Copies of the file that you made yourself still open with the old passphrase. If others may have
both, the key is theirs: `vault admin remove`, and a new one.")]
pub struct Args {
    /// The admin, if this host holds several keys
    admin: Option<String>,

    /// Read today's passphrase from the first line of a file [env: VAULT_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// Read the new passphrase from the first line of a file
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let paths = global.paths()?;
    let Some(pins) = Pins::load(&paths)? else {
        bail!(hinted(
            format!("this host belongs to no vault (`{}`)", paths.state.display()),
            "run this on the host that holds the admin key"
        ));
    };
    let wanted = args.admin.as_ref().map(|name| parsed(name.parse::<Name>())).transpose()?;
    let file = AdminFile::find(&paths, wanted.as_ref())?;
    let (name, path) = (file.name.clone(), place(&paths, &file.name));
    demand_alone(&path)?;
    let old = passphrase(args.passphrase_file.clone(), global);
    let new = args.new_passphrase_file.clone().map_or(Source::Terminal, Source::File);
    let key = match file.unlock(&old, pins.vault) {
        Ok(key) => key,
        // The same command before.
        Err(_) if matches!(new, Source::File(_)) && file.unlock(&new, pins.vault).is_ok() => {
            files::sweep(&path)?;
            global.term.say(format!("the key of `{name}` opens with this passphrase already"));
            return Ok(Exit::OK);
        }
        Err(fault) => return Err(fault),
    };
    let fresh = new.fresh(&name)?;
    let sealed = key.seal(&fresh, Work::Second)?;
    // What does not open is not worth the place of what does.
    AdminKey::open(&sealed, &fresh).context("opening the key with its new passphrase")?;
    files::replace(&path, &sealed, Access::PRIVATE)?;
    files::sweep(&path)?;
    global.term.say(format!(
        "the key of `{name}` has its new passphrase; copies that you made of `{}` have the old one",
        path.display()
    ));
    Ok(Exit::OK)
}

/// Refuses a file that has further names: they would go on to hold the old one.
fn demand_alone(path: &Path) -> Result<()> {
    let shown = path.display();
    let found = std::fs::symlink_metadata(path).with_context(|| format!("looking at `{shown}`"))?;
    if found.nlink() > 1 {
        let (others, path) = (found.nlink() - 1, quoted(&shown.to_string()));
        bail!(hinted(
            format!(
                "`{shown}` has {others} other names (hard links), which would keep the old key file"
            ),
            format!("`find / -xdev -samefile {path}` lists them: remove the others first")
        ));
    }
    Ok(())
}
