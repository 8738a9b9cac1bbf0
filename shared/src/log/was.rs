//! What an act replaces, as a hash that the act carries: so that no owner undoes unseen what
//! another one did (design/trust, *Records*). SHA-256 of the operation's own fields, as the state
//! holds them, in compact JSON.

use serde::Serialize;

use crate::grant::Grants;
use crate::hash::Hash;
use crate::keys::VerifyKey;
use crate::path::Mount;

use super::entry::Address;
use super::roster::Number;
use super::state::{MountConfig, State};

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

/// Returns `was` of a `server_set` that replaces `keys`.
#[must_use]
pub fn server(keys: &[VerifyKey]) -> Hash {
    hash(&Server { keys })
}

/// Returns `was` of an `addresses_set` that replaces `addresses`; before the first one the list is
/// empty.
#[must_use]
pub fn addresses(addresses: &[Address]) -> Hash {
    hash(&Addresses { addresses })
}

/// Returns `was` of a `mount_set` that replaces the mount's settings; zeros for a new mount.
#[must_use]
pub fn mount(mount: &Mount, config: Option<&MountConfig>) -> Hash {
    let Some(MountConfig { max_versions, cas_required, delete_after }) = config.copied() else {
        return Hash::ZERO;
    };
    hash(&MountFields { mount, max_versions, cas_required, delete_after })
}

/// Returns `was` of an `access_set` that replaces both lists of the machine.
#[must_use]
pub fn access(number: Number, read: &Grants, write: &Grants) -> Hash {
    hash(&Lists { number, read, write })
}

/// Returns `was` of a `machine_set` that replaces the machine's setting.
#[must_use]
pub fn machine(number: Number, sleeps: bool) -> Hash {
    hash(&Settings { number, sleeps })
}

impl State {
    /// Returns [`server`] of what holds now.
    #[must_use]
    pub fn was_server(&self) -> Hash {
        server(self.server())
    }

    /// Returns [`addresses`] of what holds now.
    #[must_use]
    pub fn was_addresses(&self) -> Hash {
        addresses(self.addresses())
    }

    /// Returns [`mount`] of what holds now.
    #[must_use]
    pub fn was_mount(&self, name: &Mount) -> Hash {
        mount(name, self.mounts().get(name))
    }

    /// Returns [`access`] of what holds now; zeros without an active machine.
    #[must_use]
    pub fn was_access(&self, number: Number) -> Hash {
        let found = self.machine_numbered(number);
        found.map_or(Hash::ZERO, |found| access(number, &found.read, &found.write))
    }

    /// Returns [`machine`] of what holds now; zeros without an active machine.
    #[must_use]
    pub fn was_machine(&self, number: Number) -> Hash {
        self.machine_numbered(number).map_or(Hash::ZERO, |found| machine(number, found.sleeps))
    }
}
