//! The one map from refusals to statuses.

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use host::store::StoreFailure;
use serde::Serialize;
use shared::audit::Outcome;
use shared::error::Code;
use shared::wire::v1::error::{COMPACTED, ErrorBody, NO_CHECKPOINT, RESTORED};

use crate::meter::{Limited, Room};
use crate::vault::Refusal;

/// Why a request got no success.
pub struct Fault {
    status: StatusCode,
    body: ErrorBody,
    unrecorded: Option<Unrecorded>,
    /// Seconds after which the same request may be let through.
    again: Option<u64>,
}

/// Marks an answer that refuses what no rule has seen: it is not on record yet.
#[derive(Clone)]
pub struct Unrecorded(pub Outcome);

impl Fault {
    /// Refuses what no rule has seen.
    pub fn unseen(status: StatusCode, why: Outcome, detail: impl Into<String>) -> Self {
        let body = ErrorBody { code: why.to_string(), detail: detail.into() };
        Self { status, body, unrecorded: Some(Unrecorded(why)), again: None }
    }

    /// Refuses a body, a query or a path that is malformed.
    pub fn malformed(detail: String) -> Self {
        Self::unseen(StatusCode::BAD_REQUEST, Outcome::BadRequest, detail)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let again = match &refusal {
            Refusal::Limited(Limited { wait, .. }) | Refusal::Often(wait) => {
                Some(wait.as_secs() + 1)
            }
            _ => None,
        };
        let (status, code, detail) = match refusal {
            Refusal::Stranger => {
                let why = "this key belongs to no active machine of the vault";
                (StatusCode::FORBIDDEN, "forbidden", why.to_owned())
            }
            Refusal::Denied(why) => (StatusCode::FORBIDDEN, Code::Denied.as_str(), why),
            Refusal::Claim => {
                let code = Code::Claim;
                (StatusCode::FORBIDDEN, code.as_str(), code.sentence().to_owned())
            }
            Refusal::Restored => {
                let why = "the server's database was set back: it takes only entries that it lost, \
                           until they are here or an owner resumes the vault";
                (StatusCode::SERVICE_UNAVAILABLE, RESTORED, why.to_owned())
            }
            Refusal::Rule(why) => (StatusCode::UNPROCESSABLE_ENTITY, why.code.as_str(), why.detail),
            Refusal::Absent(id) => {
                let why = format!("blob {}", id.short());
                (StatusCode::NOT_FOUND, Code::BlobAbsent.as_str(), why)
            }
            Refusal::Compacted(last) => {
                let why = format!("the log begins after entry {last}: start from its checkpoint");
                (StatusCode::GONE, COMPACTED, why)
            }
            Refusal::NoCheckpoint => {
                let why = "no owner has signed a checkpoint".to_owned();
                (StatusCode::NOT_FOUND, NO_CHECKPOINT, why)
            }
            Refusal::Limited(Limited { share, .. }) => {
                let why = format!("this machine has used up its share of {}", share.words());
                (StatusCode::TOO_MANY_REQUESTS, Outcome::Limited.as_str(), why)
            }
            Refusal::Often(_) => {
                let why = "too many hosts ask to join at once";
                (StatusCode::TOO_MANY_REQUESTS, Outcome::Limited.as_str(), why.to_owned())
            }
            Refusal::Unavailable(why) => {
                let (code, why) = unavailable(&why);
                (StatusCode::SERVICE_UNAVAILABLE, code, why.to_owned())
            }
        };
        let body = ErrorBody { code: code.to_owned(), detail };
        Self { status, body, unrecorded: None, again }
    }
}

/// Returns code and sentence for a failure of the database, or of the file beside it; its details
/// are in the log.
pub const fn unavailable(why: &StoreFailure) -> (&'static str, &'static str) {
    match why {
        StoreFailure::Full => ("disk_full", "the server's disk is full"),
        StoreFailure::Failed(_) => ("unavailable", "the server's database failed"),
        StoreFailure::Withheld(why) => ("unavailable", *why),
        StoreFailure::Closed => ("stopping", "the server is stopping"),
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.body);
        if let Some(seconds) = self.again {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(mark) = self.unrecorded {
            response.extensions_mut().insert(mark);
        }
        response
    }
}

/// Answers with a small JSON body.
pub fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    written(status, body, |bytes| bytes)
}

/// Answers 200 with a JSON body that holds its room until it is sent.
pub fn held<T: Serialize>(body: &T, room: Room) -> Response {
    written(StatusCode::OK, body, |bytes| room.hold(bytes))
}

fn written<T: Serialize>(
    status: StatusCode,
    body: &T,
    wrap: impl FnOnce(Bytes) -> Bytes,
) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let kind = HeaderValue::from_static("application/json");
            (status, [(header::CONTENT_TYPE, kind)], wrap(bytes.into())).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "answer not written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_named() {
        let why = "the file `head` in the server's data directory cannot be written";
        let withheld = StoreFailure::Withheld(why);
        assert_eq!(unavailable(&withheld), ("unavailable", why));
        let fault = Fault::from(Refusal::Unavailable(withheld));
        assert_eq!(fault.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((fault.body.code.as_str(), fault.body.detail.as_str()), ("unavailable", why));
    }
}
