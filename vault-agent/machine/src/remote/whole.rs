//! The whole log of a server that is not believed yet, from the genesis on: for hosts that have
//! none of it themselves. Where a checkpoint stands for its beginning, an owner vouches for that
//! whom the genesis names, or root has named since.

use shared::error::{Code, Error};
use shared::head::SignedHead;
use shared::log::{State, apply, start};
use shared::signed::VaultId;
use shared::wire::v1::log::{Frame, LogQuery};

use super::{Client, RemoteError, Unproven};

/// A log that verifies from the genesis on, and the newest head that came with it, which is not
/// verified yet.
#[derive(Debug)]
pub struct WholeLog {
    state: State,
    head: SignedHead,
}

impl WholeLog {
    /// Reads all of the log of the vault that `is_it` knows by its id.
    ///
    /// # Errors
    /// If it is another vault's, does not verify, or does not come.
    pub async fn read(client: &Client, is_it: impl Fn(&VaultId) -> bool) -> Result<Self, Unproven> {
        let mut reader = Reader { is_it, state: None, head: None };
        loop {
            match reader.page(client).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(Missed::Compacted) if reader.state.is_none() => reader.begin(client).await?,
                Err(Missed::Compacted) => {
                    let why = "the server's log begins later than it did";
                    return Err(Unproven::Lost(why.to_owned()));
                }
                Err(Missed::Unproven(why)) => return Err(why),
            }
        }
        let Reader { state: Some(state), head: Some(head), .. } = reader else {
            return Err(Unproven::Lost("the server shows no log".to_owned()));
        };
        Ok(Self { state, head })
    }

    /// Returns what the log says.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Returns what the log says, if a server of the vault has signed that this is all of it.
    ///
    /// # Errors
    /// If none has, or there is more.
    pub fn proven(self) -> Result<State, Unproven> {
        self.head.verify(self.state.server(), self.state.vault())?;
        if self.head.place() != self.state.place() {
            return Err(Unproven::Lost("the server shows less than its whole log".to_owned()));
        }
        Ok(self.state)
    }
}

/// Why a page did not come.
enum Missed {
    /// A checkpoint stands for it.
    Compacted,
    Unproven(Unproven),
}

impl From<RemoteError> for Missed {
    fn from(fault: RemoteError) -> Self {
        if fault.is_compacted() { Self::Compacted } else { Self::Unproven(fault.into()) }
    }
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        Self::Unproven(error.into())
    }
}

struct Reader<F> {
    is_it: F,
    state: Option<State>,
    head: Option<SignedHead>,
}

impl<F: Fn(&VaultId) -> bool> Reader<F> {
    /// Begins after the server's newest checkpoint.
    async fn begin(&mut self, client: &Client) -> Result<(), Unproven> {
        let shown = client.checkpoint().await?;
        self.state = Some(shown.believed(&self.is_it, None, None).await?.state);
        Ok(())
    }

    /// Reads a page; tells whether it brought anything.
    async fn page(&mut self, client: &Client) -> Result<bool, Missed> {
        let after = self.state.as_ref().map_or(0, State::seq);
        let is_first = self.state.is_none();
        let query = LogQuery { after, ..LogQuery::default() };
        let mut frames = client.log(query, None).await?;
        loop {
            let next = frames.next().await?;
            if next.is_empty() {
                return Ok(self.state.as_ref().is_some_and(|it| is_first || it.seq() > after));
            }
            next.into_iter().try_for_each(|frame| self.take(frame))?;
        }
    }

    fn take(&mut self, frame: Frame) -> Result<(), Error> {
        match (frame, &mut self.state) {
            (Frame::Genesis(envelope), None) => {
                let founded = start(&envelope)?;
                if !(self.is_it)(&founded.vault()) {
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
