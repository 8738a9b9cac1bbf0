//! What the routes share, and taking requests in: queries, and bodies with a size limit, a time
//! limit, and a limit on how many large ones are in memory at once. No route lives here.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use shared::audit::Outcome;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::config::Limits;
use crate::vault::Vault;

use super::error::Fault;

/// Bodies over this many bytes wait for one of the places of large ones.
const LARGE: usize = 64 << 10;
/// Places of large bodies.
const LARGE_AT_ONCE: usize = 4;

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
    large: Arc<Semaphore>,
}

/// A body, and the place it occupies until it is dropped.
pub struct Taken {
    bytes: Bytes,
    place: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl App {
    pub fn new(vault: Vault, limits: &Limits, shutdown: watch::Receiver<bool>) -> Self {
        Self {
            vault,
            shutdown,
            requests: Arc::default(),
            body_bytes: limits.body_bytes,
            body_time: Duration::from_secs(limits.request_seconds),
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        }
    }

    /// Takes a body of at most `most` bytes in.
    pub async fn take(&self, request: Request, most: usize) -> Result<Taken, Fault> {
        let most = most.min(self.body_bytes);
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        if announced > most {
            return Err(too_large(most));
        }
        let taken = self.collect(request.into_body(), announced, most);
        tokio::time::timeout(self.body_time, taken).await.map_err(|_| {
            let why = "the body did not arrive in time";
            Fault::unseen(StatusCode::REQUEST_TIMEOUT, Outcome::Timeout, why)
        })?
    }

    async fn collect(&self, mut body: Body, announced: usize, most: usize) -> Result<Taken, Fault> {
        let mut place = if announced > LARGE { self.place().await } else { None };
        let mut bytes = Vec::with_capacity(if place.is_some() { announced } else { 0 });
        while let Some(frame) = body.frame().await {
            let broken = |why| Fault::malformed(format!("the body broke off: {why}"));
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if bytes.len() + data.len() > most {
                return Err(too_large(most));
            }
            if place.is_none() && bytes.len() + data.len() > LARGE {
                place = self.place().await;
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Taken { bytes: bytes.into(), place })
    }

    /// Waits for a place; the semaphore is never closed.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.large).acquire_owned().await.ok()
    }
}

fn too_large(most: usize) -> Fault {
    let why = format!("the body is larger than {most} bytes");
    Fault::unseen(StatusCode::PAYLOAD_TOO_LARGE, Outcome::TooLarge, why)
}

/// A JSON body of at most `MOST` bytes, and the place it occupies until it is dropped.
pub struct Json<T, const MOST: usize>(pub T, pub Option<OwnedSemaphorePermit>);

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
