//! `GET /v1/checkpoint`: who vouches for the newest checkpoint, and its state as it is stored.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::poll_fn;
use shared::log::Checkpoint;
use shared::wire::v1::shares::Share;
use tokio::sync::mpsc;

use crate::vault::{Caller, Vault};

use super::app::App;
use super::error::Fault;

/// Bytes read from the database at once.
const CHUNK: usize = 256 << 10;
/// The longest that a piece may go over that: a row of a state.
const ROW: usize = shared::limits::STATE_ROW;

/// Answers with a line and the rows of the state. An answer that ends early is noticed by its size.
pub async fn read(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Fault> {
    let (line, named) = app.vault.checkpoint(caller.clone()).await?;
    let (lines, mut receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let closed = lines.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = send(app.vault, caller, line, named, lines) => {}
        }
    });
    let kind = HeaderValue::from_static("application/x-ndjson");
    let rows = poll_fn(move |cx| receiver.poll_recv(cx).map(|row| row.map(Ok::<_, Infallible>)));
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(rows)).into_response())
}

async fn send(
    vault: Vault,
    caller: Caller,
    line: Bytes,
    named: Checkpoint,
    lines: mpsc::Sender<Bytes>,
) {
    let (meter, machine, mut from) = (vault.meter(), caller.number, 0);
    let mut next = line;
    loop {
        meter.take(machine, Share::Bytes, next.len() as u64);
        // A client that does not read waits here, and holds no more than its machine may.
        let room = meter.room(machine, CHUNK + ROW).await;
        if lines.send(room.hold(next)).await.is_err() {
            return;
        }
        let Ok((bytes, pieces)) = vault.state(machine, named.seq, from, CHUNK).await else {
            return;
        };
        if pieces == 0 {
            return;
        }
        (next, from) = (bytes, from + pieces);
    }
}
