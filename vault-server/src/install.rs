//! `vault-server install`: the server's user, its unit for systemd, and a start. What stands in the unit, and how systemd is
//! asked, have files of their own.

mod account;
mod unit;

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use host::systemd::{self, Found, compare, marked};

use crate::config::{Config, Places, home};
use crate::datadir::{self, create_private, sync_dir};
use host::hint::hinted;

pub use unit::Whose;
use unit::{Facts, USER};

const UNIT: &str = "vault-server.service";

/// Where the host's units are that an administrator writes.
const HOST: &str = "/etc/systemd/system";

/// What is to be done.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Install for this user alone, without root
    #[arg(long)]
    user: bool,
    /// Print the unit and touch nothing
    #[arg(long, conflicts_with_all = ["root", "force", "no_start", "seal_key"])]
    print: bool,
    /// Write the unit below this folder and ask systemd nothing, as packagers do
    #[arg(long, value_name = "DIR", conflicts_with = "seal_key")]
    root: Option<PathBuf>,
    /// Replace a unit that somebody has written or edited; the old one is kept beside it
    #[arg(long)]
    force: bool,
    /// Have it start with the host, but not now
    #[arg(long, conflicts_with = "seal_key")]
    no_start: bool,
    /// Have systemd seal the server key, and remove its file once the server runs without
    #[arg(long, conflicts_with = "user")]
    seal_key: bool,
}

impl Options {
    /// Tells for whom.
    #[must_use]
    pub fn whose(&self) -> Whose {
        if self.user { Whose::User } else { Whose::Host }
    }
}

/// Writes the unit, and has systemd start it; returns what is to be printed.
///
/// # Errors
/// If there is no server yet, somebody has edited the unit, or systemd refuses; never with half a unit.
pub fn install(options: &Options, places: &Places, arguments: Vec<String>) -> Result<String> {
    let is_root = rustix::process::geteuid().is_root();
    let offline = options.print || options.root.is_some();
    if !options.user && !is_root && !offline {
        return Err(hinted(
            "only root installs a server for the whole host",
            "run it with `sudo`; or `vault-server install --user` for you alone",
        ));
    }
    let config = match places.read() {
        Ok(config) => Some(config),
        Err(_) if offline && !places.config.exists() => None,
        Err(why) => return Err(why),
    };
    let facts = facts(options, places, arguments, config.as_ref())?;
    if options.print {
        return Ok(marked(USER, &facts.unit()));
    }
    let file = place(options)?;
    let text = marked(USER, &facts.unit());
    // A unit in the way is told before anything is changed.
    look(&file, &text, options.force)?;
    let runs = options.root.is_none() && runs(options.whose());
    if !options.user && options.root.is_none() {
        hand_over(places, &facts.data)?;
    }
    if options.seal_key {
        if !runs {
            return Err(hinted(
                "the key is sealed for a server that systemd starts, and systemd does not run here",
                "`vault-server install` without `--seal-key` writes the unit",
            ));
        }
        seal(&facts.data)?;
    }
    let facts = Facts { sealed: sealed(&facts.data), ..facts };
    let written = write(&file, &marked(USER, &facts.unit()), options.force)?;
    if options.root.is_some() {
        return Ok(String::new());
    }
    if !runs {
        let enable = systemd::line(options.whose(), &["enable", "--now", UNIT]);
        eprintln!("systemd does not run here: nothing is started. Where it does: `{enable}`");
        return Ok(String::new());
    }
    start(options, &facts, written)?;
    if options.seal_key && datadir::wipe_key(&facts.data)? {
        eprintln!("the server key is sealed to this host: its file is wiped");
    }
    Ok(String::new())
}

/// Tells whether that service manager runs here (sd_booted(3)).
fn runs(whose: Whose) -> bool {
    if whose == Whose::Host {
        return Path::new("/run/systemd/system").is_dir();
    }
    let runtime = home("XDG_RUNTIME_DIR", "");
    runtime.is_ok_and(|runtime| runtime.join("systemd/private").exists())
}

fn facts(
    options: &Options,
    places: &Places,
    arguments: Vec<String>,
    config: Option<&Config>,
) -> Result<Facts> {
    let data = config.map_or(&places.data, |config| &config.data).clone();
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    // What lies in a package's folder now will lie in `/`.
    let root = options.root.as_ref().and_then(|root| root.canonicalize().ok());
    let inside = root.and_then(|root| program.strip_prefix(root).map(Path::to_owned).ok());
    let facts = Facts {
        whose: options.whose(),
        program: inside.map_or(program, |inside| Path::new("/").join(inside)),
        arguments,
        sealed: sealed(&data),
        data,
        config: places.config.clone(),
        port: config.map_or(8443, |config| config.listen.port()),
    };
    if let Some(odd) = facts.unnamable() {
        let odd = odd.display().to_string();
        return Err(hinted(
            format!("no unit can name `{}`", odd.escape_debug()),
            "give it a name without control characters, in UTF-8",
        ));
    }
    Ok(facts)
}

