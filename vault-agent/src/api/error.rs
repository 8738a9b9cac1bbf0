//! The one map from what went wrong to a status and to Vault's exact words. Deciding that something
//! is wrong does not live here.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use shared::error::Code;
use shared::limits;
use zeroize::Zeroizing;

use crate::engine::{ReadError, WriteError};

use super::envelope::{self, ApiAnswer};

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(super) enum ApiFault {
    /// Nothing is there.
    Missing,
    /// Nothing is there to be patched: Vault answers without a body.
    NothingToPatch,
    /// The caller, or this machine, has no right to it.
    Denied,
    /// A token asked about is none.
    BadToken,
    /// As [`ApiFault::Denied`], where it helps to say what is missing.
    Forbidden(String),
    /// A request that only a web page would make.
    FromWebPage(&'static str),
    /// No mount of that name: the preflight must not tell which there are.
    Preflight(String),
    /// A path below no mount.
    NoRoute(String),
    /// No such path below a known one.
    UnsupportedPath,
    /// The path does not know this method.
    UnsupportedOperation,
    /// No path knows this method.
    UnknownMethod,
    /// A token was shown that lets nobody in.
    InvalidToken,
    /// The path is not clean: look there instead.
    Moved(String),
    /// The path's percent-encoding is broken.
    BadPath,
    /// A query parameter is not what it should be; Vault says nothing then.
    BadQuery,
    /// The body is not JSON.
    BadJson(String),
    /// The body is JSON of this type instead of an object, in Go's words.
    NotAnObject(&'static str),
    /// A field is not what it should be.
    Field(String),
    /// The request says something that cannot be done.
    Refused(String),
    /// A put without data.
    NoData,
    /// No versions were named.
    NoVersions(&'static str),
    /// A put to a folder.
    Folder,
    /// The check-and-set number is not a number.
    CasMalformed,
    /// The check-and-set number is not the current version.
    CasMismatch,
    /// A check-and-set number is required.
    CasRequired,
    /// A patch without a content type.
    NoMediaType,
    /// A patch of the wrong content type.
    NotMergePatch(String),
    /// The body is over the limit.
    TooLarge,
    /// The content is: how many bytes, if they were counted here.
    ContentTooLarge(Option<usize>),
    /// The body did not arrive in time.
    TooSlow,
    /// The log moved on since an owner's act was prepared.
    LogMoved,
    /// What was asked of the server failed there or on the way.
    Remote(String),
    /// A version that this machine does not hold, whose reader wants no other asked.
    NotCached(u64),
    /// The server is away.
    Offline(String),
    /// The server's disk is full.
    ServerFull,
    /// A write was sent and no answer came.
    Unresolved,
    /// What is asked is here, but broken.
    Broken(String),
}

/// What Vault says of a body that is no JSON object.
const PARSING: &str = "error parsing JSON";
/// What it adds where the JSON is of another type, before and behind that.
const UNMARSHAL: &str = ": failed to parse JSON input: json: cannot unmarshal";
const INTO_MAP: &str = "into Go value of type map[string]interface {}";

impl ApiFault {
    /// A field that is not what it should be.
    pub(super) fn field(name: &str, expected: &str) -> Self {
        Self::Field(format!("error converting input for field {name:?}: expected {expected}"))
    }

    /// A field that is no map, but of this type in Go's words.
    pub(super) fn no_map(name: &str, got: &str) -> Self {
        Self::Field(format!(
            "error converting input for field {name:?}: '' expected a map, got '{got}'"
        ))
    }

    /// A duration below 0, in seconds.
    pub(super) fn negative(name: &str, seconds: i64) -> Self {
        Self::Field(format!(
            "error converting input for field {name:?}: cannot provide negative value '{seconds}'"
        ))
    }

    /// Takes off the words that Vault leaves out where it has looked whether the secret exists.
    pub(super) fn of_existence_check(self) -> Self {
        match self {
            Self::Field(text) => Self::Refused(text),
            other => other,
        }
    }

    /// Several faults at once, as Go's multierror prints them.
    pub(super) fn several(faults: &[String]) -> Self {
        let count = faults.len();
        let plural = if count == 1 { "" } else { "s" };
        let list: String = faults.iter().map(|fault| format!("\t* {fault}\n")).collect();
        Self::Refused(format!("{count} error{plural} occurred:\n{list}\n"))
    }

    /// Returns the status.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Missing | Self::NothingToPatch | Self::NoRoute(_) | Self::UnsupportedPath => {
                StatusCode::NOT_FOUND
            }
            Self::Denied
            | Self::InvalidToken
            | Self::BadToken
            | Self::Forbidden(_)
            | Self::FromWebPage(_)
            | Self::Preflight(_) => StatusCode::FORBIDDEN,
            Self::UnsupportedOperation | Self::UnknownMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Moved(_) => StatusCode::TEMPORARY_REDIRECT,
            Self::BadPath
            | Self::BadQuery
            | Self::BadJson(_)
            | Self::NotAnObject(_)
            | Self::NoMediaType
            | Self::Field(_)
            | Self::Refused(_)
            | Self::NoData
            | Self::NoVersions(_)
            | Self::Folder
            | Self::CasMalformed
            | Self::CasMismatch
            | Self::CasRequired => StatusCode::BAD_REQUEST,
            Self::NotMergePatch(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge | Self::ContentTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::LogMoved => StatusCode::CONFLICT,
            Self::Remote(_) => StatusCode::BAD_GATEWAY,
            Self::NotCached(_) | Self::Offline(_) | Self::ServerFull => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unresolved => StatusCode::GATEWAY_TIMEOUT,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the one text of `errors`, if there is one.
    fn text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Missing
            | Self::NothingToPatch
            | Self::BadQuery
            | Self::UnknownMethod
            | Self::Moved(_) => return None,
            Self::Denied => "permission denied".into(),
            Self::InvalidToken => {
                "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n".into()
            }
            Self::BadToken => "bad token".into(),
            Self::FromWebPage(why) => (*why).into(),
            Self::Preflight(path) => format!(
                "preflight capability check returned 403, please ensure client's policies grant access to path {path:?}"
            )
            .into(),
            Self::NoRoute(path) => {
                format!("no handler for route {path:?}. route entry not found.").into()
            }
            Self::UnsupportedPath => "1 error occurred:\n\t* unsupported path\n\n".into(),
            Self::UnsupportedOperation => "1 error occurred:\n\t* unsupported operation\n\n".into(),
            Self::BadPath => "the path's percent-encoding is broken".into(),
            Self::BadJson(_) => PARSING.into(),
            Self::NotAnObject(kind) => format!("{PARSING}{UNMARSHAL} {kind} {INTO_MAP}").into(),
            Self::Field(text) => format!("Field validation failed: {text}").into(),
            Self::Forbidden(text)
            | Self::Refused(text)
            | Self::Remote(text)
            | Self::Broken(text) => text.into(),
            Self::LogMoved => {
                "the log moved on since this was prepared\nhint: run the command again".into()
            }
            Self::NoData => "no data provided".into(),
            Self::NoVersions(text) => (*text).into(),
            Self::Folder => "cannot write to a path ending in '/'".into(),
            Self::CasMalformed => "error parsing check-and-set parameter".into(),
            Self::CasMismatch => {
                "check-and-set parameter did not match the current version".into()
            }
            Self::CasRequired => "check-and-set parameter required for this call".into(),
            Self::NoMediaType => "mime: no media type".into(),
            Self::NotMergePatch(given) => format!(
                "PATCH requires Content-Type of application/merge-patch+json, provided {given}"
            )
            .into(),
            Self::TooLarge => "http: request body too large".into(),
            Self::ContentTooLarge(bytes) => content_too_large(*bytes).into(),
            Self::TooSlow => "the request's body did not arrive in time".into(),
            Self::NotCached(ver) => format!(
                "version {ver} is not in this machine's cache\nhint: without -offline the server is asked for it"
            )
            .into(),
            Self::Offline(reason) => format!(
                "the server cannot be reached: {reason}\nhint: values that were read before are still answered; try again when `vault status` shows the server"
            )
            .into(),
            Self::ServerFull => {
                "the server's disk is full: nothing was written\nhint: make room on the server, then write again"
                    .into()
            }
            Self::Unresolved => {
                "the write was sent, but its answer did not come: it is kept and sent again\nhint: read the secret before writing again"
                    .into()
            }
        })
    }

    /// Makes the answer.
    pub(super) fn answer(self) -> ApiAnswer {
        let status = self.status();
        match self {
            Self::NothingToPatch => envelope::bare(status, Zeroizing::default()),
            Self::Moved(target) => {
                let mut answer = envelope::empty(status);
                if let Ok(target) = HeaderValue::from_str(&target) {
                    answer.headers_mut().insert(header::LOCATION, target);
                }
                answer
            }
            Self::NotCached(_) | Self::Offline(_) | Self::ServerFull => {
                let mut answer = envelope::errors(status, self.text().as_deref());
                // Go's clients try twice more whatever is said: without this they sleep before it.
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("0"));
                answer
            }
            // Vault's words, to the letter; where the fault is stands beside them.
            Self::BadJson(why) => envelope::error_with_warning(status, PARSING, &why),
            other => envelope::errors(status, other.text().as_deref()),
        }
    }
}

