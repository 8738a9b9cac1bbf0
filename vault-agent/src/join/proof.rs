//! What a server has to show before anything it says is believed: the log from the genesis on,
//! whose hash is the vault that a person has named, in which this server's key is listed and both
//! keys of this host are one machine's.

use std::time::Duration;

use shared::error::{Code, Error};
use shared::head::SignedHead;
use shared::keys::VerifyKey;
use shared::log::{State, apply, start};
use shared::token::MachineLine;
use shared::wire::v1::log::{Frame, LogQuery};
use tokio::time::{Instant, timeout_at};

use super::wanted::Wanted;
use machine::identity::Pins;
use machine::remote::{Client, RemoteError};

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
    let mut log = Log { vault, state: None, head: None };
    while log.read_page(client).await? {}
    let Log { state: Some(state), head: Some(head), .. } = log else {
        return Err(Unproven::Lost("the server shows no log".to_owned()));
    };
    let pins = judge(&state, server, own, addresses)?;
    head.verify(&pins.server, pins.vault)?;
    if head.place() != state.place() {
        return Err(Unproven::Lost("the server shows less than its whole log".to_owned()));
    }
    Ok(pins)
}

/// What the server has shown so far.
struct Log {
    vault: Wanted,
    state: Option<State>,
    /// Its newest head, unverified.
    head: Option<SignedHead>,
}

impl Log {
    /// Reads a page; tells whether it brought anything.
    async fn read_page(&mut self, client: &Client) -> Result<bool, Unproven> {
        let after = self.state.as_ref().map_or(0, State::seq);
        let is_first = self.state.is_none();
        let mut frames = client.log(LogQuery { after, ..LogQuery::default() }, None).await?;
        let mut until = Instant::now() + ENTRY;
        loop {
            let silent = |_| Unproven::Lost("the server shows no further entry".to_owned());
            let next = timeout_at(until, frames.next()).await.map_err(silent)??;
            if next.is_empty() {
                return Ok(self.state.as_ref().is_some_and(|it| is_first || it.seq() > after));
            }
            for frame in next {
                if self.take(frame)? {
                    until = Instant::now() + ENTRY;
                }
            }
        }
    }

    /// Takes a frame in; tells whether it was a record.
    fn take(&mut self, frame: Frame) -> Result<bool, Error> {
        match (frame, &mut self.state) {
            (Frame::Genesis(envelope), None) => {
                let founded = start(&envelope)?;
                if !self.vault.is(&founded.vault()) {
                    let why = format!("the server keeps the vault {}", founded.vault().short());
                    return Err(Code::BadSig.because(why));
                }
                self.state = Some(founded);
            }
            (Frame::Entry { envelope, .. }, Some(state)) => {
                apply(state, &envelope)?;
            }
            (Frame::Genesis(_) | Frame::Entry { .. }, _) => {
                return Err(Code::Parse.because("the server's log has no beginning"));
            }
            (Frame::Head(head), _) => {
                self.head = Some(head);
                return Ok(false);
            }
            (Frame::Beat, _) => return Ok(false),
        }
        Ok(true)
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
