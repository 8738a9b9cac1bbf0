//! An admin's own hand: entries that no command of this version would sign.

use age::secrecy::SecretString;
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::log::{Entry, Op};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose, VaultId};
use shared::time::Time;

use crate::{Host, PASSPHRASE};

/// The name of every world's admin.
const NAME: &str = "jonas";

/// Opens the admin's key on the host that made the vault.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn admin_key(host: &Host) -> SignKey {
    let file = host.state().join(format!("admin/{NAME}.age"));
    let sealed = std::fs::read(file).expect("an admin file");
    let identity = age::scrypt::Identity::new(SecretString::from(PASSPHRASE.to_owned()));
    let text = age::decrypt(&identity, &sealed).expect("the admin's passphrase");
    let text = String::from_utf8(text).expect("text");
    let seed = text.lines().find_map(|line| line.strip_prefix("seed ")).expect("a seed");
    SignKey::from_text(seed).expect("a key")
}

/// Signs an entry of the admin's, whatever it says, after entry `seq` of hash `head`.
///
/// # Panics
/// Never: what is made of values can be written.
#[must_use]
pub fn signed_by_admin(
    key: &SignKey,
    vault: VaultId,
    (seq, head): (u64, Hash),
    time: Time,
    ops: Vec<Op>,
) -> Envelope {
    let by = Actor::Admin(NAME.parse().expect("a name"));
    let entry = Entry { seq: seq + 1, prev: head, time, by: by.clone(), ops };
    Envelope::sign(key, by, Purpose::Entry(vault), &entry).expect("an entry")
}
