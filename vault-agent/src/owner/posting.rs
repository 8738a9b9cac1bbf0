//! Posting the first two records over the pinned connection, so that a lost answer does no harm.

use anyhow::{Context as _, Result, bail};
use shared::error::Code;
use shared::keys::SignKey;
use shared::signed::Envelope;
use shared::token::SetupLine;
use shared::wire::v1::genesis::GenesisRequest;
use shared::wire::v1::log::{Frame, LogQuery};

use crate::exit::Failure;
use crate::remote::{Client, ConnectError, RemoteError, connect};

/// Connects to the first address of the setup line that answers with the line's key.
///
/// # Errors
/// If none does; the last address says why.
pub async fn reach(setup: &SetupLine, key: &SignKey) -> Result<Client> {
    let mut last = None;
    for address in &setup.addresses {
        match connect(address, std::slice::from_ref(&setup.server), key).await {
            Ok(client) => return Ok(client),
            Err(fault) => last = Some(fault),
        }
    }
    let tried = setup.addresses.join(", ");
    match last {
        Some(fault @ ConnectError::WrongPin { .. }) => {
            bail!(Failure::remote(fault.to_string()).hint(
                "another server answers there: check the address, or copy the setup line again"
            ))
        }
        Some(fault @ ConnectError::Unreachable { .. }) => {
            bail!(Failure::remote(fault.to_string()).hint(format!(
                "start `vault-server run` and open its port; the setup line names {tried}"
            )))
        }
        None => bail!(
            Failure::local("the setup line names no address")
                .hint("run `vault-server init` with `--address HOST:PORT`")
        ),
    }
}

/// Posts genesis and entry 1. If the claim was used, but by these very records, that is success:
/// an earlier answer was lost.
///
/// # Errors
/// If the server refuses them, or does not answer.
pub async fn post(client: &Client, request: &GenesisRequest) -> Result<()> {
    match client.genesis(request).await {
        Ok(()) => Ok(()),
        Err(RemoteError::Refused(fault)) => {
            if stands(client, &request.genesis).await {
                return Ok(());
            }
            if fault.code == Code::Claim {
                bail!(Failure::remote(fault.to_string()).hint(
                    "a setup line works once: this server holds a vault already, or was set up \
                     anew with `vault-server init`, which prints a fresh line"
                ));
            }
            Err(fault).context("the server refused the new vault")
        }
        Err(fault) if fault.is_unresolved() => bail!(
            Failure::remote(format!("no answer to the new vault: {fault}"))
                .hint("run the same `vault init` again: it goes on where this one stopped")
        ),
        Err(fault) => Err(fault).context("the server refused the new vault"),
    }
}

/// Tells whether the server's log begins with `genesis`.
async fn stands(client: &Client, genesis: &Envelope) -> bool {
    let Ok(mut frames) = client.log(LogQuery::default()).await else { return false };
    while let Ok(batch) = frames.next().await {
        for frame in &batch {
            match frame {
                Frame::Genesis(first) => return first == genesis,
                Frame::Head { .. } | Frame::Entry { .. } | Frame::Beat => {}
            }
        }
        if batch.is_empty() {
            return false;
        }
    }
    false
}
