//! One read at a place that was typed or is known, with HashiCorp's words for what goes wrong.

use hyper::Method;
use serde_json::{Map, Value};

use super::route::{Route, Typed};
use super::secret::{Secret, context, no_value, say_age};
use crate::client::{Answer, Client, Error};
use crate::context::Global;
use host::hint::Failure;

/// What is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Content; 0 is the newest.
    Version(u64),
    Metadata,
    /// What is in a folder.
    Names,
}

/// A place, and what was read there.
pub type Found = (Route, Option<Secret>);

impl Kind {
    pub fn path(self, route: &Route) -> String {
        route.api(if matches!(self, Self::Version(_)) { "data" } else { "metadata" })
    }

    const fn doing(self) -> &'static str {
        if matches!(self, Self::Names) { "listing" } else { "reading" }
    }

    /// Makes the request.
    pub fn ask(self, client: &Client, route: &Route) -> Result<Answer, Error> {
        let query = match self {
            Self::Version(n) if n > 0 && route.is_versioned() => vec![("version", n.to_string())],
            Self::Version(_) | Self::Metadata => Vec::new(),
            Self::Names => vec![("list", "true".to_owned())],
        };
        client.send(Method::GET, &self.path(route), &query, None)
    }
}

/// Reads at a known place.
pub fn known(client: &Client, route: &Route, kind: Kind) -> anyhow::Result<Option<Secret>> {
    Secret::found(kind.ask(client, route), kind.doing(), &kind.path(route))
}

/// Reads at a place that was typed, after `look` at the answer.
pub fn typed(
    client: &Client,
    place: &Typed,
    kind: Kind,
    look: impl FnOnce(&Answer) -> Result<(), Failure>,
) -> anyhow::Result<Found> {
    let (route, answer) = fetch(client, place, kind)?;
    if kind == Kind::Metadata {
        route.supports("Metadata")?;
    }
    look(&answer)?;
    let secret = Secret::found(Ok(answer), kind.doing(), &kind.path(&route))?;
    Ok((route, secret))
}

/// As [`typed`], and says when the content is not known to be the newest.
pub fn shown(global: &Global, client: &Client, place: &Typed, kind: Kind) -> anyhow::Result<Found> {
    typed(client, place, kind, |answer| {
        say_age(global, answer);
        Ok(())
    })
}

/// Reads a version that a change builds on.
pub fn before(client: &Client, place: &Typed, version: u64) -> anyhow::Result<Found> {
    let (route, answer) = fetch(client, place, Kind::Version(version))?;
    let secret = Secret::found(Ok(answer), "doing pre-read at", &route.api("data"))?;
    Ok((route, secret))
}

/// Returns what a change builds on, and its number.
pub fn existing<'a>(
    secret: Option<&'a Secret>,
    path: &str,
    what: &str,
) -> Result<(&'a Secret, u64), Failure> {
    let secret = secret.ok_or_else(|| Failure::remote(format!("No value found at {path}")))?;
    let version = secret.version().ok_or_else(|| missing("metadata", path, what))?;
    Ok((secret, version))
}

/// A part of what a change builds on is not there.
pub fn missing(part: &str, path: &str, what: &str) -> Failure {
    Failure::remote(format!("No {part} found at {path}; {what} only works on existing data"))
}

/// Reads the newest content of a secret that must be there.
pub fn content(
    client: &Client,
    place: &Typed,
    look: impl FnOnce(&Answer) -> Result<(), Failure>,
) -> anyhow::Result<(Route, Map<String, Value>)> {
    let (route, secret) = typed(client, place, Kind::Version(0), look)?;
    let path = route.api("data");
    let Some(secret) = secret else { return Err(no_value(client, &route, &path).into()) };
    match secret.content(&route) {
        Some(data) => Ok((route, data.clone())),
        None => Err(Failure::remote(format!("No data found at {path}")).into()),
    }
}

fn fetch(client: &Client, place: &Typed, kind: Kind) -> anyhow::Result<(Route, Answer)> {
    let guess = kind.path(&place.guess());
    let answer = place.read(client, |route| kind.ask(client, route));
    answer.map_err(|error| context(error, kind.doing(), &guess))
}
