//! Founding a vault: genesis and entry 1, and the file that makes a second attempt safe. Posting
//! them lives in `posting`, asking people in `owner::init`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
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
use machine::identity::{MachineKeys, load_json};
use machine::paths::Paths;

/// A vault to be made.
#[derive(Debug)]
pub struct Wish {
    /// Where, and the right to.
    pub setup: SetupLine,
    /// The first machine: this one.
    pub host: Name,
    pub vault_name: Name,
    /// The first admin.
    pub admin: Name,
}

/// Signs the genesis with the kit's root secret, and as the new admin entry 1, which adds this
/// machine with all rights; then applies both as the server will.
///
/// # Errors
/// If a rule of the log forbids them.
pub fn found(
    wish: &Wish,
    keys: &MachineKeys,
    kit: &Kit,
    admin_key: &SignKey,
    now: Time,
) -> Result<(VaultId, GenesisRequest)> {
    let genesis = Genesis {
        v: 1,
        name: wish.vault_name.clone(),
        nonce: Hash::from_bytes(*random()),
        time: now,
        root: kit.root.verify_key(),
        recovery: kit.recovery.recipient(),
        admins: BTreeMap::from([(wish.admin.clone(), admin_key.verify_key())]),
        server: vec![wish.setup.server.clone()],
        mounts: vec!["secret".parse()?],
    };
    let genesis = Envelope::sign(&kit.root, Actor::Root, Purpose::Genesis, &genesis)?;
    let vault = genesis.hash(Purpose::Genesis);
    let everything = Grants::parse(&["*"])?;
    let MachineLine { name, recipient, sign, proof } = keys.line(wish.host.clone())?;
    let by = Actor::Admin(wish.admin.clone());
    let entry = Entry {
        seq: 1,
        prev: vault,
        time: now,
        by: by.clone(),
        ops: vec![Op::MachineAdd(NewMachine {
            name,
            number: 1,
            recipient,
            sign,
            proof,
            read: everything.clone(),
            write: everything,
        })],
    };
    let entry = Envelope::sign(admin_key, by, Purpose::Entry(vault), &entry)?;
    let mut state = start(&genesis)?;
    apply(&mut state, &entry)?;
    Ok((vault, GenesisRequest { claim: wish.setup.claim, genesis, entry }))
}

/// A set-up between the kit and the pins: all that a second attempt needs if the first ended
/// before it was known whether the server took the genesis. No secret but what the passphrase
/// protects.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// Format, 1.
    pub v: u32,
    pub begun: Time,
    pub setup: SetupLine,
    pub admin: Name,
    /// The content of the admin file.
    pub admin_file: Inline,
    pub host: Name,
    pub vault: VaultId,
    /// What is posted, byte for byte.
    pub request: GenesisRequest,
}

impl Unfinished {
    pub fn place(paths: &Paths) -> PathBuf {
        paths.state.join("init.json")
    }

    /// Reads what an earlier attempt left, if it left something.
    pub fn load(paths: &Paths) -> Result<Option<Self>> {
        let path = Self::place(paths);
        let read: Option<Self> = load_json(&path)?;
        if let Some(Self { v, .. }) = read
            && v != 1
        {
            bail!("`{}` has format {v}", path.display());
        }
        Ok(read)
    }

    pub fn store(&self, paths: &Paths) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing the set-up as JSON")?;
        files::replace(&Self::place(paths), &text, files::Access::PRIVATE)?;
        Ok(())
    }

    /// Removes the file: the set-up is finished, or void.
    pub fn remove(paths: &Paths) -> Result<()> {
        files::remove(&Self::place(paths))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use shared::keys::Identity;

    use super::*;

    fn wish() -> Wish {
        Wish {
            setup: SetupLine {
                addresses: vec!["127.0.0.1:8443".into()],
                server: SignKey::generate().verify_key(),
                claim: Hash::of(&[b"claim"]),
            },
            host: "rtx1080".parse().unwrap(),
            vault_name: "homelab".parse().unwrap(),
            admin: "jonas".parse().unwrap(),
        }
    }

    fn found(wish: &Wish, kit: &Kit) -> (VaultId, GenesisRequest) {
        let keys = MachineKeys { age: Identity::generate(), sign: SignKey::generate() };
        super::found(wish, &keys, kit, &SignKey::generate(), Time::from_micros(1)).unwrap()
    }

    #[test]
    fn the_first_machine_may_do_everything_and_the_kit_is_root() {
        let (kit, wish) = (Kit::generate(), wish());
        let (vault, request) = found(&wish, &kit);
        let mut state = start(&request.genesis).unwrap();
        apply(&mut state, &request.entry).unwrap();
        assert_eq!((state.vault(), state.seq()), (vault, 1));
        let (number, host) = state.machine(&"rtx1080".parse().unwrap()).unwrap();
        assert_eq!(number, 1);
        assert_eq!((host.read.to_string(), host.write.to_string()), ("*".into(), "*".into()));
        assert_eq!(state.key(&Actor::Root), Some(&kit.root.verify_key()));
        assert_eq!(state.server(), std::slice::from_ref(&wish.setup.server));
        assert_eq!(request.claim, wish.setup.claim);
    }

    #[test]
    fn an_unfinished_set_up_reads_back_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(Some(dir.path().join("state")), None).unwrap();
        files::create_dir_private(&paths.state).unwrap();
        assert!(Unfinished::load(&paths).unwrap().is_none());
        let (kit, wish) = (Kit::generate(), wish());
        let (vault, request) = found(&wish, &kit);
        let unfinished = Unfinished {
            v: 1,
            begun: Time::from_micros(1),
            setup: wish.setup,
            admin: wish.admin,
            admin_file: Inline(vec![1, 2]),
            host: wish.host,
            vault,
            request,
        };
        unfinished.store(&paths).unwrap();
        let read = Unfinished::load(&paths).unwrap().unwrap();
        assert_eq!(read.request.genesis, unfinished.request.genesis);
        let text = std::fs::read_to_string(Unfinished::place(&paths)).unwrap();
        assert!(!text.contains(kit.root.to_text().as_str()));
        Unfinished::remove(&paths).unwrap();
        assert!(Unfinished::load(&paths).unwrap().is_none());
    }
}
