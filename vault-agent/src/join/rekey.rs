//! New keys for a host that is in a vault. They are made in a folder beside those that it has,
//! which hold until the vault knows the new ones; then the two folders change places in one step.
//! It is over once an agent runs with them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use shared::name::Name;
use shared::signed::VaultId;
use shared::token::{Line as _, MachineLine};

use host::files::{self, Access, FolderLock};
use host::hint::{hinted, parsed};
use host::systemd::Credential;
use machine::identity::{Key, MachineKeys, Pins, load_json};
use machine::paths::Paths;

/// Returns where the next keys are: a state folder of its own.
pub(super) fn next(paths: &Paths) -> Paths {
    let state = paths.state.join("rekey");
    let (config, socket) = (paths.config.clone(), state.join("agent.sock"));
    Paths { state, config, socket, elsewhere: None, given: None }
}

/// Tells whether next keys were made, and have not taken over for good.
pub(super) fn is_begun(paths: &Paths) -> bool {
    MachineKeys::exist(&next(paths))
}

/// Waits for what else is done about keys on this host, as by a command that was given up.
///
/// # Errors
/// If the state folder cannot be locked.
pub(super) fn in_turn(paths: &Paths) -> Result<FolderLock> {
    Ok(files::lock_folder(&paths.identity())?)
}

/// Makes the next keys, unless they are there, and returns their line: that of those which have
/// taken over, as long as no agent has run with them.
///
/// # Errors
/// If this host belongs to no vault.
pub(super) fn make(name: Option<Name>, paths: &Paths) -> Result<MachineLine> {
    let Some(pins) = Pins::load(paths)? else {
        bail!(hinted(
            "this host belongs to no vault: it has no keys to replace",
            "run `vault-agent init` without --rekey"
        ));
    };
    let _turn = in_turn(paths)?;
    if let Some(line) = load_json::<String>(&note(paths))? {
        return Ok(parsed(MachineLine::from_line(&line))?);
    }
    let next = next(paths);
    if !MachineKeys::exist(&next) && next.state.exists() {
        remove(&next)?;
    }
    files::create_dir_private(&next.state)?;
    Ok(parsed(MachineKeys::load_or_create(&next)?.line(name.unwrap_or(pins.name)))?)
}

/// Tells whether systemd keeps the keys of this host sealed.
pub(super) fn is_sealed(paths: &Paths) -> bool {
    Key::ALL.iter().any(|key| key.sealed(paths).exists())
}

/// Tells whether the next keys have taken over already, and only the old ones are left to be wiped.
pub fn have_taken_over(paths: &Paths) -> bool {
    note(paths).exists()
}

/// Refuses pins of another vault than this host's.
pub(super) fn demand_vault(vault: VaultId, paths: &Paths) -> Result<()> {
    match Pins::load(paths)? {
        Some(pins) if pins.vault == vault => Ok(()),
        Some(_) | None => Err(hinted(
            "the line is for another vault than the one whose keys are to be replaced here",
            "copy the line that `vault machine rekey` printed",
        )),
    }
}

/// Puts the next keys in the place of those that this host has, in one step; sealed, if those are.
///
/// # Errors
/// If systemd does not seal them, or the folders do not change places: the keys of before hold.
pub(super) fn exchange(name: Name, paths: &Paths) -> Result<()> {
    let next = next(paths);
    let line = parsed(MachineKeys::load(&next)?.line(name))?.to_line()?;
    if is_sealed(paths) {
        sealing(&next).iter().try_for_each(Credential::seal)?;
    }
    let text = serde_json::to_vec(&line).context("writing a line as JSON")?;
    // It goes with them, so that a second attempt knows which keys are which.
    files::replace_trusted(&note(&next), &text, Access::PRIVATE)?;
    Ok(files::exchange_folders(&paths.identity(), &next.identity())?)
}

/// Wipes the old keys, and the new ones where they lie open beside their sealed ones.
///
/// # Errors
/// If they cannot be overwritten or removed.
pub(super) fn clear(paths: &Paths) -> Result<()> {
    if is_sealed(paths) && have_taken_over(paths) {
        sealing(paths).iter().try_for_each(Credential::wipe)?;
    }
    remove(&next(paths))
}

