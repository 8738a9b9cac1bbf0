//! The answer to `GET /v1/log`, line by line. What a frame means is the engine's.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use shared::error::Code;
use shared::limits;
use shared::wire::v1::log::Frame;
use tokio::time::timeout;

use super::RemoteError;

/// Longest line: an entry of a megabyte and two megabytes of blobs, in base64 twice over.
const LINE: usize = 8 << 20;
/// Silence after which the connection counts as dead; the server beats every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// What is handed over at once, at most.
const BATCH: usize = 256;

/// Frames as they come in.
pub struct Frames {
    body: Incoming,
    buffer: BytesMut,
    /// Where in the buffer no line end has been looked for yet.
    seen: usize,
    ended: bool,
}

impl Frames {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), seen: 0, ended: false }
    }

    /// Waits for at least one frame and returns all that are there, up to a bound; an empty list
    /// at the end of the answer.
    ///
    /// # Errors
    /// If the connection fails or is silent for too long, or a line is no frame.
    pub async fn next(&mut self) -> Result<Vec<Frame>, RemoteError> {
        loop {
            let frames = self.take()?;
            if !frames.is_empty() || self.ended {
                return Ok(frames);
            }
            let data = timeout(SILENCE, self.body.frame())
                .await
                .map_err(|_| RemoteError::lost("the server is silent"))?;
            match data {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(fault)) => return Err(RemoteError::lost(fault)),
                None => self.ended = true,
            }
        }
    }

    /// Takes the whole lines off the buffer: a bounded number of frames and bytes.
    fn take(&mut self) -> Result<Vec<Frame>, RemoteError> {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while frames.len() < BATCH
            && bytes < limits::LOG_PAGE
            && let Some(end) = self.buffer[self.seen..].iter().position(|byte| *byte == b'\n')
        {
            let line = self.buffer.split_to(self.seen + end);
            self.buffer.advance(1);
            self.seen = 0;
            let frame = Frame::read(&line);
            let frame = frame.map_err(|why| refused(Code::Parse, format!("log line: {why}")))?;
            // One of a newer server's says nothing that an older agent has to know.
            let Some(frame) = frame else { continue };
            bytes += line.len();
            frames.push(frame);
        }
        if frames.is_empty() {
            self.seen = self.buffer.len();
            if self.seen > LINE {
                return Err(refused(Code::Limits, "a log line is longer than 8 MiB".into()));
            }
        }
        if self.buffer.is_empty() && self.buffer.capacity() > limits::BODY {
            self.buffer = BytesMut::new();
        }
        Ok(frames)
    }
}

/// What an authenticated server sends and no server should: it is an alarm, not a bad connection.
fn refused(code: Code, why: String) -> RemoteError {
    RemoteError::Refused(code.because(why))
}
