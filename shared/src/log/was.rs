//! What an act replaces, as a hash that the act carries: so that no owner undoes unseen what another
//! one did (design/trust, *Records*). SHA-256 of the operation's own fields, as the state holds them,
//! in compact JSON.

use serde::Serialize;

use crate::grant::Grants;
use crate::hash::Hash;
use crate::keys::VerifyKey;
use crate::path::Mount;

use super::entry::Address;
use super::roster::Number;
use super::state::State;

#[derive(Serialize)]
struct Server<'a> {
    keys: &'a [VerifyKey],
}

#[derive(Serialize)]
struct Addresses<'a> {
    addresses: &'a [Address],
}

#[derive(Serialize)]
struct MountFields<'a> {
    mount: &'a Mount,
    max_versions: u64,
    cas_required: bool,
    delete_after: i64,
}

#[derive(Serialize)]
struct Lists<'a> {
    number: Number,
    read: &'a Grants,
    write: &'a Grants,
}

#[derive(Serialize)]
struct Settings {
    number: Number,
    sleeps: bool,
}

fn hash(fields: &impl Serialize) -> Hash {
    let json = serde_json::to_vec(fields).expect("plain fields are JSON");
    Hash::of(&[&json])
}

impl State {
    /// Returns `was` of a `server_set`.
    #[must_use]
    pub fn was_server(&self) -> Hash {
        hash(&Server { keys: self.server() })
    }

    /// Returns `was` of an `addresses_set`; before the first one the list is empty.
    #[must_use]
    pub fn was_addresses(&self) -> Hash {
        hash(&Addresses { addresses: self.addresses() })
    }

    /// Returns `was` of a `mount_set`: zeros for a new mount.
    #[must_use]
    pub fn was_mount(&self, mount: &Mount) -> Hash {
        self.mounts().get(mount).map_or(Hash::ZERO, |config| {
            hash(&MountFields {
                mount,
                max_versions: config.max_versions,
                cas_required: config.cas_required,
                delete_after: config.delete_after,
            })
        })
    }

    /// Returns `was` of an `access_set`: zeros without an active machine.
    #[must_use]
    pub fn was_access(&self, number: Number) -> Hash {
        self.machine_numbered(number).map_or(Hash::ZERO, |machine| {
            hash(&Lists { number, read: &machine.read, write: &machine.write })
        })
    }

    /// Returns `was` of a `machine_set`: zeros without an active machine.
    #[must_use]
    pub fn was_machine(&self, number: Number) -> Hash {
        self.machine_numbered(number)
            .map_or(Hash::ZERO, |machine| hash(&Settings { number, sleeps: machine.sleeps }))
    }
}