/// Returns where the unit belongs, and makes the folder.
fn place(options: &Options) -> Result<PathBuf> {
    let folder = match options.whose() {
        Whose::Host => PathBuf::from(HOST),
        Whose::User => home("XDG_CONFIG_HOME", ".config")?.join("systemd/user"),
    };
    let folder = match &options.root {
        Some(root) => root.join(folder.strip_prefix("/").unwrap_or(&folder)),
        None => folder,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .create(&folder)
        .with_context(|| format!("cannot make folder `{}`", folder.display()))?;
    Ok(folder.join(UNIT))
}

/// Gives data and configuration, made by root, to the server's user, whom it makes if need be.
fn hand_over(places: &Places, data: &Path) -> Result<()> {
    let (uid, gid) = account::account(data)?;
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
    if places.config.starts_with(data) {
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
    share(&places.config, 0o040).with_context(|| cannot(&places.config))?;
    match places.config.parent() {
        Some(folder) => share(folder, 0o010).with_context(|| cannot(folder)),
        None => Ok(()),
    }
}

/// Returns the sealed key, if there is one.
fn sealed(data: &Path) -> Option<(&'static str, PathBuf)> {
    let file = data.join(datadir::SEALED);
    file.exists().then_some((datadir::CREDENTIAL, file))
}

/// Seals the server key if it lies open, and reads it back; the open one stays.
fn seal(data: &Path) -> Result<()> {
    let file = data.join(datadir::SEALED);
    let Some(plain) = datadir::open_key(data)? else {
        return match file.exists() {
            true => Ok(()),
            false => bail!("no server key in `{}`", data.display()),
        };
    };
    let content = systemd::creds("encrypt", datadir::CREDENTIAL, &plain)?;
    let owner = data.metadata().with_context(|| format!("cannot look at `{}`", data.display()))?;
    replace(&file, &content, 0o600)?;
    chown(&file, Some(owner.uid()), Some(owner.gid()))
        .with_context(|| format!("cannot give `{}` its owner", file.display()))?;
    let written =
        std::fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let same =
        systemd::creds("decrypt", datadir::CREDENTIAL, &written).map(|opened| *opened == *plain);
    if !matches!(same, Ok(true)) {
        std::fs::remove_file(&file)
            .with_context(|| format!("cannot remove `{}`", file.display()))?;
        same?;
        bail!("the server key does not open to what was sealed: it stays in its file");
    }
    Ok(())
}

/// Refuses a unit that somebody has edited, unless that is to be replaced; returns what is there.
fn look(file: &Path, text: &str, force: bool) -> Result<(Found, Option<String>)> {
    let shown = file.display();
    if file.is_symlink() {
        let way = format!(
            "if it leads to /dev/null, `systemctl unmask {UNIT}` removes it; else remove it yourself"
        );
        return Err(hinted(format!("`{shown}` is a link"), way));
    }
    let there = match std::fs::read_to_string(file) {
        Ok(text) => Some(text),
        Err(why) if why.kind() == ErrorKind::NotFound => None,
        Err(why) => return Err(why).with_context(|| format!("cannot read `{shown}`")),
    };
    let found = compare(there.as_deref(), text);
    if found == Found::Edited && !force {
        let way = format!(
            "move what it adds to `systemctl edit {UNIT}`; then `vault-server install --force` replaces it, and keeps it as `{UNIT}.old`"
        );
        return Err(hinted(format!("somebody has written or edited `{shown}`"), way));
    }
    Ok((found, there))
}

/// Writes the unit unless it is there; tells whether it was written.
fn write(file: &Path, text: &str, force: bool) -> Result<bool> {
    match look(file, text, force)? {
        (Found::Same, _) => {
            eprintln!("`{}` is right already", file.display());
            return Ok(false);
        }
        (Found::Edited, Some(there)) => {
            let old = file.with_extension("service.old");
            replace(&old, there.as_bytes(), 0o644)?;
            eprintln!("kept: `{}`", old.display());
        }
        (Found::Edited | Found::Absent | Found::Ours, _) => {}
    }
    replace(file, text.as_bytes(), 0o644)?;
    eprintln!("written: `{}`", file.display());
    Ok(true)
}

/// Puts a whole file in the place of another, or of none.
fn replace(file: &Path, content: &[u8], mode: u32) -> Result<()> {
    let fresh = file.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(why) if why.kind() != ErrorKind::NotFound => {
            return Err(why).with_context(|| format!("cannot remove `{}`", fresh.display()));
        }
        Ok(()) | Err(_) => {}
    }
    create_private(&fresh, content)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(mode))
        .and_then(|()| std::fs::rename(&fresh, file))
        .with_context(|| format!("cannot write `{}`", file.display()))?;
    sync_dir(file.parent().unwrap_or(Path::new("/")))
}

/// Has systemd know the unit, start it at boot, and run it now.
fn start(options: &Options, facts: &Facts, written: bool) -> Result<()> {
    let whose = options.whose();
    let enabled = systemd::is(whose, &["is-enabled", "--quiet", UNIT]);
    if written {
        systemd::call(whose, &["daemon-reload"])?;
    }
    if !enabled {
        systemd::call(whose, &["enable", "--quiet", UNIT])?;
    }
    let open = options.seal_key && datadir::open_key(&facts.data)?.is_some();
    if systemd::is(whose, &["is-active", "--quiet", UNIT]) && !written && !open {
        eprintln!(
            "it runs, and starts with the host{}",
            if enabled { ": nothing to do" } else { " now" }
        );
        return Ok(());
    }
    if options.no_start {
        let begin = systemd::line(whose, &["start", UNIT]);
        eprintln!("it starts with the host; now with `{begin}`");
        return Ok(());
    }
    systemd::call(whose, &["restart", UNIT]).map_err(|why| {
        let flag = if options.user { " --user" } else { "" };
        hinted(
            format!("the unit is written, but the server does not start: {why:#}"),
            format!("`journalctl{flag} -u vault-server -n 20` says why"),
        )
    })?;
    eprintln!("it runs, and starts with the host");
    Ok(())
}
