//! The envelope around every KV answer, and how its parts are printed. Requests do not live here.

mod whole;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::route::Route;
use super::suggest;
use crate::client::{Answer, Client, Error};
use crate::context::Global;
use crate::print::{self, Format, go};
use host::clock;
use host::hint::{Exit, Failure};
use host::shown::{Shown, quoted};
use machine::binary;

/// An answer's envelope; absent parts count as Go's zero values.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Secret {
    request_id: String,
    lease_id: String,
    lease_duration: i64,
    renewable: bool,
    /// The content: shapes differ by endpoint.
    pub data: Option<Map<String, Value>>,
    warnings: Option<Vec<String>>,
    auth: Option<Value>,
    wrap_info: Option<Value>,
    mount_type: Option<String>,
}

impl Secret {
    /// Reads an answer; `None` for an empty body.
    pub fn of(answer: &Answer) -> Result<Option<Self>, Error> {
        if answer.body.is_empty() { Ok(None) } else { answer.json().map(Some) }
    }

    /// Reads the answer to a read: 404 with content is an answer too, as of a deleted version.
    pub fn of_read(answer: Answer) -> Result<Option<Self>, Error> {
        if answer.status != 404 {
            return Self::of(&answer.success()?);
        }
        let secret = Self::of(&answer).unwrap_or_default();
        Ok(secret.filter(|s| {
            s.warnings.as_ref().is_some_and(|w| !w.is_empty())
                || s.data.as_ref().is_some_and(|d| !d.is_empty())
        }))
    }

    /// As [`Secret::of_read`], with HashiCorp's words before an error.
    pub fn found(
        answer: Result<Answer, Error>,
        doing: &str,
        path: &str,
    ) -> anyhow::Result<Option<Self>> {
        answer.and_then(Self::of_read).map_err(|error| context(error, doing, path))
    }

    /// Takes the answer to a change, with HashiCorp's words before an error; `None` if it is empty.
    pub fn answered(
        answer: Result<Answer, Error>,
        doing: &str,
        path: &str,
    ) -> anyhow::Result<Option<Self>> {
        let secret = answer.and_then(Answer::success).and_then(|answer| Self::of(&answer));
        secret.map_err(|error| context(error, doing, path))
    }

    /// Returns an object inside the content.
    pub fn part(&self, name: &str) -> Option<&Map<String, Value>> {
        self.data.as_ref()?.get(name)?.as_object()
    }

    /// Returns the secret's own fields: a mount that keeps versions has them one level down.
    pub fn content(&self, route: &Route) -> Option<&Map<String, Value>> {
        if route.is_versioned() { self.part("data") } else { self.data.as_ref() }
    }

    /// Returns the names of a list.
    pub fn names(&self) -> Option<Vec<String>> {
        let keys = self.data.as_ref()?.get("keys")?.as_array()?;
        Some(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Returns the version that the content is.
    pub fn version(&self) -> Option<u64> {
        self.part("metadata")?.get("version")?.as_u64()
    }

    /// Says what the server warned of.
    pub fn say_warnings(&self, global: &Global) {
        let Some(warnings) = self.warnings.as_ref().filter(|warnings| !warnings.is_empty()) else {
            return;
        };
        global.term.say("WARNING! The following warnings were returned from Vault:");
        global.term.say("");
        for warning in warnings {
            global.term.say(wrapped(warning));
        }
    }
}

/// Breaks a warning into lines as HashiCorp's CLI does: 78 characters, two of them in front; an
/// empty line follows.
fn wrapped(warning: &str) -> Shown {
    const WIDTH: usize = 76;
    let mut lines = Vec::new();
    let mut line = String::from("*");
    for word in warning.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("  {line}"));
            line = word.to_owned();
        } else {
            line.push_str(&format!(" {word}"));
        }
    }
    lines.push(format!("  {line}"));
    Shown::lines(lines).ended()
}

/// Puts HashiCorp's words before an error of the API; errors of this side stay as they are.
pub fn context(error: Error, doing: &str, path: &str) -> anyhow::Error {
    match error {
        Error::Refused(_) | Error::Transport { .. } | Error::Answer(_) => {
            let words = format!("Error {doing} {path}");
            anyhow::Error::from(error).context(words.trim_end().to_owned())
        }
        Error::Setup(_) | Error::Absent(_) | Error::Shown(_) => error.into(),
    }
}

/// Nothing is there; what looks alike is named.
pub fn no_value(client: &Client, route: &Route, path: &str) -> Failure {
    let failure = Failure::remote(format!("No value found at {path}"));
    match route.logical().split_once('/') {
        Some((mount, name)) if name.starts_with("data/") || name.starts_with("metadata/") => {
            let rest = name.split_once('/').map_or("", |(_, rest)| rest);
            failure.hint(format!("`vault kv` adds that segment itself: try `{mount}/{rest}`"))
        }
        Some(_) | None => match suggest::path(client, route) {
            Some(near) if near.ends_with('/') => {
                failure.hint(format!("`{near}` is a folder: try `vault kv list {near}`"))
            }
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            // Whoever types the name of a key, or of a secret without its folders.
            None if !route.logical().contains('/') => {
                let name = quoted(&route.logical());
                failure.hint(format!("`vault kv find -keys {name}` finds it by its name"))
            }
            None => failure,
        },
    }
}

/// No field has that name; one that looks alike is named.
pub fn no_field(name: &str, there: &Map<String, Value>) -> Failure {
    let failure = Failure::local(format!("Field {name:?} not present in secret"));
    match suggest::nearest(name, there.keys().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure,
    }
}

/// Prints one value: bare, with a line end only for a person; or encoded.
pub fn print_field(global: &Global, value: Option<&Value>, name: &str) -> anyhow::Result<Exit> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Err(no_field(name, &Map::new()).into());
    };
    let format = global.format()?;
    let mut text = match format {
        Format::Table | Format::Raw | Format::Env => {
            match binary::of(value) {
                Some(bytes) => global.term.value(bytes.expose())?,
                None => global.term.value(go::value(value).as_bytes())?,
            }
            return Ok(Exit::OK);
        }
        Format::Yaml => print::yaml::yaml(value),
        other @ (Format::Json | Format::Pretty) => print::data(other, value)?,
    };
    if global.term.out_is_tty {
        text.push('\n');
    }
    global.term.piece(text)?;
    Ok(Exit::OK)
}

/// Says when the content is not known to be the newest.
pub fn say_age(global: &Global, answer: &Answer) {
    if let Some(seconds) = answer.cache_age {
        let age = clock::age(seconds);
        global.term.say(format!("answered from the cache, {age} old: not connected to the server"));
    }
}
