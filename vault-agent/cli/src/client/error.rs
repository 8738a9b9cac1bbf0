//! Why there is no answer, told as HashiCorp's client tells it.

use std::path::PathBuf;

use shared::limits;

/// Why there is no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Address, flags or variables make no sense.
    #[error("{0}")]
    Setup(String),
    /// No address was given and this machine has no agent to talk to.
    #[error("no agent is listening at `{}`, and none can answer here: {why}", socket.display())]
    Absent {
        /// Where one was looked for first.
        socket: PathBuf,
        /// Why the request was not answered in this process.
        why: String,
    },
    /// This machine's agent does not let the user in.
    #[error("the agent's socket `{}` is closed to this user", socket.display())]
    Barred {
        /// The socket.
        socket: PathBuf,
    },
    /// The API answered with an error.
    #[error("{0}")]
    Refused(Refusal),
    /// Nothing came back.
    #[error("{call}: {why}")]
    Transport {
        /// Method and URL.
        call: String,
        /// What happened.
        why: String,
    },
    /// The other side hung up on a request of this size.
    #[error("{call}: it hung up while {bytes} bytes were sent: more than it takes")]
    TooMuch {
        /// Method and URL.
        call: String,
        /// Bytes of the body.
        bytes: usize,
    },
    /// The request was not made but shown, as asked for.
    #[error("the request was shown, not made")]
    Shown(String),
    /// Something came back that is not what the API answers.
    #[error("{call}: unexpected answer: {why}")]
    Answer {
        /// Method and URL.
        call: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Returns the way out.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setup(_) | Self::Refused(_) | Self::Shown(_) => None,
            Self::Absent { .. } => Some(
                "start `vault-agent run`, name another API with VAULT_ADDR, or set this machine up with `vault init`".to_owned(),
            ),
            Self::Barred { .. } => {
                Some("run this as root, or be named in `allow` of the agent's configuration".to_owned())
            }
            Self::Transport { .. } => Some("check VAULT_ADDR and that the program behind it runs".to_owned()),
            Self::TooMuch { .. } => Some(format!(
                "a secret takes {} KiB: keep the file elsewhere and its key here",
                limits::CONTENT >> 10
            )),
            Self::Answer { .. } => Some("check that VAULT_ADDR names a vault agent or a Vault".to_owned()),
        }
    }

    /// Returns the status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::Setup(_)
            | Self::Shown(_)
            | Self::Absent { .. }
            | Self::Barred { .. }
            | Self::Transport { .. }
            | Self::TooMuch { .. }
            | Self::Answer { .. } => None,
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
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { call, status, errors } = self;
        write!(f, "Error making API request.\n\nURL: {call}\nCode: {status}. ")?;
        match errors {
            Ok(errors) => {
                f.write_str("Errors:\n\n")?;
                let lines: Vec<_> = errors.iter().map(|error| format!("* {error}")).collect();
                f.write_str(&lines.join("\n"))
            }
            Err(raw) => write!(f, "Raw Message:\n\n{raw}"),
        }
    }
}
