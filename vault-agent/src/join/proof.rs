//! What a server has to show before anything it says is believed: the log from the genesis on,
//! whose hash is the vault that a person has named, in which this server's key is listed and both
//! keys of this host are one machine's.

use shared::error::{Code, Error};
use shared::keys::VerifyKey;
use shared::log::State;
use shared::token::MachineLine;

use super::wanted::Wanted;
use machine::identity::Pins;
use machine::remote::{Client, Unproven, WholeLog};

/// Has the server behind `client`, which holds the key `server`, prove itself; returns what this
/// host pins from now on.
pub(super) async fn pins(
    client: &Client,
    server: &VerifyKey,
    vault: Wanted,
    own: &MachineLine,
    addresses: &[String],
) -> Result<Pins, Unproven> {
    let log = WholeLog::read(client, |id| vault.is(id)).await?;
    let pins = judge(log.state(), server, own, addresses)?;
    log.proven()?;
    Ok(pins)
}

/// Judges the log that the server has shown to its end.
fn judge(
    state: &State,
    server: &VerifyKey,
    own: &MachineLine,
    addresses: &[String],
) -> Result<Pins, Error> {
    if !state.server().contains(server) {
        return Err(Code::ServerPin.because("this server's key is not listed in the vault's log"));
    }
    let (_, machine) = state.machine_by_key(own.sign.as_bytes()).ok_or_else(|| {
        Code::JoinSubstituted.because("no machine there has this host's signing key")
    })?;
    if machine.recipient != own.recipient {
        let why = format!("machine `{}` has another encryption key there", machine.name);
        return Err(Code::JoinSubstituted.because(why));
    }
    Ok(Pins {
        vault: state.vault(),
        server: state.server().to_vec(),
        name: machine.name.clone(),
        addresses: addresses.to_vec(),
        checkpoint: None,
    })
}
