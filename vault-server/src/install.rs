//! `vault-server install`: what the server's unit is made from, and the server's user. The text of
//! the unit has a file of its own; how a unit is written and started is `host::systemd`'s.

mod unit;

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use host::hint::hinted;
use host::systemd::{self, Credential, InstallFlags, Program, Whose, failed};
use host::term::Term;

use crate::config::Places;
use crate::datadir;
pub use unit::MALLOC;
use unit::{Server, USER, USUAL};

/// The server's user as sysusers.d(5) has it, in packages and here.
const ACCOUNT: &str = include_str!("../package/sysusers.conf");

/// What is to be done.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    flags: InstallFlags,
    /// Have systemd seal the server key, and remove its file once the server runs without
    #[arg(long, conflicts_with_all = ["user", "print", "root", "no_start"])]
    seal_key: bool,
}

impl Options {
    /// Tells for whom.
    pub fn whose(&self) -> Whose {
        self.flags.whose()
    }
}

/// Writes the unit, and has systemd start it.
///
/// # Errors
/// If there is no server yet, somebody has edited the unit, or systemd refuses; never with half a
/// unit.
pub fn install(
    options: &Options,
    places: &Places,
    arguments: Vec<String>,
    term: &Term,
) -> Result<()> {
    let config = places.config.clone();
    // A unit for another host is made from that host's configuration.
    let there = match &options.flags.root {
        Some(root) if *places == Places::of_host() => places.below(root),
        Some(_) | None => places.clone(),
    };
    let (data, backups, port) = match there.read() {
        Ok(config) => (config.data, config.backup.dir, config.listen.port()),
        Err(_) if options.flags.is_offline() && !there.config.exists() => {
            (places.data.clone(), None, 8443)
        }
        Err(why) => return Err(why.into()),
    };
    let server = Server { whose: options.whose(), arguments, data, config, backups, port };
    systemd::install(&server, &options.flags, options.seal_key, term)
}

impl Program for Server {
    const NAME: &'static str = "vault-server";

    fn unit(&self, program: PathBuf) -> Result<String> {
        systemd::check_names([&program, &self.data, &self.config])?;
        let key = Some(datadir::credential(&self.data)).filter(Credential::is_sealed);
        Ok(self.text(&program, key.as_ref()))
    }

    fn prepare(&self, term: &Term) -> Result<()> {
        match self.whose {
            Whose::Host => hand_over(&self.config, &self.data, term),
            Whose::User => Ok(()),
        }
    }

    fn is_set_up(&self) -> Result<()> {
        let key = datadir::credential(&self.data);
        if !key.is_open() && !key.is_sealed() {
            bail!("there is no server key in `{}`", self.data.display());
        }
        Ok(())
    }

    fn running(&self) -> Option<u32> {
        datadir::holder(&self.data)
    }

    fn credentials(&self) -> Vec<Credential> {
        vec![datadir::credential(&self.data)]
    }
}

/// Gives data and configuration, made by root, to the server's user, whom it makes if need be.
fn hand_over(config: &Path, data: &Path, term: &Term) -> Result<()> {
    let (uid, gid) = account(data, term)?;
    // Another name of a file elsewhere is none of ours.
    let give = |path: &Path| {
        let found = path.symlink_metadata()?;
        let ours = found.is_dir() || found.nlink() == 1;
        if found.uid() == 0 && ours { lchown(path, Some(uid), Some(gid)) } else { Ok(()) }
    };
    let cannot = |path: &Path| format!("cannot give `{}` to user `{USER}`", path.display());
    give(data).with_context(|| cannot(data))?;
    for entry in std::fs::read_dir(data).with_context(|| cannot(data))? {
        let path = entry.with_context(|| cannot(data))?.path();
        give(&path).with_context(|| cannot(&path))?;
    }
    if config.starts_with(data) {
        return Ok(());
    }
    // Read by the server, written by root.
    let share = |path: &Path, bits: u32| {
        let found = path.metadata()?;
        let lacks =
            found.mode() & (bits >> 3) == 0 && (found.gid() != gid || found.mode() & bits == 0);
        if found.uid() != 0 || !lacks {
            return Ok(());
        }
        chown(path, None, Some(gid))?;
        std::fs::set_permissions(path, Permissions::from_mode(found.mode() & 0o7707 | bits))
    };
    share(config, 0o040).with_context(|| cannot(config))?;
    match config.parent() {
        Some(folder) => share(folder, 0o010).with_context(|| cannot(folder)),
        None => Ok(()),
    }
}

/// Returns user and group of the host's server by number; the system's own programs make both if
/// they are not there.
fn account(home: &Path, term: &Term) -> Result<(u32, u32)> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let home = home.display().to_string();
    let line = ACCOUNT.trim_end().replace(USUAL, &home);
    let useradd = "--system --user-group --no-create-home --shell /usr/sbin/nologin --home-dir";
    let ways = [
        ("systemd-sysusers", vec!["--inline", &line]),
        ("useradd", useradd.split(' ').chain([home.as_str(), USER]).collect()),
    ];
    let mut why = String::from("there is neither `systemd-sysusers` nor `useradd`");
    for (program, arguments) in ways {
        match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => match find() {
                Some(found) => {
                    term.say(format!("made user `{USER}`"));
                    return Ok(found);
                }
                None => why = format!("`{program}` has made none"),
            },
            Ok(output) => why = failed(program, &output).to_string(),
            Err(fault) if fault.kind() == ErrorKind::NotFound => {}
            Err(fault) => why = format!("cannot run `{program}`: {fault}"),
        }
    }
    let way = format!("make a system user `{USER}`, and try again");
    Err(hinted(format!("cannot make user `{USER}`: {why}"), way))
}

fn find() -> Option<(u32, u32)> {
    host::account::user(USER).map(|user| (user.uid, user.gid))
}
