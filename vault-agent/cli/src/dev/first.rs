//! The first start of `vault dev`: the server's data, then a vault in it, without asking anything.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use shared::token::{Line as _, SetupLine};

use super::folder::{Folder, PASSPHRASE, SERVER, SETUP_LINE, read_line};
use crate::context::Global;
use crate::owner::init::{Here, Keeping, set_up};
use crate::owner::signing::admin::Work;
use crate::owner::signing::founding::{Unfinished, Wish};
use crate::owner::signing::passphrase::Source;
use host::files;
use host::hint::{hinted, parsed};
use machine::joining::host_name;
use machine::paths::Paths;

/// Makes the server's data and keeps its setup line. Data without a setup line are of a start that
/// was interrupted before any vault could be made with them: they are made again.
pub fn make_server(program: &Path, folder: &Folder) -> Result<()> {
    if read_line(&folder.at(SETUP_LINE))?.is_some() {
        return Ok(());
    }
    let data = folder.at(SERVER);
    if data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| format!("removing `{}`", data.display()))?;
    }
    let mut init = Command::new(program);
    init.arg("init").arg("--data").arg(&data).args(["--listen", "127.0.0.1:0"]);
    init.env_remove("VAULT_SERVER_CONFIG").env_remove("VAULT_SERVER_DATA").stdin(Stdio::null());
    let output = init.output().with_context(|| format!("starting `{}`", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`vault-server init` failed: {}", said.trim());
    }
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    parsed(SetupLine::from_line(&line))?;
    files::replace(&folder.at(SETUP_LINE), format!("{line}\n").as_bytes(), files::Access::PRIVATE)?;
    Ok(())
}

/// Makes the vault on the server that runs at `address`, or goes on with an interrupted making.
pub async fn make_vault(
    address: &str,
    folder: &Folder,
    paths: &Paths,
    global: &Global,
) -> Result<()> {
    let Some(line) = read_line(&folder.at(SETUP_LINE))? else {
        let text = format!("`{}` has no setup line", folder.path.display());
        return Err(hinted(text, "remove the folder and start again"));
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
        passphrase: Source::File(folder.at(PASSPHRASE)),
        work: Work::Little,
        kit: Some(kit),
        html: false,
        kit_confirmed: true,
        chosen: None,
    };
    set_up(wish, &keeping, &Here::default(), paths, global).await?;
    files::remove(&folder.at(SETUP_LINE))?;
    Ok(())
}