fn content_too_large(bytes: Option<usize>) -> String {
    let bytes = bytes.map(|bytes| format!("of {bytes} bytes ")).unwrap_or_default();
    format!(
        "content {bytes}is too large, {} KiB at most\nhint: keep the file elsewhere and its key here",
        limits::CONTENT >> 10
    )
}

impl From<ReadError> for ApiFault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Missing | ReadError::Deleted { .. } | ReadError::Destroyed { .. } => {
                Self::Missing
            }
            ReadError::Denied => Self::Denied,
            ReadError::Offline { ver, reason } => {
                Self::Offline(format!("{reason}; version {ver} is not in the cache"))
            }
            ReadError::Blob(error) => Self::Broken(format!("{error}\nhint: {}", error.code.hint())),
            ReadError::Local(why) => Self::Broken(why.to_string()),
        }
    }
}

impl From<WriteError> for ApiFault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Cas { .. } => Self::CasMismatch,
            WriteError::CasRequired => Self::CasRequired,
            WriteError::Denied => Self::Denied,
            WriteError::Missing | WriteError::Deleted { .. } => Self::Missing,
            WriteError::Offline { reason } => Self::Offline(reason),
            WriteError::Full => Self::ServerFull,
            WriteError::Unresolved => Self::Unresolved,
            WriteError::Refused(error) if error.code == Code::Denied => Self::Denied,
            WriteError::Refused(error) => {
                Self::Refused(format!("{error}\nhint: {}", error.code.hint()))
            }
            WriteError::TooLarge => Self::ContentTooLarge(None),
            WriteError::Moved => Self::LogMoved,
            WriteError::Unreadable(error) => error.into(),
            WriteError::Local(why) => Self::Broken(why),
        }
    }
}

