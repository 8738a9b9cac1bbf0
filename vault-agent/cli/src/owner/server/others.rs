//! The other machines of the vault, where an act on the server concerns them: who is away, and the
//! line that makes one accept a new key.

use anyhow::{Context as _, Result};
use shared::hash::Hash;
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::token::{Line as _, PinLine};

use crate::client::Client;
use machine::identity::Pins;
use machine::local::{STATUS, Status};

/// Returns the machines that do not follow the log now.
pub(super) fn asleep(client: &Client) -> Result<Vec<Name>> {
    let status: Status = client.get(STATUS, &[])?;
    let away = status.machines.into_iter().filter(|it| !it.awake && it.machine != status.machine);
    Ok(away.map(|it| it.machine).collect())
}

/// Writes the line by which a machine accepts a new key of the server, which stands in the log from
/// entry `at` on.
pub(super) fn line(
    pins: &Pins,
    name: Name,
    addresses: Vec<String>,
    server: &VerifyKey,
    at: (u64, Hash),
) -> Result<String> {
    let (server, vault, at) = (vec![server.clone()], pins.vault, Some(at));
    let line = PinLine { addresses, server, vault, name, at, checkpoint: None };
    line.to_line().context("cannot write the pin line")
}
