//! Why there is no answer, told as HashiCorp's client tells it.

use std::path::Path;

use host::hint::Failure;
use host::shown::Shown;
use host::version;
use machine::local::NO_REASON;
use shared::error::Code;
use shared::limits;

/// Why there is no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Address, flags or variables make no sense.
    #[error("{0}")]
    Setup(Failure),
    /// No address was given, and no agent of this machine answers this user.
    #[error("{0}")]
    Absent(Failure),
    /// The API answered with an error.
    #[error("{0}")]
    Refused(Refusal),
    /// Nothing came back: method and URL, and what happened.
    #[error("{call}: {why}")]
    Transport { call: String, why: String },
    /// The other side took not all, or something came back that is not what the API answers.
    #[error("{0}")]
    Answer(Failure),
    /// The request was not made but shown, as asked for.
    #[error("the request was shown, not made")]
    Shown(String),
}

impl Error {
    /// Address, flags or variables make no sense.
    pub(crate) fn setup(text: impl Into<Shown>) -> Self {
        Self::Setup(Failure::local(text))
    }

    /// This machine's agent does not let the user in.
    pub(super) fn barred(socket: &Path) -> Self {
        let text = format!("the agent's socket `{}` is closed to this user", socket.display());
        let hint = "run this as root, or be named in `allow` of the agent's configuration";
        Self::Absent(Failure::remote(text).hint(hint))
    }

    /// The other side hung up on a body of this size.
    pub(super) fn too_much(call: &str, bytes: usize) -> Self {
        let text = format!("{call}: it hung up while {bytes} bytes were sent: more than it takes");
        Self::Answer(Failure::remote(text).hint(format!(
            "a secret takes {} KiB: keep the file elsewhere and its key here",
            limits::CONTENT >> 10
        )))
    }

    /// Something came back that is not what the API answers.
    pub(super) fn unexpected(call: &str, why: &str) -> Self {
        Self::Answer(
            Failure::remote(format!("{call}: unexpected answer: {why}"))
                .hint("check that VAULT_ADDR names a vault agent or a Vault"),
        )
    }

    /// The agent that answers is of another version, and what it answers cannot be read.
    pub(super) fn other_version(call: &str, why: &str, agent: &str) -> Self {
        let text = format!("{call}: unexpected answer: {why}");
        Self::Answer(Failure::remote(text).hint(versions(agent)))
    }

    /// Shows it: as one line, but for what the API answers.
    pub fn shown(&self) -> Shown {
        match self {
            Self::Setup(failure) | Self::Absent(failure) | Self::Answer(failure) => {
                failure.text.clone()
            }
            Self::Refused(refusal) => refusal.shown(),
            Self::Transport { .. } | Self::Shown(_) => Shown::line(self),
        }
    }

    /// Returns the way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setup(failure) | Self::Absent(failure) | Self::Answer(failure) => {
                failure.hint.clone()
            }
            Self::Transport { .. } => {
                Some("check VAULT_ADDR and that the program behind it runs".to_owned())
            }
            Self::Refused(refusal) => refusal.hint(),
            Self::Shown(_) => None,
        }
    }
}

/// An error of the API, told as HashiCorp's client tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Method and URL.
    pub call: String,
    /// HTTP status.
    pub status: u16,
    /// The texts of `{"errors":[…]}`, or why that is not there.
    pub errors: Result<Vec<String>, String>,
    /// The version of the agent that answers, if it is another one than this program's.
    pub agent: Option<String>,
}

/// Says how an agent of another version comes to know what this program asks for.
fn versions(agent: &str) -> String {
    let (agent, own) = (Shown::line(agent), version::own());
    format!(
        "the agent that answers is version {agent}, this program {own}: install the same version \
         of both, and run `systemctl restart vault-agent` (or with `--user`)"
    )
}

impl Refusal {
    /// Tells whether a rule of the log with that code has refused it.
    pub fn is(&self, code: Code) -> bool {
        let named = |text: &String| text.split(':').next() == Some(code.as_str());
        self.errors.as_ref().is_ok_and(|errors| errors.iter().any(named))
    }

    /// Tells whether the caller was to say why they ask: that says nothing of what they may do.
    pub fn wants_reason(&self) -> bool {
        let says = |text: &String| NO_REASON.iter().any(|start| text.starts_with(start));
        self.errors.as_ref().is_ok_and(|errors| errors.iter().any(says))
    }
}

impl Refusal {
    /// Returns the way out where an agent of another version does not know a route of its own kind,
    /// or a field of a request.
    fn hint(&self) -> Option<String> {
        let is_unknown = self.call.contains("/v1/agent/") && matches!(self.status, 400 | 404 | 405);
        self.agent.as_deref().filter(|_| is_unknown).map(versions)
    }

    /// Shows it with the lines of HashiCorp's client, and those that the API sets in an error.
    fn shown(&self) -> Shown {
        let Self { call, status, errors, .. } = self;
        let mut shown = Shown::lines([
            Shown::own("Error making API request.\n"),
            format!("URL: {call}").into(),
            format!("Code: {status}. ").into(),
        ]);
        match errors {
            Ok(errors) => {
                shown.push(Shown::own("Errors:\n\n"));
                let line = |error: &String| Shown::own("* ") + Shown::text(error);
                shown.push(Shown::lines(errors.iter().map(line)));
            }
            Err(raw) => shown.push(Shown::own("Raw Message:\n\n") + Shown::text(raw)),
        }
        shown
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}
