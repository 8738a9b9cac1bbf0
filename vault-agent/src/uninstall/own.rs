//! Which files of the state folder are the agent's, and removing those alone: people choose that
//! folder by `--state`, and may keep anything else in it.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use machine::paths::Paths;

use host::term::Term;

/// What agent and command line write into the state folder; pins come last.
const FILES: [&str; 30] = [
    "agent.db",
    "agent.db-journal",
    "agent.db-shm",
    "agent.db-wal",
    "agent.log",
    "agent.log.old",
    "agent.pid",
    "agent.sock",
    "credentials.sock",
    "identity/age.key",
    "identity/age.key.sealed",
    "identity/rekeyed.json",
    "identity/sign.key",
    "identity/sign.key.sealed",
    "init.json",
    "kit-shown.json",
    "names.json",
    "renewal.json",
    "run/agent.log",
    "run/agent.log.old",
    "run/agent.pid",
    "setup.json",
    "sources-confirmed.json",
    "sources.json",
    "targets.json",
    "token",
    "tokens.json",
    "turn.lock",
    "agent.toml",
    "pins.json",
];

/// Folders with one record for each file that was written, named by a hash.
const RECORDS: [&str; 2] = ["written", "vault/written"];

/// What is left of keys that were made beside those of this host, once they are wiped.
const REKEY: [&str; 5] =
    ["agent.db", "agent.db-journal", "agent.db-shm", "agent.db-wal", "pins.json"];

/// Acts that were begun, each with the only copy of an admin's key in it.
const BEGUN: [&str; 2] = ["appointing.json", "recovering.json"];

/// Folders that go once they are empty, inner ones first.
const FOLDERS: [&str; 8] =
    ["identity", "admin", "written", "vault/written", "vault", "run", "rekey/identity", "rekey"];

/// A server's own, with which the vault would be lost.
const SERVER: [&str; 4] = ["server.key", "server.key.sealed", "server.lock", "vault.db"];

/// Most of what stays that is named.
const NAMED: usize = 8;

/// Finds an act that was begun, and holds an admin's key that may be nowhere else.
pub(super) fn begun(state: &Path) -> Option<PathBuf> {
    BEGUN.map(|name| state.join(name)).into_iter().find(|file| file.symlink_metadata().is_ok())
}

/// Looks for a server's data in the state folder and anywhere below it.
///
/// # Errors
/// If a folder cannot be read.
pub(super) fn server_below(state: &Path) -> Result<Option<PathBuf>> {
    let mut folders = vec![state.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder).with_context(|| format!("reading `{}`", folder.display()))? {
            if SERVER.iter().any(|name| path.file_name() == Some(OsStr::new(name))) {
                return Ok(Some(path));
            }
            if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                folders.push(path);
            }
        }
    }
    Ok(None)
}

/// Removes the agent's own files from its state folder, and the folder if nothing else is in it;
/// names what stays.
///
/// # Errors
/// If a file cannot be removed; running it again goes on there.
pub(super) fn remove(paths: &Paths, term: &Term) -> Result<()> {
    let state = &paths.state;
    if !state.exists() {
        return Ok(());
    }
    for folder in RECORDS.map(|name| state.join(name)) {
        let all = entries(&folder).with_context(|| format!("reading `{}`", folder.display()))?;
        for file in all.iter().filter(|file| is_record(file)) {
            remove_file(file)?;
        }
    }
    // An unfinished copy of what was never begun.
    for file in BEGUN.map(|name| state.join(name)) {
        remove_file(&temporary(&file))?;
    }
    let rekey = REKEY.map(|name| state.join("rekey").join(name));
    for file in rekey.into_iter().chain(FILES.map(|name| state.join(name))) {
        remove_file(&temporary(&file))?;
        remove_file(&file)?;
    }
    for folder in FOLDERS {
        remove_folder(&state.join(folder))?;
    }
    if remove_folder(state)? {
        term.say(format!("removed: `{}`", state.display()));
        return Ok(());
    }
    let shown = state.display();
    if is_empty(state)? {
        term.say(format!("emptied: `{shown}`, which stays, as something is mounted there"));
        return Ok(());
    }
    let all = entries(state).with_context(|| format!("reading `{}`", state.display()))?;
    let mut names: Vec<String> =
        all.iter().take(NAMED).map(|path| format!("`{}`", path.display())).collect();
    if all.len() > NAMED {
        names.push(format!("{} more", all.len() - NAMED));
    }
    term.say(format!("kept, as it is not the agent's: {}", names.join(", ")));
    Ok(())
}

/// Removes the folder of the keys and the state folder, unless anything is in them.
///
/// # Errors
/// If an empty one cannot be removed.
pub(super) fn remove_empty(paths: &Paths) -> Result<()> {
    for folder in [paths.identity(), paths.state.clone()] {
        remove_folder(&folder)?;
    }
    Ok(())
}

fn is_empty(folder: &Path) -> Result<bool> {
    let all = entries(folder).with_context(|| format!("reading `{}`", folder.display()))?;
    Ok(all.is_empty())
}

/// Returns what is in a folder, sorted; nothing if there is none.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let found = match folder.read_dir() {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut paths: Vec<_> = found.map(|it| Ok(it?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// Returns the name beside a file that a killed writer may have left.
fn temporary(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.vault-new"))
}

/// Tells whether it is named by a hash, as records and their temporary names are.
fn is_record(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_prefix('.').and_then(|it| it.strip_suffix(".vault-new")).unwrap_or(&name);
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn remove_file(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(why) if !matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(why).with_context(|| format!("cannot remove `{}`", file.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a folder that is empty and no mount point; tells whether it is gone.
fn remove_folder(folder: &Path) -> Result<bool> {
    match std::fs::remove_dir(folder) {
        Ok(()) => Ok(true),
        Err(why) => match why.kind() {
            ErrorKind::NotFound => Ok(true),
            ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory | ErrorKind::ResourceBusy => {
                Ok(false)
            }
            _ => Err(why).with_context(|| format!("cannot remove `{}`", folder.display())),
        },
    }
}
