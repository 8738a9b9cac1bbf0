//! An answer as it came, and what it is read as.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::error::{Error, Refusal};

/// An answer of any status.
#[derive(Debug)]
pub struct Answer {
    /// Method and URL.
    pub call: String,
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
    /// How old the content is, in seconds, when it came from a cache that cannot be refreshed.
    pub cache_age: Option<u64>,
    /// The version of the agent that answers, if it is one, and another one than this program's.
    pub(super) agent: Option<String>,
    /// Where a redirect leads.
    pub(super) location: Option<String>,
}

impl Answer {
    /// Takes statuses from 300 on as errors: a redirect has done nothing yet.
    pub fn success(self) -> Result<Self, Error> {
        if self.status < 300 { Ok(self) } else { Err(Error::Refused(self.refusal())) }
    }

    /// Tells whether the caller has no right to it. One who is to say why they ask may have it: to
    /// pass that over would tell them that nothing is there.
    pub fn is_denied(&self) -> bool {
        self.status == 403 && !self.refusal().wants_reason()
    }

    /// Reads the body as the error that it is.
    pub fn refusal(&self) -> Refusal {
        #[derive(serde::Deserialize)]
        struct Errors {
            #[serde(default)]
            errors: Vec<String>,
        }
        let errors = serde_json::from_slice::<Errors>(&self.body)
            .map(|body| body.errors)
            .map_err(|_| String::from_utf8_lossy(&self.body).into_owned());
        let (call, agent) = (self.call.clone(), self.agent.clone());
        Refusal { call, status: self.status, errors, agent }
    }

    /// Reads the body; an error names places in it, never values.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|why| {
            let (line, column) = (why.line(), why.column());
            let why = format!("not the expected JSON (line {line}, column {column})");
            match &self.agent {
                Some(agent) => Error::other_version(&self.call, &why, agent),
                None => Error::unexpected(&self.call, &why),
            }
        })
    }
}
