//! The log as a server shows it to the holder of the kit: nothing of it is believed that does not
//! follow from the vault's id.

use anyhow::Result;
use shared::error::{Code, Error};
use shared::head::SignedHead;
use shared::log::{State, apply, start};
use shared::signed::VaultId;
use shared::wire::v1::log::{Frame, LogQuery};

use host::hint::Failure;
use machine::remote::{Client, RemoteError};

/// Reads all of the log.
///
/// # Errors
/// If it is another vault's, or does not verify.
pub(super) async fn read(client: &Client, vault: VaultId) -> Result<State> {
    let mut log = Log { vault, state: None, head: None };
    while log.page(client).await? {}
    let Log { state: Some(state), head: Some(head), .. } = log else {
        return Err(Failure::remote("the server shows no log").into());
    };
    head.verify(state.server(), vault).map_err(|error| refused(&error))?;
    if head.place() != state.place() {
        return Err(Failure::remote("the server shows less than its whole log").into());
    }
    Ok(state)
}

struct Log {
    vault: VaultId,
    state: Option<State>,
    /// The server's newest head, unverified.
    head: Option<SignedHead>,
}

impl Log {
    /// Reads a page; tells whether it brought anything.
    async fn page(&mut self, client: &Client) -> Result<bool, Failure> {
        let before = self.state.as_ref().map(State::seq);
        let query = LogQuery { after: before.unwrap_or(0), ..LogQuery::default() };
        let mut frames = client.log(query, None).await.map_err(|fault| failed(&fault))?;
        loop {
            let batch = frames.next().await.map_err(|fault| failed(&fault))?;
            if batch.is_empty() {
                return Ok(self.state.as_ref().map(State::seq) != before);
            }
            for frame in batch {
                self.take(frame).map_err(|error| refused(&error))?;
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<(), Error> {
        match (frame, &mut self.state) {
            (Frame::Genesis(envelope), None) => {
                let founded = start(&envelope)?;
                if founded.vault() != self.vault {
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
            (Frame::Head(head), _) => self.head = Some(head),
            (Frame::Beat, _) => {}
        }
        Ok(())
    }
}

/// Tells why the server did not do as asked.
pub(super) fn failed(fault: &RemoteError) -> Failure {
    match fault {
        RemoteError::Refused(error) => refused(error),
        other => Failure::remote(other.to_string())
            .hint("run the same command again: it goes on where this one stopped"),
    }
}

pub(super) fn refused(error: &Error) -> Failure {
    Failure::remote(error.to_string()).hint(error.code.hint())
}
