//! The one map from what went wrong to a status and to Vault's exact words. Deciding that something
//! is wrong does not live here.

use axum::http::{HeaderValue, StatusCode, header};
use shared::error::{Code, Error};
use shared::limits;

use crate::engine::{ReadError, WriteError, unfollowed};
use machine::render::Text;

use super::envelope::{self, ApiAnswer};

/// Why a request is not answered as asked. What it prints is the one text of `errors`, which is
/// empty where that prints nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiFault {
    /// Nothing is there.
    #[error("")]
    Missing,
    /// Nothing is there to be patched: Vault answers without a body.
    #[error("")]
    NothingToPatch,
    /// The caller, or this machine, has no right to it.
    #[error("permission denied")]
    Denied,
    /// As [`ApiFault::Denied`]: this machine has no rights, as the vault has other keys for it.
    #[error(
        "permission denied: {}: {}\nhint: `vault status` shows the alarm and the way out",
        Code::JoinSubstituted,
        Code::JoinSubstituted.sentence()
    )]
    Substituted,
    /// As [`ApiFault::Denied`]: this machine has no grant, and so an admin has a command to run.
    #[error("permission denied\nhint: {0}")]
    NoGrant(String),
    /// As [`ApiFault::Denied`], where it helps to say more.
    #[error("{0}")]
    Forbidden(String),
    /// The caller has to say why, and has not; who has to.
    #[error(
        "a reason is wanted of {0}, and none was given\nhint: say why with `--reason TEXT`, or in \
         the header `X-Vault-Reason`; it stands in the audit log"
    )]
    NoReason(String),
    /// A token was shown that lets nobody in.
    #[error("2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")]
    InvalidToken,
    /// No mount of that name: the preflight must not tell which there are.
    #[error(
        "preflight capability check returned 403, please ensure client's policies grant access to \
         path {0:?}"
    )]
    Preflight(String),
    /// A path below no mount.
    #[error("no handler for route {0:?}. route entry not found.")]
    NoRoute(String),
    /// No such path below a known one.
    #[error("1 error occurred:\n\t* unsupported path\n\n")]
    UnsupportedPath,
    /// The path does not know this method.
    #[error("1 error occurred:\n\t* unsupported operation\n\n")]
    UnsupportedOperation,
    /// No path knows this method.
    #[error("")]
    UnknownMethod,
    /// The path is not clean: look there instead.
    #[error("")]
    Moved(String),
    #[error("the path's percent-encoding is broken")]
    BadPath,
    /// A query parameter is not what it should be; Vault says nothing then.
    #[error("")]
    BadQuery,
    /// The body is not JSON, and why.
    #[error("error parsing JSON")]
    BadJson(String),
    /// The body is JSON of this type instead of an object, in Go's words.
    #[error(
        "error parsing JSON: failed to parse JSON input: json: cannot unmarshal {0} into Go value \
         of type map[string]interface {{}}"
    )]
    NotAnObject(&'static str),
    /// A field is not what it should be.
    #[error("Field validation failed: {0}")]
    Field(String),
    /// The request says something that cannot be done.
    #[error("{0}")]
    Refused(String),
    #[error("no data provided")]
    NoData,
    #[error("cannot write to a path ending in '/'")]
    Folder,
    #[error("error parsing check-and-set parameter")]
    CasMalformed,
    #[error("check-and-set parameter did not match the current version")]
    CasMismatch,
    #[error("check-and-set parameter required for this call")]
    CasRequired,
    /// A patch without a content type.
    #[error("mime: no media type")]
    NoMediaType,
    #[error("PATCH requires Content-Type of application/merge-patch+json, provided {0}")]
    NotMergePatch(String),
    #[error("http: request body too large")]
    TooLarge,
    /// The content is: how many bytes, if they were counted here.
    #[error(
        "content {}is too large, {} KiB at most\nhint: keep the file elsewhere and its key here",
        .0.map(|bytes| format!("of {bytes} bytes ")).unwrap_or_default(),
        limits::CONTENT >> 10
    )]
    ContentTooLarge(Option<usize>),
    #[error("the request's body did not arrive in time")]
    TooSlow,
    #[error("the log moved on since this was prepared\nhint: run the command again")]
    LogMoved,
    /// What was asked of the server failed there or on the way.
    #[error("{0}")]
    Remote(String),
    /// A version that this machine does not hold, whose reader wants no other asked.
    #[error(
        "version {0} is not in this machine's cache\nhint: without -offline the server is asked \
         for it"
    )]
    NotCached(u64),
    #[error(
        "{}\nhint: values that were read before are still answered; try again when `vault status` \
         shows the server",
        unfollowed(.0)
    )]
    Offline(String),
    /// The log was never followed: it is not known which mounts and secrets there are.
    #[error(
        "nothing was heard from the server yet: which secrets there are is not known here\nhint: \
         `vault status` says why; try again once it shows the server"
    )]
    Unheard,
    #[error(
        "{}: {}: nothing was written\nhint: {}",
        Code::Fork,
        Code::Fork.sentence(),
        Code::Fork.hint()
    )]
    Halted,
    #[error(
        "the server's disk is full: nothing was written\nhint: make room on the server, then write \
         again"
    )]
    ServerFull,
    #[error(
        "the write was sent, but its answer did not come: it is kept and sent again\nhint: read \
         the secret before writing again"
    )]
    Unresolved,
    #[error("{0}: the write is kept and sent again\nhint: read the secret before writing again")]
    Postponed(String),
    /// An older version that was written for others: Vault's clients take it for missing.
    #[error("{0}")]
    NotAReader(String),
    /// What is asked is here, but broken.
    #[error("{0}")]
    Broken(String),
}