/// Notes that an agent runs with the keys that have taken over, if any have: whatever follows is
/// another renewal.
///
/// # Errors
/// If the old keys cannot be wiped, or the note cannot be removed.
pub fn settle(paths: &Paths) -> Result<()> {
    if have_taken_over(paths) {
        let _turn = in_turn(paths)?;
        clear(paths)?;
        files::remove_trusted(&note(paths))?;
    }
    Ok(())
}

fn sealing(paths: &Paths) -> [Credential; 2] {
    Key::ALL.map(|key| Credential {
        name: key.credential(),
        open: key.file(paths),
        sealed: key.sealed(paths),
    })
}

fn remove(next: &Paths) -> Result<()> {
    let (folder, keys) = (&next.state, next.identity());
    let why = || format!("cannot remove `{}`", folder.display());
    if keys.exists() {
        files::wipe_folder(&keys).with_context(why)?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(why)?;
    }
    Ok(())
}

/// Beside the keys that have taken over: their line.
fn note(paths: &Paths) -> PathBuf {
    paths.identity().join("rekeyed.json")
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::keys::SignKey;

    use super::*;

    /// A host of a vault.
    fn host(dir: &tempfile::TempDir) -> Paths {
        let paths = Paths::resolve(Some(dir.path().join("state")), None).unwrap();
        MachineKeys::create(&paths).unwrap();
        let server = vec![SignKey::generate().verify_key()];
        let (vault, name) = (Hash::of(&[b"vault"]), "vps".parse().unwrap());
        Pins { vault, server, name, addresses: Vec::new(), checkpoint: None }
            .store(&paths)
            .unwrap();
        paths
    }

    #[test]
    fn the_old_keys_hold_until_the_new_ones_take_over_whole() {
        let dir = tempfile::tempdir().unwrap();
        let paths = host(&dir);
        let own = || MachineKeys::load(&paths).unwrap().sign.verify_key();
        let old = own();
        let line = make(None, &paths).unwrap();
        assert_eq!(make(None, &paths).unwrap(), line, "the same line again");
        assert!(is_begun(&paths) && !have_taken_over(&paths));
        assert_eq!((own(), line.name.as_str()), (old.clone(), "vps"));
        exchange(line.name.clone(), &paths).unwrap();
        // Killed before the old ones were wiped.
        assert!(is_begun(&paths) && have_taken_over(&paths));
        assert_eq!(own(), line.sign);
        assert_eq!(MachineKeys::load(&next(&paths)).unwrap().sign.verify_key(), old);
        clear(&paths).unwrap();
        assert!(!is_begun(&paths) && !next(&paths).state.exists());
        assert_eq!(make(None, &paths).unwrap(), line, "no agent has run with them");
        settle(&paths).unwrap();
        assert_ne!(make(None, &paths).unwrap().sign, line.sign);
        assert!(!have_taken_over(&paths));
        settle(&paths).unwrap();
        assert!(is_begun(&paths), "an agent that starts wipes no next keys");
    }

    #[test]
    fn what_a_killed_wiping_left_is_no_next_key() {
        let dir = tempfile::tempdir().unwrap();
        let paths = host(&dir);
        let line = make(None, &paths).unwrap();
        exchange(line.name.clone(), &paths).unwrap();
        fs::remove_dir_all(next(&paths).identity()).unwrap();
        assert!(!is_begun(&paths));
        // An agent that starts now finishes it.
        settle(&paths).unwrap();
        assert!(!next(&paths).state.exists());
        assert_ne!(make(None, &paths).unwrap().sign, line.sign);
        assert!(!have_taken_over(&paths));
    }

    #[test]
    fn other_vaults_and_hosts_without_one_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let bare = Paths::resolve(Some(dir.path().join("bare")), None).unwrap();
        assert!(make(None, &bare).unwrap_err().to_string().contains("belongs to no vault"));
        let paths = host(&dir);
        demand_vault(Hash::of(&[b"vault"]), &paths).unwrap();
        assert!(demand_vault(Hash::of(&[b"other"]), &paths).is_err());
    }
}
