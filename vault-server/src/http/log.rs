//! `GET` and `POST /v1/log`: pages, streams that stay open, new entries.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::poll_fn;
use shared::head::SignedHead;
use shared::limits;
use shared::wire::v1::log::{AppendRequest, Frame, LAST_HEAD, LogQuery};
use shared::wire::v1::shares::Share;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};

use crate::vault::{Append, Caller, Join, Live, Peer, Place, Vault, line};

use super::app::{App, Asked, Json, told_to_stop};
use super::error::{Fault, json};
use super::open::Follows;

/// Silence on an open stream is broken this often.
const BEAT: Duration = Duration::from_secs(15);
/// Bytes read from the database at once.
const CHUNK: usize = 256 << 10;
/// The longest line that a page may end with: an entry in base64.
const LINE: usize = limits::BODY / 2 * 3;

/// Judges the newest head that a peer holds and shows with a request for the log: before anything
/// else, as it may tell that the database was set back.
pub async fn shown(vault: &Vault, peer: &Peer, head: Option<HeaderValue>) -> Result<(), Fault> {
    let Some(head) = head else { return Ok(()) };
    let head: SignedHead = serde_json::from_slice(head.as_bytes())
        .map_err(|why| Fault::malformed(format!("the header {LAST_HEAD} is malformed: {why}")))?;
    Ok(vault.judge_shown(peer, head).await?)
}

/// Appends an entry: 201 with the head it made, 409 with the one it should have been built on.
pub async fn append(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(request, _place): Json<AppendRequest, { usize::MAX }>,
) -> Result<Response, Fault> {
    Ok(match app.vault.append(caller, request).await? {
        Append::Done(head) => json(StatusCode::CREATED, &head),
        Append::Conflict(head) => json(StatusCode::CONFLICT, &head),
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
        let head = sender.vault.read_log(caller, after).await?;
        tokio::spawn(sender.page(head));
    }
    let kind = HeaderValue::from_static("application/x-ndjson");
    let lines = poll_fn(move |cx| receiver.poll_recv(cx).map(|line| line.map(Ok::<_, Infallible>)));
    let mut response = ([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response();
    if follow {
        response.extensions_mut().insert(Follows);
    }
    Ok(response)
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
    async fn page(mut self, head: SignedHead) {
        let lines = self.lines.clone();
        let send = async {
            self.head(head).await?;
            self.catch_up(head, limits::LOG_PAGE).await
        };
        tokio::select! {
            () = lines.closed() => {}
            _ = send => {}
        }
    }

    async fn follow(mut self, head: SignedHead, mut place: Place, join: Join) {
        let (lines, id) = (self.lines.clone(), place.id);
        tokio::select! {
            () = place.told_to_go() => {}
            () = lines.closed() => {}
            _ = self.follow_on(head, id, join) => {}
        }
    }

    async fn follow_on(&mut self, head: SignedHead, id: u64, mut join: Join) -> Result<(), Gone> {
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

    /// Sends what was committed up to `head`, unless it is `most` bytes away; each chunk ends with
    /// the head of its last entry.
    async fn catch_up(&mut self, head: SignedHead, most: usize) -> Result<(), Gone> {
        // Entry 0, the genesis, goes to those who have nothing yet.
        let mut next = if self.after == 0 { 0 } else { self.after.saturating_add(1) };
        let mut sent = 0;
        while next <= head.seq {
            if sent >= most {
                return Ok(());
            }
            // A client that does not read waits here, and holds no more than its machine may.
            let (meter, machine) = (self.vault.meter(), self.caller.number);
            let room = meter.room(machine, CHUNK + LINE).await;
            let page = self.vault.page(machine, next, head.seq, CHUNK.min(most - sent)).await;
            let (lines, last) = page.map_err(|_| Gone)?;
            let last = last.ok_or(Gone)?;
            sent += lines.len();
            meter.take(machine, Share::Bytes, lines.len() as u64);
            self.send(room.hold(lines)).await?;
            self.after = last;
            next = last.saturating_add(1);
        }
        Ok(())
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

    async fn head(&self, head: SignedHead) -> Result<(), Gone> {
        self.frame(&Frame::Head(head)).await
    }

    async fn frame(&self, frame: &Frame) -> Result<(), Gone> {
        self.send(line(frame).map_err(|_| Gone)?).await
    }

    async fn send(&self, line: Bytes) -> Result<(), Gone> {
        self.lines.send(line).await.map_err(|_| Gone)
    }
}
