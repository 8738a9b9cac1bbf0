//! The answer to `GET /v1/log`, line by line. What a frame means is the engine's.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use shared::error::Code;
use shared::limits;
use shared::wire::v1::log::Frame;
use tokio::time::{Instant, timeout, timeout_at};

use super::RemoteError;

/// Longest line: an entry of a megabyte and two megabytes of blobs, in base64 twice over.
const LINE: usize = 8 << 20;
/// Silence after which the connection counts as dead; the server beats every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// How long the next record of a page may take, whatever else the server says meanwhile.
const RECORD: Duration = Duration::from_secs(30);
/// What is handed over at once, at most.
const BATCH: usize = 256;

/// Frames as they come in.
pub struct Frames<B = Incoming> {
    body: B,
    buffer: BytesMut,
    /// Where in the buffer no line end has been looked for yet.
    seen: usize,
    ended: bool,
    /// Whether the server goes on to tell what is new, beside beats without end.
    follows: bool,
    /// When the next record of a page has to be here, once somebody waits for it.
    until: Option<Instant>,
}

impl<B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin> Frames<B> {
    pub(super) fn new(body: B, follows: bool) -> Self {
        Self { body, buffer: BytesMut::new(), seen: 0, ended: false, follows, until: None }
    }

    /// Waits for at least one frame and returns all that are there, up to a bound; an empty list
    /// at the end of the answer. What a newer server says beside is a beat to an older program.
    ///
    /// # Errors
    /// If the connection fails or is silent for too long, a page brings no record for 30 s, or a
    /// line is no frame.
    pub async fn next(&mut self) -> Result<Vec<Frame>, RemoteError> {
        if self.follows {
            return self.some().await;
        }
        let until = *self.until.get_or_insert_with(|| Instant::now() + RECORD);
        let frames = timeout_at(until, self.some()).await;
        // What is there already is returned at any time.
        let in_time = frames.ok().filter(|_| Instant::now() < until);
        let frames =
            in_time.ok_or_else(|| RemoteError::lost("the server shows no further entry"))??;
        if frames.iter().any(|frame| matches!(frame, Frame::Genesis(_) | Frame::Entry { .. })) {
            self.until = None;
        }
        Ok(frames)
    }

    async fn some(&mut self) -> Result<Vec<Frame>, RemoteError> {
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
            bytes += line.len();
            // One of a newer server's says nothing more to an older agent than that it is there.
            frames.push(frame.unwrap_or(Frame::Beat));
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame as Part;
    use tokio::time::{Interval, interval};

    use super::*;

    /// A body that says the same line for ever, once a pause.
    struct Endless(&'static str, Interval);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Part<Bytes>, Infallible>>> {
            let line = Bytes::from_static(self.0.as_bytes());
            self.1.poll_tick(context).map(|_| Some(Ok(Part::data(line))))
        }
    }

    const TICK: &str = "{\"tick\":{\"head\":99}}\n";
    const PAUSE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_page_ends_whatever_the_server_goes_on_to_say_beside_records() {
        for line in [TICK, "\"beat\"\n", "\"tick\"\n\"tock\"\n", "{\"tick\":[1"] {
            let mut frames = Frames::new(Endless(line, interval(PAUSE)), false);
            let began = Instant::now();
            let lost = loop {
                match frames.next().await {
                    Ok(some) => assert!(some.iter().all(|it| matches!(it, Frame::Beat))),
                    Err(why) => break why.to_string(),
                }
            };
            assert!(lost.contains("no further entry"), "{line}: {lost}");
            assert!(began.elapsed() <= RECORD, "{line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_hands_over_at_once_what_an_older_program_does_not_know() {
        let mut frames = Frames::new(Endless(TICK, interval(PAUSE)), true);
        for _ in 0..1_000 {
            let began = Instant::now();
            assert!(matches!(frames.next().await.unwrap()[..], [Frame::Beat]));
            assert!(began.elapsed() <= PAUSE);
        }
    }
}
