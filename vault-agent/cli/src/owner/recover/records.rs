//! The log as a server shows it to the holder of the kit: nothing of it is believed that does not
//! follow from the vault's id.

use anyhow::Result;
use shared::error::Error;
use shared::log::State;
use shared::signed::VaultId;

use host::hint::Failure;
use machine::remote::{Client, RemoteError, Unproven, WholeLog};

/// Reads all of the log.
///
/// # Errors
/// If it is another vault's, or does not verify.
pub(super) async fn read(client: &Client, vault: VaultId) -> Result<State> {
    let read = WholeLog::read(client, |id| *id == vault).await;
    let proven = read.and_then(WholeLog::proven);
    Ok(proven.map_err(|why| match why {
        Unproven::Lost(why) => lost(why),
        Unproven::Refused(error) => refused(&error),
    })?)
}

/// Tells why the server did not do as asked.
pub(super) fn failed(fault: &RemoteError) -> Failure {
    match fault {
        RemoteError::Refused(error) => refused(error),
        other => lost(other.to_string()),
    }
}

fn lost(why: String) -> Failure {
    Failure::remote(why).hint("run the same command again: it goes on where this one stopped")
}

pub(super) fn refused(error: &Error) -> Failure {
    Failure::remote(error.to_string()).hint(error.code.hint())
}
