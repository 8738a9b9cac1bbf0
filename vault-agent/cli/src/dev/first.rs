//! The first start of `vault dev`: the server's data, then a vault in it, without asking anything.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use shared::token::{Line as _, SetupLine};

use super::folder::{Folder, read_line};
use crate::context::Global;
use crate::owner::init::{Keeping, set_up};
use crate::owner::signing::admin::Work;
use crate::owner::signing::founding::{Unfinished, Wish};
use crate::owner::signing::passphrase::Source;
use host::files;
use host::hint::Failure;
use host::hint::parsed;
use machine::identity::Pins;
use machine::joining::host_name;
use machine::paths::Paths;

/// Tells whether there is a vault from an earlier run.
///
/// # Errors
/// If its pins are damaged.
pub fn is_joined(paths: &Paths) -> Result<bool> {
    Ok(Pins::load(paths)?.is_some())
}

/// Makes the server's data and keeps its setup line. Data without a setup line are of a start that
/// was interrupted before any vault could be made with them: they are made again.
///
/// # Errors
/// If `vault-server init` fails.
pub fn make_server(program: &Path, folder: &Folder) -> Result<()> {
    if read_line(&folder.setup_line())?.is_some() {
        return Ok(());
    }
    let data = folder.server();
    if data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| format!("removing `{}`", data.display()))?;
    }
    let mut init = Command::new(program);
    init.arg("init").arg("--data").arg(&data).args(["--listen", "127.0.0.1:0"]);
    init.env_remove("VAULT_SERVER_CONFIG").env_remove("VAULT_SERVER_DATA").stdin(Stdio::null());
    let output = init.output().with_context(|| format!("starting `{}`", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(Failure::local(format!("`vault-server init` failed: {}", said.trim())));
    }
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    parsed(SetupLine::from_line(&line))?;
    files::replace(&folder.setup_line(), format!("{line}\n").as_bytes(), files::Access::PRIVATE)?;
    Ok(())
}

/// Makes the vault on the server that runs at `address`, or goes on with an interrupted making.
///
/// # Errors
/// As `vault init`.
pub async fn make_vault(
    address: &str,
    folder: &Folder,
    paths: &Paths,
    global: &Global,
) -> Result<()> {
    let Some(line) = read_line(&folder.setup_line())? else {
        bail!(
            Failure::local(format!("`{}` has no setup line", folder.path.display()))
                .hint("remove the folder and start again")
        );
    };
    let mut setup = parsed(SetupLine::from_line(&line))?;
    setup.addresses = vec![address.to_owned()];
    folder.make_passphrase()?;
    let kit = folder.at("kit.txt");
    if Unfinished::load(paths)?.is_none() {
        // The kit of an attempt that never reached the server opens nothing.
        files::remove(&kit)?;
    }
    let wish = Wish {
        setup,
        host: parsed(host_name().unwrap_or_else(|_| "dev".to_owned()).parse())?,
        vault_name: parsed("dev".parse())?,
        admin: parsed("admin".parse())?,
    };
    let keeping = Keeping {
        passphrase: Source::File(folder.passphrase()),
        work: Work::Little,
        kit: Some(kit),
        kit_confirmed: true,
    };
    set_up(wish, &keeping, paths, global).await?;
    files::remove(&folder.setup_line())?;
    Ok(())
}
