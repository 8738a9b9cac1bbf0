//! `GET` and `POST /v1/log`: pages, streams that stay open, new entries.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::combinators::BoxBody;
use shared::limits;
use shared::wire::v1::log::{Frame, LogQuery};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};

use crate::vault::append::Append;
use crate::vault::follow::{Following, Head, Join};
use crate::vault::{Caller, Vault};
use crate::watch::Live;

use super::app::{App, told_to_stop};
use super::audit::{Asked, asked};
use super::error::{Fault, json};

/// Silence on an open stream is broken this often.
const BEAT: Duration = Duration::from_secs(15);
/// Bytes read from the database at once.
const CHUNK: usize = 256 << 10;

/// Appends an entry: 201 with its place, 409 with the head it should have been built on.
pub async fn append(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let (request, _place) = app.intake.json(&headers, body, usize::MAX).await?;
    Ok(match app.vault.append(&caller, request).await? {
        Append::Done(done) => json(StatusCode::CREATED, &done),
        Append::Conflict(conflict) => json(StatusCode::CONFLICT, &conflict),
    })
}

/// Answers with lines: up to the head or 8 MiB, or for as long as the client follows.
pub async fn read(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: Asked<LogQuery>,
) -> Result<Response, Fault> {
    let LogQuery { after, follow } = asked(query)?;
    let (lines, receiver) = mpsc::channel(4);
    let sender = Sender { vault: app.vault.clone(), caller, lines, after };
    if follow {
        let following = app.vault.follow(&sender.caller, after).await?;
        let mut shutdown = app.shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = told_to_stop(&mut shutdown) => {}
                () = sender.follow(following) => {}
            }
        });
    } else {
        let head = app.vault.read_log(&sender.caller).await?;
        tokio::spawn(sender.page(head));
    }
    let kind = HeaderValue::from_static("application/x-ndjson");
    let body = Body::new(BoxBody::new(Lines(receiver)));
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, kind)], body).into_response())
}

/// A response body of lines that arrive one by one; it ends when their sender goes.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|line| line.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}

/// The client left, or the stream must end.
struct Gone;

/// Writes the lines of one answer.
struct Sender {
    vault: Vault,
    caller: Caller,
    lines: mpsc::Sender<Bytes>,
    /// Last entry the client has.
    after: u64,
}

impl Sender {
    async fn page(mut self, head: Head) {
        if self.head(head).await.is_ok() {
            let _ = self.catch_up(head, limits::LOG_PAGE).await;
        }
    }

    async fn follow(mut self, following: Following) {
        let Following { head, mut place, live } = following;
        let (lines, id) = (self.lines.clone(), place.id());
        tokio::select! {
            () = place.told_to_go() => {}
            () = lines.closed() => {}
            _ = self.follow_on(head, id, live) => {}
        }
    }

    async fn follow_on(&mut self, mut head: Head, id: u64, live: Option<Live>) -> Result<(), Gone> {
        self.head(head).await?;
        let mut live = live;
        loop {
            if let Some(live) = live.take() {
                self.forward(live).await?;
            } else if self.after > head.seq {
                // The client has entries that this server has lost: the head line tells it so.
                return Err(Gone);
            } else {
                self.catch_up(head, usize::MAX).await?;
            }
            match self.vault.join(&self.caller, id, self.after).await {
                Ok(Join::Live(joined)) => live = Some(joined),
                Ok(Join::Behind(grown)) => head = grown,
                Err(_) => return Err(Gone),
            }
        }
    }

    /// Sends what was committed up to `head`, then `head` itself unless it is `most` bytes away.
    async fn catch_up(&mut self, head: Head, most: usize) -> Result<(), Gone> {
        // Entry 0, the genesis, goes to those who have nothing yet.
        let mut next = if self.after == 0 { 0 } else { self.after.saturating_add(1) };
        let mut sent = 0;
        while next <= head.seq {
            if sent >= most {
                return Ok(());
            }
            let page = self.vault.page(next, head.seq, CHUNK.min(most - sent)).await;
            let page = page.map_err(|_| Gone)?;
            let last = page.last.ok_or(Gone)?;
            sent += page.bytes.len();
            self.send(page.bytes).await?;
            self.after = last;
            next = last.saturating_add(1);
        }
        self.head(head).await
    }

    /// Sends entries as they are committed; returns when the client has fallen behind.
    async fn forward(&mut self, mut live: Live) -> Result<(), Gone> {
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        loop {
            tokio::select! {
                line = live.next() => {
                    let Some(line) = line else { return Ok(()) };
                    self.send(line.bytes).await?;
                    self.after = line.seq;
                    beat.reset();
                }
                _ = beat.tick() => self.frame(&Frame::Beat).await?,
            }
        }
    }

    async fn head(&self, head: Head) -> Result<(), Gone> {
        self.frame(&Frame::Head { seq: head.seq, hash: head.hash }).await
    }

    async fn frame(&self, frame: &Frame) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(frame).map_err(|_| Gone)?;
        line.push(b'\n');
        self.send(line.into()).await
    }

    async fn send(&self, line: Bytes) -> Result<(), Gone> {
        self.lines.send(line).await.map_err(|_| Gone)
    }
}
