//! The one map from refusals to statuses.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::audit::Outcome;
use shared::error::Code;
use shared::wire::v1::error::ErrorBody;

use crate::store::Unavailable;
use crate::vault::Refusal;

/// Why a request got no success.
#[derive(Debug)]
pub enum Fault {
    /// The key belongs to no active machine.
    Stranger,
    /// No such route.
    NoRoute,
    /// The route does not know the method.
    NoMethod,
    /// The body, the query or the path is malformed.
    Malformed(String),
    /// The body is over the limit of bytes.
    TooLarge(usize),
    /// The body did not arrive in time.
    TooSlow,
    /// The rules refused.
    Refused(Refusal),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stranger => Self::Stranger,
            other => Self::Refused(other),
        }
    }
}

impl From<Unavailable> for Fault {
    fn from(why: Unavailable) -> Self {
        Self::Refused(Refusal::Unavailable(why))
    }
}

impl Fault {
    fn parts(self) -> (StatusCode, String, String) {
        let plain = |status, code: &str, detail: &str| (status, code.to_owned(), detail.to_owned());
        match self {
            Self::Stranger => plain(
                StatusCode::FORBIDDEN,
                "forbidden",
                "this key belongs to no active machine of the vault",
            ),
            Self::NoRoute => plain(StatusCode::NOT_FOUND, "not_found", "no such route"),
            Self::NoMethod => plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "the route does not know this method",
            ),
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, "bad_request".to_owned(), why),
            Self::TooLarge(limit) => {
                let why = format!("the body is larger than {limit} bytes");
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large".to_owned(), why)
            }
            Self::TooSlow => {
                plain(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time")
            }
            Self::Refused(refusal) => refused(refusal),
        }
    }
}

fn refused(refusal: Refusal) -> (StatusCode, String, String) {
    match refusal {
        Refusal::Stranger => Fault::Stranger.parts(),
        Refusal::Denied(why) => (StatusCode::FORBIDDEN, Code::Denied.to_string(), why),
        Refusal::Claim => {
            let code = Code::Claim;
            (StatusCode::FORBIDDEN, code.to_string(), code.sentence().to_owned())
        }
        Refusal::Rule(why) => (StatusCode::UNPROCESSABLE_ENTITY, why.code.to_string(), why.detail),
        Refusal::Absent(id) => {
            (StatusCode::NOT_FOUND, Code::BlobAbsent.to_string(), format!("blob {}", id.short()))
        }
        Refusal::Unavailable(why) => {
            let code = match why {
                Unavailable::Full => "disk_full",
                Unavailable::Failed => "unavailable",
                Unavailable::Stopping => "stopping",
            };
            (StatusCode::SERVICE_UNAVAILABLE, code.to_owned(), why.to_string())
        }
    }
}

/// Marks an answer that refuses what no rule has seen: it is not on record yet.
#[derive(Clone, Debug)]
pub struct Unrecorded(pub Outcome);

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mark = match &self {
            Self::NoRoute => Some(Outcome::NotFound),
            Self::NoMethod => Some(Outcome::MethodNotAllowed),
            Self::Malformed(_) => Some(Outcome::BadRequest),
            Self::TooLarge(_) => Some(Outcome::TooLarge),
            Self::TooSlow => Some(Outcome::Timeout),
            Self::Stranger | Self::Refused(_) => None,
        };
        let (status, code, detail) = self.parts();
        let mut response = json(status, &ErrorBody { code, detail });
        if let Some(why) = mark {
            response.extensions_mut().insert(Unrecorded(why));
        }
        response
    }
}

/// Answers with a JSON body.
pub fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let kind = HeaderValue::from_static("application/json");
            (status, [(header::CONTENT_TYPE, kind)], bytes).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "answer not written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
