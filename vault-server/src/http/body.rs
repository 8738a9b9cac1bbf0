//! Taking request bodies in: a size limit, a time limit, and a limit on how many large ones are in
//! memory at once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

use super::error::Fault;

/// Bodies over this many bytes wait for one of the places of large ones.
const LARGE: usize = 64 << 10;
/// Places of large bodies.
const LARGE_AT_ONCE: usize = 4;

/// Takes bodies in.
#[derive(Clone)]
pub struct Intake {
    limit: usize,
    time: Duration,
    large: Arc<Semaphore>,
}

/// A body, and the place it occupies until it is dropped.
pub struct Taken {
    /// The bytes.
    pub bytes: Bytes,
    place: Option<OwnedSemaphorePermit>,
}

impl Taken {
    /// Parses the body as JSON; the place stays occupied by what it holds.
    ///
    /// # Errors
    /// [`Fault::Malformed`], naming line and column but none of the content.
    pub fn json<T: DeserializeOwned>(self) -> Result<(T, Option<OwnedSemaphorePermit>), Fault> {
        let parsed = serde_json::from_slice(&self.bytes).map_err(|why| {
            Fault::Malformed(format!("the body is malformed at column {}", why.column()))
        })?;
        Ok((parsed, self.place))
    }
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Intake {
    /// Makes an intake with the configured limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.body_bytes,
            time: limits.request(),
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        }
    }

    /// Takes a body of at most `most` bytes in.
    ///
    /// # Errors
    /// [`Fault::TooLarge`], [`Fault::TooSlow`], [`Fault::Malformed`] if it breaks off.
    pub async fn take(&self, headers: &HeaderMap, body: Body, most: usize) -> Result<Taken, Fault> {
        let most = most.min(self.limit);
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let announced: usize = announced.and_then(|text| text.parse().ok()).unwrap_or(0);
        if announced > most {
            return Err(Fault::TooLarge(most));
        }
        let taken = tokio::time::timeout(self.time, self.collect(body, announced, most));
        taken.await.map_err(|_| Fault::TooSlow)?
    }

    /// Takes a JSON body of at most `most` bytes in.
    ///
    /// # Errors
    /// As [`Intake::take`] and [`Taken::json`].
    pub async fn json<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        body: Body,
        most: usize,
    ) -> Result<(T, Option<OwnedSemaphorePermit>), Fault> {
        self.take(headers, body, most).await?.json()
    }

    async fn collect(&self, mut body: Body, announced: usize, most: usize) -> Result<Taken, Fault> {
        let mut place = if announced > LARGE { self.place().await } else { None };
        let mut bytes = Vec::with_capacity(if place.is_some() { announced } else { 0 });
        while let Some(frame) = body.frame().await {
            let broken = |why| Fault::Malformed(format!("the body broke off: {why}"));
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if bytes.len() + data.len() > most {
                return Err(Fault::TooLarge(most));
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
