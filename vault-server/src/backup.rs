//! `vault-server backup`: one file that holds all that a server keeps but its key, made while it
//! runs, and looked through before it counts. In a folder the newest few are kept. When backups are
//! due is `serve`'s.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use host::files::{self, Access};
use host::hint::hinted;
use shared::head::SignedHead;
use shared::signed::VaultId;
use shared::time::Time;

use crate::check::{Looked, Sealed, look};
use crate::store::headfile::{self, HeadFile};
use crate::store::{Connection, Fault, Source, copy, log, schema, segment};

/// How the name of a backup in a folder ends.
const END: &str = ".backup";

/// A backup that was made.
pub struct Made {
    /// The file.
    pub file: PathBuf,
    /// What is in it.
    pub looked: Looked,
    /// Older ones that were deleted.
    pub deleted: usize,
}

/// Makes a backup of the server in `data` whose database is `source`: as the file `to`, or as a new
/// one in the folder `to`, of which the newest `keep` stay. `at` is told how far the look through
/// it is.
///
/// # Errors
/// If there is no vault, something else has the file's name, or the backup cannot be written or is
/// not whole: there is then no new file, and no old one is gone.
pub fn backup(
    source: &Source,
    data: &Path,
    to: &Path,
    keep: usize,
    now: Time,
    at: &mut dyn FnMut(usize, usize, &str),
) -> Result<Made> {
    let database = source.open_source()?;
    let Some(genesis) = log::hash_at(&database, 0).context("cannot read the log")? else {
        return Err(hinted(
            format!("`{source}` holds no vault yet: there is nothing to back up"),
            "`vault init` with the setup line makes the vault",
        ));
    };
    let is_folder = to.is_dir();
    let file = if is_folder { to.join(name(genesis, now)) } else { to.to_owned() };
    let access = check_place(data, &file, genesis)?;
    if is_folder {
        sweep(to, genesis)?;
    }
    let mut looked = None;
    files::make(&file, access, |new| -> Result<()> {
        copy::write(&database, new)?;
        // Read after the copy was made: it is not behind that.
        let head = HeadFile::newest(&data.join(headfile::FILE))?;
        looked = Some(complete(&database, new, data, head, at)?);
        Ok(())
    })
    .map_err(|why| if is_full(&why) { no_room(&file) } else { why })?;
    let deleted = if is_folder { prune(to, genesis, &file, keep)? } else { 0 };
    let looked = looked.context("the backup was not looked through")?;
    Ok(Made { file, looked, deleted })
}

/// Tells whether a backup failed for want of room.
fn is_full(why: &anyhow::Error) -> bool {
    why.chain().any(|cause| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        Fault::is_full_disk(cause) || kind == Some(ErrorKind::StorageFull)
    })
}

fn no_room(file: &Path) -> anyhow::Error {
    let why = format!("no backup `{}` is made: its disk is full", file.display());
    hinted(why, "make room there, or keep fewer by --keep; those of before are as they were")
}

/// Puts into a new copy what belongs to it, and looks through all of it.
fn complete(
    database: &Connection,
    new: &Path,
    data: &Path,
    head: Option<SignedHead>,
    at: &mut dyn FnMut(usize, usize, &str),
) -> Result<Looked> {
    let Some(head) = head else {
        return Err(hinted(
            format!("there is no file `{}` in `{}`", headfile::FILE, data.display()),
            "start the server once: it writes it",
        ));
    };
    let copied = schema::open_copy(new)?;
    copy::mark(&copied, head).context("cannot mark the backup")?;
    if !database.holds_archive() {
        copy::pack(&copied, &data.join(segment::FOLDER))?;
    }
    look(&copied, &Sealed::Packed, at).context("the backup is not whole")
}

/// Refuses a place where a backup would do harm or no good; returns whose it is to be there.
fn check_place(data: &Path, file: &Path, vault: VaultId) -> Result<Access> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let real = |path: &Path| {
        path.canonicalize().with_context(|| format!("cannot look at `{}`", path.display()))
    };
    let (folder, data) = (real(folder)?, real(data)?);
    if folder.starts_with(&data) {
        let why = format!("`{}` is in the server's own data directory", file.display());
        return Err(hinted(why, "choose a folder on another disk, or of another host"));
    }
    let access = access_in(&folder, &data)?;
    let Ok(found) = file.symlink_metadata() else { return Ok(access) };
    if found.is_symlink() {
        let why =
            format!("`{}` is a link, and only what it names could be a backup", file.display());
        return Err(hinted(why, "name that file itself, or a folder"));
    }
    // An older backup of the same vault may go; nothing else.
    let found = schema::open_source(file)
        .and_then(|old| Ok(log::hash_at(&old, 0)? == Some(vault) && segment::is_packed(&old)?));
    if found.is_ok_and(|is_old| is_old) {
        return Ok(access);
    }
    let why = format!("`{}` is there, and is no backup of this vault", file.display());
    Err(hinted(why, "choose another name, or a folder"))
}

