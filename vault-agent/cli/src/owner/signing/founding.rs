//! Founding a vault: genesis and entry 1, and the file that makes a second attempt safe. Posting
//! them and asking people lives in `cli::init`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{SignKey, random};
use shared::log::{Entry, Genesis, NewMachine, Op, apply, start};
use shared::name::{Actor, Name};
use shared::signed::{Envelope, Purpose, VaultId};
use shared::time::Time;
use shared::token::{MachineLine, SetupLine};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::GenesisRequest;

use super::kit::Kit;
use host::files;
use machine::paths::Paths;

/// What a new vault is made from.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The server's setup line.
    pub setup: &'a SetupLine,
    /// The vault's name.
    pub vault_name: Name,
    /// The first admin.
    pub admin: Name,
    /// The first machine: this one.
    pub machine: MachineLine,
    /// The current time.
    pub now: Time,
}

/// The first two records of a vault, signed.
#[derive(Debug)]
pub struct Founded {
    /// The vault's id.
    pub vault: VaultId,
    /// Genesis and entry 1.
    pub request: GenesisRequest,
}

/// Signs the genesis with the kit's root secret, and as the new admin entry 1, which adds this
/// machine with all rights; then applies both as the server will.
///
/// # Errors
/// If a rule of the log forbids them.
pub fn found(plan: &Plan<'_>, kit: &Kit, admin_key: &SignKey) -> Result<Founded> {
    let genesis = Genesis {
        v: 1,
        name: plan.vault_name.clone(),
        nonce: Hash::from_bytes(*random()),
        time: plan.now,
        root: kit.root_key(),
        recovery: kit.recovery(),
        admins: BTreeMap::from([(plan.admin.clone(), admin_key.verify_key())]),
        server: vec![plan.setup.server.clone()],
        mounts: vec!["secret".parse()?],
    };
    let genesis = Envelope::sign(&kit.root, Actor::Root, Purpose::Genesis, &genesis)?;
    let vault = genesis.hash(Purpose::Genesis);
    let everything = Grants::parse(&["*"])?;
    let by = Actor::Admin(plan.admin.clone());
    let entry = Entry {
        seq: 1,
        prev: vault,
        time: plan.now,
        by: by.clone(),
        ops: vec![Op::MachineAdd(NewMachine {
            name: plan.machine.name.clone(),
            recipient: plan.machine.recipient.clone(),
            sign: plan.machine.sign.clone(),
            read: everything.clone(),
            write: everything,
        })],
    };
    let entry = Envelope::sign(admin_key, by, Purpose::Entry(vault), &entry)?;
    let mut state = start(&genesis)?;
    apply(&mut state, &entry)?;
    Ok(Founded { vault, request: GenesisRequest { claim: plan.setup.claim, genesis, entry } })
}

/// A set-up between the kit and the pins: all that a second attempt needs if the first ended
/// before it was known whether the server took the genesis. No secret but what the passphrase
/// protects.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// Format, 1.
    pub v: u32,
    /// When it was begun.
    pub begun: Time,
    /// The setup line in use.
    pub setup: SetupLine,
    /// The first admin.
    pub admin: Name,
    /// The content of the admin file.
    pub admin_file: Inline,
    /// This machine's name.
    pub host: Name,
    /// The vault.
    pub vault: VaultId,
    /// What is posted, byte for byte.
    pub request: GenesisRequest,
}

impl Unfinished {
    fn place(paths: &Paths) -> PathBuf {
        paths.state.join("init.json")
    }

    /// Reads what an earlier attempt left, if it left something.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn load(paths: &Paths) -> Result<Option<Self>> {
        let path = Self::place(paths);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(None),
            Err(fault) => return Err(fault).context(format!("reading `{}`", path.display())),
        };
        let read: Self = serde_json::from_slice(&text)
            .with_context(|| format!("`{}` is damaged", path.display()))?;
        if read.v != 1 {
            return Err(anyhow!("`{}` has format {}", path.display(), read.v));
        }
        Ok(Some(read))
    }

    /// Writes the file, durably.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn store(&self, paths: &Paths) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing the set-up as JSON")?;
        files::replace(&Self::place(paths), &text, files::Access::PRIVATE)?;
        Ok(())
    }

    /// Removes the file: the set-up is finished, or void.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(paths: &Paths) -> Result<()> {
        files::remove(&Self::place(paths))?;
        Ok(())
    }

    /// Tells people where the file is.
    #[must_use]
    pub fn shown(paths: &Paths) -> String {
        Self::place(paths).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use shared::keys::Identity;

    use super::*;

    fn setup() -> SetupLine {
        SetupLine {
            addresses: vec!["127.0.0.1:8443".into()],
            server: SignKey::generate().verify_key(),
            claim: Hash::of(&[b"claim"]),
        }
    }

    fn plan(setup: &SetupLine) -> Plan<'_> {
        let machine = MachineLine {
            name: "rtx1080".parse().unwrap(),
            recipient: Identity::generate().recipient(),
            sign: SignKey::generate().verify_key(),
        };
        Plan {
            setup,
            vault_name: "homelab".parse().unwrap(),
            admin: "jonas".parse().unwrap(),
            machine,
            now: Time::from_micros(1),
        }
    }

    #[test]
    fn the_first_machine_may_do_everything_and_the_kit_is_root() {
        let (kit, admin, setup) = (Kit::generate(), SignKey::generate(), setup());
        let founded = found(&plan(&setup), &kit, &admin).unwrap();
        let mut state = start(&founded.request.genesis).unwrap();
        apply(&mut state, &founded.request.entry).unwrap();
        assert_eq!((state.vault(), state.seq()), (founded.vault, 1));
        let host = state.machine(&"rtx1080".parse().unwrap()).unwrap();
        assert_eq!((host.read.to_string(), host.write.to_string()), ("*".into(), "*".into()));
        assert_eq!(state.key(&Actor::Root), Some(&kit.root_key()));
        assert_eq!(state.server(), std::slice::from_ref(&setup.server));
        assert_eq!(founded.request.claim, setup.claim);
    }

    #[test]
    fn an_unfinished_set_up_reads_back_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(Some(dir.path().join("state")), None).unwrap();
        files::create_dir_private(&paths.state).unwrap();
        assert!(Unfinished::load(&paths).unwrap().is_none());
        let (kit, admin, setup) = (Kit::generate(), SignKey::generate(), setup());
        let founded = found(&plan(&setup), &kit, &admin).unwrap();
        let unfinished = Unfinished {
            v: 1,
            begun: Time::from_micros(1),
            setup,
            admin: "jonas".parse().unwrap(),
            admin_file: Inline(vec![1, 2]),
            host: "rtx1080".parse().unwrap(),
            vault: founded.vault,
            request: founded.request,
        };
        unfinished.store(&paths).unwrap();
        let read = Unfinished::load(&paths).unwrap().unwrap();
        assert_eq!(read.request.genesis, unfinished.request.genesis);
        let text = fs::read_to_string(Unfinished::place(&paths)).unwrap();
        assert!(!text.contains(kit.root.to_text().as_str()));
        Unfinished::remove(&paths).unwrap();
        assert!(Unfinished::load(&paths).unwrap().is_none());
    }
}
