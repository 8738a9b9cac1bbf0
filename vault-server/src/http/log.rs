//! `GET` and `POST /v1/log`: pages, streams that stay open, new entries.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::poll_fn;
use shared::limits;
use shared::wire::v1::log::{AppendRequest, Frame, LogQuery};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};

use crate::vault::{Append, Caller, Head, Join, Live, Place, Vault, line};

use super::app::{App, Asked, Json, told_to_stop};
use super::error::{Fault, json};

/// Silence on an open stream is broken this often.
const BEAT: Duration = Duration::from_secs(15);
/// Bytes read from the database at once.
const CHUNK: usize = 256 << 10;

/// Appends an entry: 201 with its place, 409 with the head it should have been built on.
pub async fn append(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(request, _place): Json<AppendRequest, { usize::MAX }>,
) -> Result<Response, Fault> {
    Ok(match app.vault.append(caller, request).await? {
        Append::Done(done) => json(StatusCode::CREATED, &done),
        Append::Conflict(conflict) => json(StatusCode::CONFLICT, &conflict),
    })
}

/// Answers with lines: up to the head or 8 MiB, or for as long as the client follows.
pub async fn read(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(LogQuery { after, follow, run }): Asked<LogQuery>,
) -> Result<Response, Fault> {
    let App { vault, mut shutdown, .. } = app;
    let (lines, mut receiver) = mpsc::channel(4);
    let sender = Sender { vault, caller, lines, after };
    let caller = sender.caller.clone();
    if follow {
        let (head, place, join) = sender.vault.follow(caller, after, run).await?;
        tokio::spawn(async move {
            tokio::select! {
                () = told_to_stop(&mut shutdown) => {}
                () = sender.follow(head, place, join) => {}
            }
        });
    } else {
        let head = sender.vault.read_log(caller).await?;
        tokio::spawn(sender.page(head));
    }
    let kind = HeaderValue::from_static("application/x-ndjson");
    let lines = poll_fn(move |cx| receiver.poll_recv(cx).map(|line| line.map(Ok::<_, Infallible>)));
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response())
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

    async fn follow(mut self, head: Head, mut place: Place, join: Join) {
        let (lines, id) = (self.lines.clone(), place.id);
        tokio::select! {
            () = place.told_to_go() => {}
            () = lines.closed() => {}
            _ = self.follow_on(head, id, join) => {}
        }
    }

    async fn follow_on(&mut self, head: Head, id: u64, mut join: Join) -> Result<(), Gone> {
        self.head(head).await?;
        loop {
            match join {
                Join::Live(live) => self.forward(live).await?,
                // The client has entries that this server has lost: the head line tells it so.
                Join::Behind(head) if self.after > head.seq => return Err(Gone),
                Join::Behind(head) => self.catch_up(head, usize::MAX).await?,
            }
            let joined = self.vault.join(self.caller.clone(), id, self.after).await;
            join = joined.map_err(|_| Gone)?;
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
            let (lines, last) = page.map_err(|_| Gone)?;
            let last = last.ok_or(Gone)?;
            sent += lines.len();
            self.send(lines).await?;
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
        self.send(line(frame).map_err(|_| Gone)?).await
    }

    async fn send(&self, line: Bytes) -> Result<(), Gone> {
        self.lines.send(line).await.map_err(|_| Gone)
    }
}