/// Returns whose a backup is in a folder: its user's. Root writes into none whose owner could have
/// it write elsewhere.
fn access_in(folder: &Path, data: &Path) -> Result<Access> {
    let look = |path: &Path| {
        path.metadata().with_context(|| format!("cannot look at `{}`", path.display()))
    };
    let (found, own) = (look(folder)?, look(data)?.uid());
    if !rustix::process::geteuid().is_root() || found.uid() == 0 {
        return Ok(Access::PRIVATE);
    }
    if found.uid() == own {
        return Ok(Access { uid: Some(own), gid: Some(found.gid()), ..Access::PRIVATE });
    }
    let (shown, uid) = (folder.display(), found.uid());
    let why = format!("folder `{shown}` is user {uid}'s, who could have root write elsewhere");
    Err(hinted(why, "choose a folder of root's, or of the user who runs the server"))
}

fn start(vault: VaultId) -> String {
    format!("vault-{}-", vault.short())
}

/// Names a backup by its vault and time, so that names sort by age.
fn name(vault: VaultId, now: Time) -> String {
    format!("{}{}{END}", start(vault), now.to_string().replace(':', "-"))
}

/// Lists a folder's backups of a vault, oldest first.
fn list(folder: &Path, vault: VaultId) -> Result<Vec<PathBuf>> {
    let start = start(vault);
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read folder `{}`", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(&start) && name.ends_with(END) {
            found.push(folder.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes what killed backups of a vault have left in a folder.
fn sweep(folder: &Path, vault: VaultId) -> Result<()> {
    let start = format!(".{}", start(vault));
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read folder `{}`", folder.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(&start)) else { continue };
        let Some(at) = name.find(END) else { continue };
        let killed = folder.join(&name[1..at + END.len()]);
        files::sweep_trusted(&killed)?;
        copy::clear_beside(&files::being_made(&killed))?;
    }
    Ok(())
}

/// Deletes all backups of a vault in a folder but `made` and the newest others, `keep` in all;
/// returns how many went. Names later than that of `made` are from a clock that ran ahead: they go
/// first.
fn prune(folder: &Path, vault: VaultId, made: &Path, keep: usize) -> Result<usize> {
    let mut found = list(folder, vault)?;
    let ahead = found.partition_point(|file| file.as_path() <= made);
    found.rotate_left(ahead);
    let old = found.len().saturating_sub(keep.max(1));
    for file in &found[..old] {
        files::remove_trusted(file)?;
    }
    Ok(old)
}

/// Returns how old the newest backup of a vault in a folder is, if there is one. Those from a clock
/// that ran ahead do not count.
///
/// # Errors
/// If the folder cannot be read.
pub fn age(folder: &Path, vault: VaultId) -> Result<Option<Duration>> {
    let mut ages = Vec::new();
    for file in list(folder, vault)? {
        let modified = file.metadata().and_then(|found| found.modified());
        let modified = modified.with_context(|| format!("cannot look at `{}`", file.display()))?;
        ages.extend(modified.elapsed());
    }
    Ok(ages.into_iter().min())
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;

    use super::*;

    #[test]
    fn the_backup_just_made_stays_and_names_of_a_clock_that_ran_ahead_go_first() {
        let vault = Hash::of(&[b"vault"]);
        let check = |keep: usize, left: &[u16]| {
            let dir = tempfile::tempdir().unwrap();
            let file = |year: &u16| {
                dir.path().join(format!("{}{year}-01-01T00-00-00Z{END}", start(vault)))
            };
            let years = [2024, 2025, 2026, 2031, 2032];
            for year in &years {
                files::write_private(&file(year), b"").unwrap();
            }
            let went = prune(dir.path(), vault, &file(&2026), keep).unwrap();
            assert_eq!(went, years.len() - left.len(), "{keep}");
            let left: Vec<PathBuf> = left.iter().map(file).collect();
            assert_eq!(list(dir.path(), vault).unwrap(), left, "{keep}");
        };
        check(0, &[2026]);
        check(1, &[2026]);
        check(2, &[2025, 2026]);
        check(3, &[2024, 2025, 2026]);
        check(4, &[2024, 2025, 2026, 2032]);
        check(9, &[2024, 2025, 2026, 2031, 2032]);
    }
}