impl ApiFault {
    /// A field that is not what it should be, and how.
    pub(super) fn field(name: &str, why: &str) -> Self {
        Self::Field(format!("error converting input for field {name:?}: {why}"))
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
            Self::Missing
            | Self::NothingToPatch
            | Self::NoRoute(_)
            | Self::UnsupportedPath
            | Self::NotAReader(_) => StatusCode::NOT_FOUND,
            Self::Denied
            | Self::Substituted
            | Self::NoGrant(_)
            | Self::NoReason(_)
            | Self::InvalidToken
            | Self::Forbidden(_)
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
            | Self::Folder
            | Self::CasMalformed
            | Self::CasMismatch
            | Self::CasRequired => StatusCode::BAD_REQUEST,
            Self::NotMergePatch(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge | Self::ContentTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::LogMoved => StatusCode::CONFLICT,
            Self::Remote(_) => StatusCode::BAD_GATEWAY,
            Self::NotCached(_)
            | Self::Offline(_)
            | Self::Unheard
            | Self::Halted
            | Self::ServerFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unresolved | Self::Postponed(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Makes the answer.
    pub(super) fn answer(self) -> ApiAnswer {
        let (status, text) = (self.status(), self.to_string());
        match self {
            Self::NothingToPatch => envelope::bare(status, Text::default()),
            Self::Moved(target) => {
                let mut answer = envelope::empty(status);
                if let Ok(target) = HeaderValue::from_str(&target) {
                    answer.headers_mut().insert(header::LOCATION, target);
                }
                answer
            }
            Self::NotCached(_)
            | Self::Offline(_)
            | Self::Unheard
            | Self::Halted
            | Self::ServerFull => {
                let mut answer = envelope::errors(status, &text, None);
                // Go's clients try twice more whatever is said: without this they sleep before it.
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("0"));
                answer
            }
            // Vault's words, to the letter; where the fault is stands beside them.
            Self::BadJson(why) => envelope::errors(status, &text, Some(&why)),
            Self::NotAReader(why) => envelope::errors(status, "", Some(&why)),
            _ => envelope::errors(status, &text, None),
        }
    }
}

impl From<ReadError> for ApiFault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Missing | ReadError::Deleted { .. } | ReadError::Destroyed { .. } => {
                Self::Missing
            }
            ReadError::Denied => Self::Denied,
            ReadError::Offline { ver, reason } => {
                // Every address that does not answer has a line.
                let then = if reason.contains('\n') { "\n" } else { "; " };
                Self::Offline(format!("{reason}{then}version {ver} is not in the cache"))
            }
            ReadError::Blob(error) if error.code == Code::NotAReader => {
                Self::NotAReader(with_hint(&error))
            }
            ReadError::Blob(error) => Self::Broken(with_hint(&error)),
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
            WriteError::Halted => Self::Halted,
            WriteError::Full => Self::ServerFull,
            WriteError::Unresolved => Self::Unresolved,
            WriteError::Postponed { reason, .. } => Self::Postponed(reason),
            WriteError::Refused(error) if error.code == Code::Denied => Self::Denied,
            WriteError::Refused(error) => error.into(),
            WriteError::TooLarge => Self::ContentTooLarge(None),
            WriteError::Moved => Self::LogMoved,
            WriteError::Unreadable(error) => error.into(),
            WriteError::Local(why) => Self::Broken(why),
        }
    }
}

