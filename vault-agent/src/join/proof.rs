//! What a server has to show before anything it says is believed: the log from the genesis on,
//! whose hash is the vault that a person has named, in which this server's key is listed and both
//! keys of this host are one machine's.

use std::time::Duration;

use shared::error::{Code, Error};
use shared::keys::VerifyKey;
use shared::log::{State, apply, start};
use shared::token::MachineLine;
use shared::wire::v1::log::{Frame, LogQuery};
use tokio::time::timeout;

use super::wanted::Wanted;
use machine::identity::Pins;
use machine::remote::{Client, Frames, RemoteError};

/// How long the next entry may take.
const ENTRY: Duration = Duration::from_secs(30);

/// Why a server is not believed.
#[derive(Debug)]
pub(super) enum Unproven {
    /// The connection broke first: it may be asked again.
    Lost(String),
    /// It shows something else.
    Refused(Error),
}

impl From<RemoteError> for Unproven {
    fn from(fault: RemoteError) -> Self {
        match fault {
            RemoteError::Refused(error) => Self::Refused(error),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<Error> for Unproven {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Has the server behind `client`, which holds the key `server`, prove itself; returns what this
/// host pins from now on.
pub(super) async fn pins(
    client: &Client,
    server: &VerifyKey,
    vault: Wanted,
    own: &MachineLine,
    addresses: &[String],
) -> Result<Pins, Unproven> {
    let mut state = None;
    loop {
        let after = state.as_ref().map_or(0, State::seq);
        let frames = client.log(LogQuery { after, ..LogQuery::default() }, None).await?;
        let read = page(frames, state.take(), vault).await?;
        let end = read.seq() == after;
        state = Some(read);
        if end {
            break;
        }
    }
    let state = state.ok_or_else(|| Unproven::Lost("the server shows no log".to_owned()))?;
    Ok(judge(&state, server, own, addresses)?)
}

/// Applies a page of the log.
async fn page(
    mut frames: Frames,
    mut state: Option<State>,
    vault: Wanted,
) -> Result<State, Unproven> {
    let silent = |_| Unproven::Lost("the server shows no further entry".to_owned());
    loop {
        let next = timeout(ENTRY, some(&mut frames)).await.map_err(silent)??;
        if next.is_empty() {
            let none = || Code::Parse.because("the server's log has no beginning");
            return Ok(state.ok_or_else(none)?);
        }
        for frame in next {
            match (frame, &mut state) {
                (Frame::Genesis(envelope), None) => {
                    let founded = start(&envelope)?;
                    if !vault.is(&founded.vault()) {
                        let why = format!("the server keeps the vault {}", founded.vault().short());
                        return Err(Code::BadSig.because(why).into());
                    }
                    state = Some(founded);
                }
                (Frame::Entry { envelope, .. }, Some(state)) => {
                    apply(state, &envelope).map_err(Error::from)?;
                }
                (Frame::Genesis(_) | Frame::Entry { .. }, _) => {
                    return Err(Code::Parse.because("the server's log has no beginning").into());
                }
                (Frame::Head(_) | Frame::Beat, _) => {}
            }
        }
    }
}

/// Waits for frames that bring something on: a server that only says it is there brings nothing.
async fn some(frames: &mut Frames) -> Result<Vec<Frame>, Unproven> {
    loop {
        let next = frames.next().await?;
        if next.is_empty() || next.iter().any(|it| !matches!(it, Frame::Head(_) | Frame::Beat)) {
            return Ok(next);
        }
    }
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
    })
}
