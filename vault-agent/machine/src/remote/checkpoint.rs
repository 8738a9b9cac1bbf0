//! The answer to `GET /v1/checkpoint`: who vouches for it, and a state that nothing is believed of
//! until it has come whole.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use shared::error::{Code, Error};
use shared::limits;
use shared::log::{Checkpoint, Owners, State, StateReader};
use shared::signed::{Purpose, VaultId};
use shared::wire::v1::checkpoint::Vouched;
use tokio::time::timeout;

use super::RemoteError;

/// How long the next bytes may take.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest first line: root's entries in base64.
const LINE: usize = 16 << 20;

/// Why a server is not believed.
#[derive(Debug)]
pub enum Unproven {
    /// The connection broke first, or the log did not come whole: it may be asked again.
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

/// A checkpoint as it comes in.
pub struct Shown {
    body: Incoming,
    buffer: BytesMut,
    vouched: Vouched,
}

/// A state that somebody whom the reader believes has vouched for.
#[derive(Debug)]
pub struct Started {
    /// Who vouches for it, verified.
    pub vouched: Vouched,
    /// The state up to the entry before.
    pub state: State,
}

impl Shown {
    /// Reads who vouches for it.
    ///
    /// # Errors
    /// If the connection fails, or this is something else.
    pub(super) async fn begin(body: Incoming) -> Result<Self, RemoteError> {
        let (mut body, mut buffer) = (body, BytesMut::new());
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end);
                buffer.advance(1);
                let vouched = serde_json::from_slice(&line);
                let vouched = vouched.map_err(|why| {
                    RemoteError::Refused(Code::Parse.because(format!("a checkpoint: {why}")))
                })?;
                return Ok(Self { body, buffer, vouched });
            }
            if buffer.len() > LINE {
                let why = "who vouches for a checkpoint takes more than 16 MiB to tell";
                return Err(RemoteError::Refused(Code::Limits.because(why)));
            }
            let next = next(&mut body).await?;
            buffer.extend_from_slice(&next.ok_or_else(|| RemoteError::lost("no checkpoint came"))?);
        }
    }

    /// Takes the state in, if it is the one that `known` names, or else one that an owner has
    /// vouched for whom `owners` know; without any the genesis tells who they are.
    ///
    /// # Errors
    /// If nobody does who is known, it is another vault's, or the state is another than was named.
    pub async fn believed(
        mut self,
        vault: impl Fn(&VaultId) -> bool,
        known: Option<Checkpoint>,
        owners: Option<Owners>,
    ) -> Result<Started, Unproven> {
        let id = self.vouched.genesis.hash(Purpose::Genesis);
        if !vault(&id) {
            let why = format!("the server keeps the vault {}", id.short());
            return Err(Code::BadSig.because(why).into());
        }
        let named = self.named(known, owners)?;
        let mut reader = StateReader::new(named);
        reader.take(&self.buffer).map_err(another)?;
        drop(std::mem::take(&mut self.buffer));
        while let Some(bytes) = next(&mut self.body).await? {
            for piece in bytes.chunks(limits::STATE_ROW) {
                reader.take(piece).map_err(another)?;
                tokio::task::yield_now().await;
            }
        }
        let state = reader.finish().map_err(another)?;
        if state.vault() != id {
            return Err(Code::Checkpoint.because("the state of another vault").into());
        }
        Ok(Started { vouched: self.vouched, state })
    }

    /// Returns what is to come, if somebody vouches for it who is believed.
    fn named(
        &self,
        known: Option<Checkpoint>,
        owners: Option<Owners>,
    ) -> Result<Checkpoint, Error> {
        let Vouched { genesis, owners: changes, entry } = &self.vouched;
        let claimed = Owners::claimed(entry)?;
        if let Some(known) = known {
            if claimed == known {
                return Ok(known);
            }
            if claimed.seq <= known.seq {
                let why = format!("one of entry {}, where {} is known", claimed.seq, known.seq);
                return Err(Code::Checkpoint.because(why));
            }
        }
        let mut owners = match owners {
            Some(owners) => owners,
            None => Owners::of(&shared::log::start(genesis)?),
        };
        changes.iter().try_for_each(|change| owners.follow(change))?;
        owners.vouched(entry)
    }
}

/// Says of malformed bytes what they are: not what was vouched for, whatever is wrong with them.
fn another(why: Error) -> Error {
    match why.code {
        Code::Checkpoint | Code::Upgrade => why,
        _ => Code::Checkpoint.because(why.to_string()),
    }
}

/// Returns the next bytes; nothing at the end.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, RemoteError> {
    loop {
        let frame = timeout(SILENCE, body.frame()).await;
        match frame.map_err(|_| RemoteError::lost("the server is silent"))? {
            None => return Ok(None),
            Some(Err(fault)) => return Err(RemoteError::lost(fault)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