impl From<shared::error::Error> for ApiFault {
    fn from(error: shared::error::Error) -> Self {
        Self::Refused(format!("{error}\nhint: {}", error.code.hint()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "cases read better")]
    fn check(fault: ApiFault, status: u16, text: Option<&str>) {
        assert_eq!((fault.status().as_u16(), fault.text().as_deref()), (status, text));
    }

    #[test]
    fn faults_have_vaults_status_and_words() {
        check(ApiFault::Missing, 404, None);
        check(ApiFault::NothingToPatch, 404, None);
        check(ApiFault::Denied, 403, Some("permission denied"));
        check(
            ApiFault::UnsupportedOperation,
            405,
            Some("1 error occurred:\n\t* unsupported operation\n\n"),
        );
        check(ApiFault::NoData, 400, Some("no data provided"));
        check(
            ApiFault::NoVersions("No version number provided"),
            400,
            Some("No version number provided"),
        );
        check(ApiFault::Folder, 400, Some("cannot write to a path ending in '/'"));
        check(ApiFault::CasMalformed, 400, Some("error parsing check-and-set parameter"));
        check(
            WriteError::Cas { current: 3 }.into(),
            400,
            Some("check-and-set parameter did not match the current version"),
        );
        check(
            WriteError::CasRequired.into(),
            400,
            Some("check-and-set parameter required for this call"),
        );
        check(WriteError::Denied.into(), 403, Some("permission denied"));
        check(
            WriteError::Refused(Code::Denied.because("x")).into(),
            403,
            Some("permission denied"),
        );
        check(ApiFault::TooLarge, 413, Some("http: request body too large"));
        check(
            ApiFault::ContentTooLarge(Some(786_433)),
            413,
            Some(
                "content of 786433 bytes is too large, 768 KiB at most\nhint: keep the file elsewhere and its key here",
            ),
        );
        check(
            ApiFault::NotMergePatch("text/plain".to_owned()),
            415,
            Some(
                "PATCH requires Content-Type of application/merge-patch+json, provided text/plain",
            ),
        );
        check(
            ApiFault::NoRoute("x/y".to_owned()),
            404,
            Some("no handler for route \"x/y\". route entry not found."),
        );
        check(
            ApiFault::several(&["a".to_owned(), "b".to_owned()]),
            400,
            Some("2 errors occurred:\n\t* a\n\t* b\n\n"),
        );
        let offline =
            ApiFault::from(WriteError::Offline { reason: "connection refused".to_owned() });
        assert_eq!(offline.status(), 503);
        assert!(
            offline
                .text()
                .unwrap()
                .starts_with("the server cannot be reached: connection refused\nhint: ")
        );
    }
}
