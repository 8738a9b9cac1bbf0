//! Asks the agent how everybody stands.

use crate::client::{Client, Error};
use host::hint::Failure;
use machine::local::{self, Status};

pub(super) fn fetch(client: &Client) -> anyhow::Result<Status> {
    client.get(local::STATUS, &[]).map_err(|error| match error {
        Error::Refused(refusal) if refusal.status == 404 => Failure::remote(
            "the server at this address knows no fleet: it is not one of our agents",
        )
        .hint("unset VAULT_ADDR to ask this machine's agent")
        .into(),
        other => anyhow::Error::from(other),
    })
}
