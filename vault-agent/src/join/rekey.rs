//! New keys for a host that is in a vault. They are made in a folder beside those that it has,
//! which hold until the vault knows the new ones; then the two folders change places in one step.

use std::fs;

use anyhow::{Context as _, Result, bail};
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::token::MachineLine;

use host::files::{self, Access};
use host::hint::{hinted, parsed};
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

/// Makes the next keys, unless they are there, and returns their line.
///
/// # Errors
/// If this host belongs to no vault, or systemd keeps its keys sealed.
pub(super) fn make(name: Option<Name>, paths: &Paths) -> Result<MachineLine> {
    let Some(pins) = Pins::load(paths)? else {
        bail!(hinted(
            "this host belongs to no vault: it has no keys to replace",
            "run `vault-agent init` without --rekey"
        ));
    };
    if Key::ALL.iter().any(|key| key.sealed(paths).exists()) {
        bail!(hinted(
            format!("the keys in `{}` are sealed by systemd", paths.identity().display()),
            "move the state away and join anew, as a host that comes back does"
        ));
    }
    let next = next(paths);
    if !MachineKeys::exist(&next) && next.state.exists() {
        remove(&next)?;
    }
    files::create_dir_private(&next.state)?;
    Ok(parsed(MachineKeys::load_or_create(&next)?.line(name.unwrap_or(pins.name)))?)
}

/// Tells whether the next keys have taken over already, and only the old ones are left to be wiped.
pub(super) fn have_taken_over(paths: &Paths) -> Result<bool> {
    let taken: Option<VerifyKey> = load_json(&note(paths))?;
    Ok(taken == Some(MachineKeys::load(paths)?.sign.verify_key()))
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

/// Puts the next keys in the place of those that this host has, in one step.
pub(super) fn exchange(paths: &Paths) -> Result<()> {
    let next = next(paths);
    let key = MachineKeys::load(&next)?.sign.verify_key();
    let text = serde_json::to_vec(&key).context("writing a key as JSON")?;
    // First, so that a second attempt knows which keys are which.
    files::replace_trusted(&note(paths), &text, Access::PRIVATE)?;
    Ok(files::exchange_folders(&paths.identity(), &next.identity())?)
}

/// Wipes the old keys.
pub(super) fn clear(paths: &Paths) -> Result<()> {
    remove(&next(paths))
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

fn note(paths: &Paths) -> std::path::PathBuf {
    next(paths).state.join("taken.json")
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
        Pins { vault, server, name, addresses: Vec::new() }.store(&paths).unwrap();
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
        assert!(is_begun(&paths) && !have_taken_over(&paths).unwrap());
        assert_eq!((own(), line.name.as_str()), (old.clone(), "vps"));
        exchange(&paths).unwrap();
        // Killed before the old ones were wiped.
        assert!(is_begun(&paths) && have_taken_over(&paths).unwrap());
        assert_eq!(own(), line.sign);
        assert_eq!(MachineKeys::load(&next(&paths)).unwrap().sign.verify_key(), old);
        clear(&paths).unwrap();
        assert!(!is_begun(&paths) && !next(&paths).state.exists());
        assert_ne!(make(None, &paths).unwrap().sign, line.sign);
        assert!(!have_taken_over(&paths).unwrap());
    }

    #[test]
    fn what_a_killed_wiping_left_is_no_next_key() {
        let dir = tempfile::tempdir().unwrap();
        let paths = host(&dir);
        make(None, &paths).unwrap();
        exchange(&paths).unwrap();
        fs::remove_dir_all(next(&paths).identity()).unwrap();
        assert!(!is_begun(&paths));
        make(None, &paths).unwrap();
        assert!(!have_taken_over(&paths).unwrap());
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
