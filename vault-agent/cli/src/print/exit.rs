//! Exit codes: the one map from errors of a command to them, and to the way out.

use host::hint::{self, Exit, Failure};
use host::shown::Shown;
use host::term::Term;

use crate::client::Error;

/// Returns what a command ends with that failed.
pub fn of(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<Error>() {
        Some(Error::Setup(_)) => Exit::LOCAL,
        Some(Error::Shown(_)) => Exit::OK,
        Some(Error::Absent(_) | Error::Refused(_) | Error::Transport { .. } | Error::Answer(_)) => {
            Exit::REMOTE
        }
        None => hint::exit(error),
    }
}

/// Returns the way out of a failure, if its cause knows one.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    match error.downcast_ref::<Error>() {
        Some(known) => known.hint(),
        None => hint::hint(error),
    }
}

/// Shows a failure; what the API answers has lines of its own.
pub fn shown(error: &anyhow::Error) -> Shown {
    hint::shown_by(error, |cause| Some(cause.downcast_ref::<Error>()?.shown()))
}

/// Reports a failure, and returns what to end with. A request that was to be shown is data.
pub fn report(term: &Term, error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<Error>() {
        Some(Error::Shown(text)) => match term.document(text) {
            Ok(()) => Exit::OK,
            Err(why) => term.fail(&why.into()),
        },
        Some(_) => {
            let (text, hint, exit) = (shown(error), hint(error), of(error));
            term.fail(&Failure { text, hint, exit }.into())
        }
        None => term.fail(error),
    }
}
