//! What the routes share, and taking requests in: queries, and bodies with a size limit, a pace,
//! and a turn for large ones. No route lives here.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use serde::de::DeserializeOwned;
use shared::audit::Outcome;
use shared::log::Number;
use shared::wire::v1::shares::Share;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use crate::config::{Limits, Shares};
use crate::meter::{ANSWER, Room, STRANGERS, Turn};
use crate::vault::{Caller, Vault};

use super::error::Fault;

/// Bodies over this many bytes are taken in turn, one of each machine.
const LARGE: usize = 64 << 10;
/// Before its pace counts a body has this long.
const GRACE: Duration = Duration::from_secs(5);

/// What the routes share; clones are the same.
#[derive(Clone)]
pub struct App {
    pub vault: Vault,
    /// Ends the streams that stay open.
    pub shutdown: watch::Receiver<bool>,
    /// Counts the requests.
    pub requests: Arc<AtomicU64>,
    body_bytes: usize,
    body_time: Duration,
    body_pace: u64,
}

/// A body, and the place it occupies until it is dropped.
pub struct Taken {
    bytes: Bytes,
    place: Option<Place>,
}

/// The place of a large body.
pub struct Place {
    _turn: Turn,
    _own: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl App {
    pub fn new(
        vault: Vault,
        limits: &Limits,
        shares: &Shares,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self {
            vault,
            shutdown,
            requests: Arc::default(),
            body_bytes: limits.body_bytes,
            body_time: Duration::from_secs(limits.request_seconds),
            body_pace: shares.body_pace,
        }
    }

    /// Waits for memory for an answer that is made whole.
    pub async fn room(&self, caller: &Caller) -> Room {
        self.vault.meter().room(caller.number, ANSWER).await
    }

    /// Takes a body of at most `most` bytes in.
    pub async fn take(&self, request: Request, most: usize) -> Result<Taken, Fault> {
        let most = most.min(self.body_bytes);
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        if announced > most {
            return Err(too_large(most));
        }
        let machine = request.extensions().get::<Caller>().map_or(STRANGERS, |own| own.number);
        let mut body = request.into_body();
        let mut place = if announced > LARGE { Some(self.place(machine).await) } else { None };
        let mut bytes = Vec::with_capacity(if place.is_some() { announced } else { 0 });
        let mut start = Instant::now();
        while let Some(frame) = self.in_time(&mut body, start, bytes.len()).await? {
            let broken = |why| {
                let why = format!("the body broke off: {why}");
                Fault::unseen(StatusCode::BAD_REQUEST, Outcome::BrokeOff, why)
            };
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if bytes.len() + data.len() > most {
                return Err(too_large(most));
            }
            if place.is_none() && bytes.len() + data.len() > LARGE {
                let waiting = Instant::now();
                place = Some(self.place(machine).await);
                start += waiting.elapsed();
            }
            bytes.extend_from_slice(&data);
        }
        self.vault.meter().take(machine, Share::Bytes, bytes.len() as u64);
        Ok(Taken { bytes: bytes.into(), place })
    }

    /// Waits for the next frame of a body of which `got` bytes have come since `start`, for as long
    /// as it keeps its pace.
    async fn in_time(
        &self,
        body: &mut Body,
        start: Instant,
        got: usize,
    ) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, Fault> {
        let paced = GRACE + Duration::from_secs(got as u64 / self.body_pace);
        let end = start + paced.min(self.body_time);
        timeout_at(end, body.frame()).await.map_err(|_| {
            let why = "the body did not arrive in time";
            Fault::unseen(StatusCode::REQUEST_TIMEOUT, Outcome::Timeout, why)
        })
    }

    /// Waits until no other large body of the machine is on its way, then for its turn.
    async fn place(&self, machine: Number) -> Place {
        let meter = self.vault.meter();
        let _own = meter.body(machine).await;
        Place { _turn: meter.bodies.enter(machine).await, _own }
    }
}

fn too_large(most: usize) -> Fault {
    let why = format!("the body is larger than {most} bytes");
    Fault::unseen(StatusCode::PAYLOAD_TOO_LARGE, Outcome::TooLarge, why)
}

/// A JSON body of at most `MOST` bytes, and the place it occupies until it is dropped.
pub struct Json<T, const MOST: usize>(pub T, pub Option<Place>);

impl<T: DeserializeOwned, const MOST: usize> FromRequest<App> for Json<T, MOST> {
    type Rejection = Fault;

    /// A fault names line and column, but none of the content.
    async fn from_request(request: Request, app: &App) -> Result<Self, Fault> {
        let Taken { bytes, place } = app.take(request, MOST).await?;
        let parsed = serde_json::from_slice(&bytes).map_err(|why| {
            Fault::malformed(format!("the body is malformed at column {}", why.column()))
        })?;
        Ok(Self(parsed, place))
    }
}

/// A query.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Asked<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Fault> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(why) => Err(Fault::malformed(format!("the query is malformed: {why}"))),
        }
    }
}

/// Waits until the program is to end.
pub async fn told_to_stop(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
