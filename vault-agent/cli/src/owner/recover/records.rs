//! The log as a server shows it to the holder of the kit: nothing of it is believed that does not
//! follow from the vault's id.

use anyhow::Result;
use shared::error::{Code, Error};
use shared::keys::VerifyKey;
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
    Ok(read.and_then(WholeLog::proven).map_err(unproven)?)
}

/// As [`read`], from a server that has proven to have the key `server`.
///
/// # Errors
/// As [`read`], and if the log does not list the key.
pub(super) async fn read_from(
    client: &Client,
    server: &VerifyKey,
    vault: VaultId,
) -> Result<State> {
    let read = WholeLog::read(client, |id| *id == vault).await.map_err(unproven)?;
    if read.state().server().contains(server) {
        return Ok(read.proven().map_err(unproven)?);
    }
    let why = format!("{}: this server's key is not in the vault's log", Code::ServerPin);
    Err(Failure::remote(why)
        .hint(
            "restore it with a copy of its key: `vault-server restore FILE --key KEY`; without one \
             a machine that is left takes the new key, with `vault server adopt --kit -`; if none \
             is left, `age` reads every secret in the backup: guide/break-glass",
        )
        .into())
}

fn unproven(why: Unproven) -> Failure {
    match why {
        Unproven::Lost(why) => lost(why),
        Unproven::Refused(error) => refused(&error),
    }
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

fn refused(error: &Error) -> Failure {
    Failure::remote(error.to_string()).hint(error.code.hint())
}
