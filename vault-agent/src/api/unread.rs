//! What is left of a request's body once it is answered: read to its end, so that the connection
//! stays good for the next request, or else the client is told that it does not.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::{HeaderValue, header, request::Parts};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::envelope::ApiAnswer;

/// Bytes that are read for the sake of the connection, as Go's server does.
const MOST: usize = 256 << 10;
/// How long to wait for them.
const TIME: Duration = Duration::from_secs(2);

/// A body that the connection keeps hold of while a route reads a clone of it.
#[derive(Clone, Debug)]
pub(super) struct Unread {
    state: Arc<Mutex<State>>,
    /// The client sends nothing of the body before it is told to.
    is_held_back: bool,
}

#[derive(Debug)]
struct State {
    body: Incoming,
    has_ended: bool,
}

impl Unread {
    pub(super) fn new(parts: &Parts, body: Incoming) -> Self {
        let has_ended = body.is_end_stream();
        let is_held_back = parts.headers.contains_key(header::EXPECT);
        Self { state: Arc::new(Mutex::new(State { body, has_ended })), is_held_back }
    }

    /// Reads what the route has left, then hands on its answer. Too much of it is not waited for,
    /// nor a body that would only be sent to be thrown away.
    pub(super) async fn drain(mut self, mut answer: ApiAnswer) -> ApiAnswer {
        if self.is_end_stream() {
            return answer;
        }
        let is_small = self.size_hint().lower() <= MOST as u64;
        let has_ended = is_small
            && !self.is_held_back
            && tokio::time::timeout(TIME, self.read_on()).await.unwrap_or(false);
        if !has_ended {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// Tells whether the body has ended before there was too much of it.
    async fn read_on(&mut self) -> bool {
        let mut read = 0;
        while let Some(frame) = self.frame().await {
            let Ok(frame) = frame else { return false };
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MOST {
                return false;
            }
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut state = self.state();
        let frame = ready!(Pin::new(&mut state.body).poll_frame(context));
        state.has_ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.state();
        state.has_ended || state.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.state().body.size_hint()
    }
}
