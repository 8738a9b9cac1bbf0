//! What a request occupies until its answer has been sent or dropped: it counts on its connection,
//! and among those that its machine has open.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// How many requests are open on a connection; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Requests(pub Arc<AtomicUsize>);

/// Marks an answer that stays open to follow the log, of which a machine has one.
#[derive(Clone, Copy, Debug)]
pub struct Follows;

/// An open request.
pub struct Open {
    requests: Requests,
    place: Option<OwnedSemaphorePermit>,
}

impl Requests {
    /// Opens a request.
    pub fn open(&self) -> Open {
        self.0.fetch_add(1, Relaxed);
        Open { requests: self.clone(), place: None }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.requests.0.fetch_sub(1, Relaxed);
    }
}

impl Open {
    /// Takes a place among those of the machine.
    pub fn at(&mut self, place: OwnedSemaphorePermit) {
        self.place = Some(place);
    }

    /// Lets the request end with the body of its answer.
    pub fn until_sent(mut self, response: Response) -> Response {
        if response.extensions().get::<Follows>().is_some() {
            self.place = None;
        }
        response.map(|body| Body::new(Answer { body, _open: self }))
    }
}

/// A body, and what ends with it.
struct Answer {
    body: Body,
    _open: Open,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
