//! Posting the first two records over the pinned connection, so that a lost answer does no harm.

use anyhow::Result;
use shared::error::Code;
use shared::keys::{SignKey, VerifyKey};
use shared::signed::Envelope;
use shared::wire::v1::log::{Frame, GenesisRequest, LogQuery};

use host::hint::Failure;
use host::shown::Shown;
use machine::remote::{Client, ConnectError, RemoteError, connect};

/// Connects to the first address that answers with the setup line's key; if none does, each says
/// why.
pub async fn reach(addresses: &[String], server: &VerifyKey, key: &SignKey) -> Result<Client> {
    let mut tried = Vec::new();
    for address in addresses {
        match connect(address, std::slice::from_ref(server), key).await {
            Ok(client) => return Ok(client),
            Err(fault) => tried.push(fault),
        }
    }
    Err(unreached(&tried, addresses).into())
}

fn unreached(tried: &[ConnectError], addresses: &[String]) -> Failure {
    if tried.is_empty() {
        return Failure::local("the setup line names no address")
            .hint("run `vault-server init` with `--address HOST:PORT`");
    }
    let failure = Failure::remote(Shown::lines(ConnectError::list(tried).lines()));
    if tried.iter().any(|fault| matches!(fault, ConnectError::WrongPin { .. })) {
        return failure
            .hint("another server answers there: check the address, or copy the setup line again");
    }
    failure.hint(format!(
        "start `vault-server run` and open its port; the setup line names {}",
        addresses.join(", ")
    ))
}

/// Why the vault was not made.
#[derive(Debug)]
pub enum PostError {
    /// The server refused: what was posted is void.
    Refused(Failure),
    /// Nobody knows: the very same records may be posted again.
    Unknown(Failure),
}

/// Posts genesis and entry 1. If the claim was used, but by these very records, that is success:
/// an earlier answer was lost.
pub async fn post(client: &Client, request: &GenesisRequest) -> Result<(), PostError> {
    let Err(fault) = client.genesis(request).await else { return Ok(()) };
    if fault.is_unresolved() {
        return Err(PostError::Unknown(refused(&fault)));
    }
    match stands(client, &request.genesis).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(PostError::Refused(refused(&fault))),
        Err(lost) => Err(PostError::Unknown(refused(&lost))),
    }
}

fn refused(fault: &RemoteError) -> Failure {
    let hint = match fault {
        RemoteError::Refused(error) if error.code == Code::Claim => {
            "a setup line works once: this server holds a vault already, or was set up anew with \
             `vault-server init`, which printed a fresh line"
        }
        RemoteError::Refused(error) => error.code.hint(),
        other if other.is_unresolved() => {
            "run the same command again: it goes on where this one stopped"
        }
        RemoteError::Conflict(_)
        | RemoteError::Status { .. }
        | RemoteError::Lost(_)
        | RemoteError::Protocol(_) => "compare the versions of `vault` and `vault-server`",
    };
    Failure::remote(format!("the vault was not made: {fault}")).hint(hint)
}

/// Tells whether the server's log begins with `genesis`. A server that does not let this machine
/// read its log holds another vault, or none: entry 1 would have added the machine.
async fn stands(client: &Client, genesis: &Envelope) -> Result<bool, RemoteError> {
    let mut frames = match client.log(LogQuery::default(), None).await {
        Ok(frames) => frames,
        Err(fault) if fault.is_unresolved() => return Err(fault),
        Err(_) => return Ok(false),
    };
    loop {
        let batch = frames.next().await?;
        for frame in &batch {
            match frame {
                Frame::Genesis(first) => return Ok(first == genesis),
                Frame::Head(_) | Frame::Entry { .. } | Frame::Beat => {}
            }
        }
        if batch.is_empty() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(failure: Failure) -> String {
        host::hint::with_hint(failure.text, failure.hint.unwrap()).to_string()
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let address = || "10.8.0.3:8443".to_owned();
        let gone = ConnectError::Unreachable { address: address(), reason: "refused".into() };
        insta::assert_snapshot!(shown(unreached(&[gone], &[address()])), @r"
        no server at `10.8.0.3:8443`: refused
        hint: start `vault-server run` and open its port; the setup line names 10.8.0.3:8443
        ");
        let gone = || ConnectError::Unreachable { address: address(), reason: "refused".into() };
        let other = ConnectError::WrongPin { address: "192.168.17.1:8443".into() };
        insta::assert_snapshot!(shown(unreached(&[gone(), other], &[address()])), @r"
        no address of the server answers:
          no server at `10.8.0.3:8443`: refused
          E_SERVER_PIN: server at `192.168.17.1:8443`
        hint: another server answers there: check the address, or copy the setup line again
        ");
        let other = ConnectError::WrongPin { address: address() };
        insta::assert_snapshot!(shown(unreached(&[other], &[address()])), @r"
        E_SERVER_PIN: server at `10.8.0.3:8443`
        hint: another server answers there: check the address, or copy the setup line again
        ");
    }

    #[test]
    fn a_used_claim_and_a_lost_answer_are_told_apart() {
        let used = RemoteError::Refused(Code::Claim.because("claim code was used"));
        insta::assert_snapshot!(shown(refused(&used)), @"
        the vault was not made: E_CLAIM: claim code was used
        hint: a setup line works once: this server holds a vault already, or was set up \
        anew with `vault-server init`, which printed a fresh line
        ");
        let lost = RemoteError::Lost("the server is silent".into());
        insta::assert_snapshot!(shown(refused(&lost)), @r"
        the vault was not made: the server is silent
        hint: run the same command again: it goes on where this one stopped
        ");
    }
}
