//! What is done about an answer that is none yet: tries again, and one redirect.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;

use super::{Answer, Client, Endpoint, Error};

/// Pauses between tries grow from one to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_millis(1500);

impl Client {
    /// Tries again what failed on the other side, as often as was asked for.
    pub(super) fn persist(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<Answer, Error> {
        let mut tried = 0;
        loop {
            let result = self.once(method.clone(), target, body.clone());
            let again = match &result {
                Ok(answer) => is_passing(answer.status),
                Err(error) => matches!(error, Error::Transport { .. }),
            };
            if !again || tried >= self.options.retries {
                return self.redirected(method, body, result?);
            }
            self.pause((FIRST_PAUSE * 2_u32.saturating_pow(tried)).min(LONGEST_PAUSE));
            tried += 1;
        }
    }

    /// Follows one redirect: a standby names the active node this way.
    fn redirected(&self, method: Method, body: Bytes, answer: Answer) -> Result<Answer, Error> {
        let Some(location) = answer.location.as_deref().filter(|_| self.options.redirects) else {
            return Ok(answer);
        };
        let lost = |why| Error::unexpected(&answer.call, why);
        if location.starts_with('/') {
            return self.once(method, location, body);
        }
        let at = location.find("/v1/").ok_or_else(|| lost("a redirect out of the API"))?;
        let place = Endpoint::parse(&location[..at])?;
        let secure = |place: &Endpoint| place.address().is_some_and(|address| address.secure);
        if secure(&self.place) && !secure(&place) {
            return Err(lost("a redirect from https to http"));
        }
        Self::new(place, self.options.clone())?.once(method, &location[at..], body)
    }
}

/// Tells whether a status may be another one soon: as HashiCorp's client sees it.
const fn is_passing(status: u16) -> bool {
    matches!(status, 412 | 429) || (status >= 500 && status != 501)
}