impl From<Error> for ApiFault {
    fn from(error: Error) -> Self {
        Self::Refused(with_hint(&error))
    }
}

fn with_hint(error: &Error) -> String {
    format!("{error}\nhint: {}", error.code.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "cases read better")]
    fn check(fault: ApiFault, status: u16, text: &str) {
        assert_eq!((fault.status().as_u16(), fault.to_string().as_str()), (status, text));
    }

    #[test]
    fn faults_have_vaults_status_and_words() {
        check(ApiFault::Missing, 404, "");
        check(ApiFault::NothingToPatch, 404, "");
        check(ApiFault::Denied, 403, "permission denied");
        check(
            ApiFault::Unheard,
            503,
            "nothing was heard from the server yet: which secrets there are is not known here\n\
             hint: `vault status` says why; try again once it shows the server",
        );
        check(
            ApiFault::UnsupportedOperation,
            405,
            "1 error occurred:\n\t* unsupported operation\n\n",
        );
        check(ApiFault::NoData, 400, "no data provided");
        check(ApiFault::Folder, 400, "cannot write to a path ending in '/'");
        check(ApiFault::CasMalformed, 400, "error parsing check-and-set parameter");
        check(
            WriteError::Cas { current: 3 }.into(),
            400,
            "check-and-set parameter did not match the current version",
        );
        check(
            WriteError::CasRequired.into(),
            400,
            "check-and-set parameter required for this call",
        );
        check(WriteError::Denied.into(), 403, "permission denied");
        check(WriteError::Refused(Code::Denied.because("x")).into(), 403, "permission denied");
        let others = ReadError::Blob(Code::NotAReader.because("version 2 of `secret/a`"));
        let hint = Code::NotAReader.hint();
        let text = format!("E_NOT_A_READER: version 2 of `secret/a`\nhint: {hint}");
        check(others.into(), 404, &text);
        check(ApiFault::TooLarge, 413, "http: request body too large");
        check(
            ApiFault::ContentTooLarge(Some(786_433)),
            413,
            "content of 786433 bytes is too large, 768 KiB at most\nhint: keep the file elsewhere and its key here",
        );
        check(
            ApiFault::NotMergePatch("text/plain".to_owned()),
            415,
            "PATCH requires Content-Type of application/merge-patch+json, provided text/plain",
        );
        check(
            ApiFault::NoRoute("x/y".to_owned()),
            404,
            "no handler for route \"x/y\". route entry not found.",
        );
        check(
            ApiFault::several(&["a".to_owned(), "b".to_owned()]),
            400,
            "2 errors occurred:\n\t* a\n\t* b\n\n",
        );
        let offline =
            ApiFault::from(WriteError::Offline { reason: "connection refused".to_owned() });
        assert_eq!(offline.status(), 503);
        let text = offline.to_string();
        assert!(text.starts_with("the server cannot be reached: connection refused\nhint: "));
        let behind = ApiFault::Offline("E_SERVER_BEHIND: it ends at entry 4".into()).to_string();
        let answers = "the server answers, but its log is not followed: E_SERVER_BEHIND: it ends";
        assert!(behind.starts_with(answers), "{behind}");
    }
}
