//! The envelope around every KV answer, and how its parts are printed. Requests do not live here.

mod whole;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::route::Route;
use super::suggest;
use crate::client::{Answer, Client, Error};
use crate::context::Global;
use crate::print::{self, Format, go, table};
use host::clock;
use host::hint::{Exit, Failure};
use machine::binary;

/// An answer's envelope; absent parts count as Go's zero values.
#[derive(Debug, Default, Deserialize)]
pub struct Secret {
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: i64,
    #[serde(default)]
    renewable: bool,
    /// The content: shapes differ by endpoint.
    #[serde(default)]
    pub data: Option<Map<String, Value>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    #[serde(default)]
    auth: Option<Value>,
    #[serde(default)]
    wrap_info: Option<Value>,
    #[serde(default)]
    mount_type: Option<String>,
}

impl Secret {
    /// Reads an answer; `None` for an empty body.
    ///
    /// # Errors
    /// What is no envelope.
    pub fn of(answer: &Answer) -> Result<Option<Self>, Error> {
        if answer.body.is_empty() { Ok(None) } else { answer.json().map(Some) }
    }

    /// Reads the answer to a read: 404 with content is an answer too, as of a deleted version.
    ///
    /// # Errors
    /// Other statuses from 400 on.
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

    /// Returns an object inside the content.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Map<String, Value>> {
        self.data.as_ref()?.get(name)?.as_object()
    }

    /// Returns the version that the content is.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.part("metadata")?.get("version")?.as_u64()
    }

    /// Says what the server warned of.
    pub fn say_warnings(&self, global: &Global) {
        let Some(warnings) = self.warnings.as_ref().filter(|warnings| !warnings.is_empty()) else {
            return;
        };
        global.term.say("WARNING! The following warnings were returned from Vault:\n");
        for warning in warnings {
            global.term.say(wrapped(warning));
        }
    }

    /// Prints the answer to a write of a version: its path and metadata.
    ///
    /// # Errors
    /// A field that is not there, a format that cannot hold it, a stream that fails.
    pub fn print_written(
        &self,
        global: &Global,
        path: &str,
        field: Option<&str>,
    ) -> anyhow::Result<Exit> {
        if let Some(name) = field {
            return print_field(global, self.field(name).as_ref(), name);
        }
        match global.format()? {
            // `env` says how a secret is shown, and the answer to a write is none.
            Format::Table | Format::Env => {}
            format @ (Format::Json | Format::Yaml | Format::Pretty | Format::Raw) => {
                global.term.line(self.text(format)?)?;
                return Ok(Exit::OK);
            }
        }
        self.say_warnings(global);
        let empty = Map::new();
        let metadata = self.data.as_ref().unwrap_or(&empty);
        global.term.print(format!(
            "{}{}\n{}\n",
            table::path("Secret Path", path),
            table::map_title("Metadata", metadata),
            table::map(metadata).unwrap_or_default()
        ))?;
        Ok(Exit::OK)
    }
}

/// Breaks a warning into lines as HashiCorp's CLI does: 78 characters, two of them in front; an
/// empty line follows.
fn wrapped(warning: &str) -> String {
    const WIDTH: usize = 76;
    let mut text = String::new();
    let mut line = String::from("*");
    for word in warning.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&format!("  {line}\n"));
            line = word.to_owned();
        } else {
            line.push_str(&format!(" {word}"));
        }
    }
    format!("{text}  {line}\n")
}

/// Prints the answer to a write: what it says, or that it succeeded.
///
/// # Errors
/// `Error writing data to …` with the API's error; a missing field.
pub fn written(
    global: &Global,
    path: &str,
    answer: Answer,
    field: Option<&str>,
) -> anyhow::Result<Exit> {
    match Secret::of(&refused(answer, "writing data to", path)?)? {
        Some(secret) => secret.print_written(global, path, field),
        None => {
            if matches!(global.format()?, Format::Table | Format::Env) {
                global.term.line(format!("Success! Data written to: {path}"))?;
            }
            Ok(Exit::OK)
        }
    }
}

/// Puts HashiCorp's words before an error of the API.
///
/// # Errors
/// The API's error.
pub fn refused(answer: Answer, doing: &str, path: &str) -> anyhow::Result<Answer> {
    answer.success().map_err(|error| context(error, doing, path))
}

/// Puts HashiCorp's words before an error of the API; errors of this side stay as they are.
#[must_use]
pub fn context(error: Error, doing: &str, path: &str) -> anyhow::Error {
    match error {
        Error::Refused(_) | Error::Transport { .. } | Error::Answer(_) => {
            anyhow::Error::from(error).context(format!("Error {doing} {path}"))
        }
        Error::Setup(_) | Error::Absent(_) | Error::Shown(_) => error.into(),
    }
}

/// Nothing is there; what looks alike is named.
#[must_use]
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
            None => failure,
        },
    }
}

/// No field has that name; one that looks alike is named.
#[must_use]
pub fn no_field(name: &str, there: &Map<String, Value>) -> Failure {
    let failure = Failure::local(format!("Field {name:?} not present in secret"));
    match suggest::nearest(name, there.keys().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure,
    }
}

/// Prints one value: bare, with a line end only for a person; or encoded.
///
/// # Errors
/// `Field "x" not present in secret`.
pub fn print_field(global: &Global, value: Option<&Value>, name: &str) -> anyhow::Result<Exit> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Err(no_field(name, &Map::new()).into());
    };
    let format = global.format()?;
    if let (Format::Table | Format::Raw | Format::Env, Some(bytes)) = (format, binary::of(value)) {
        global.term.print(bytes.expose())?;
        return Ok(Exit::OK);
    }
    let mut text = match format {
        Format::Table | Format::Raw | Format::Env => go::value(value),
        Format::Yaml => print::yaml::yaml(value),
        other @ (Format::Json | Format::Pretty) => print::data(other, value)?,
    };
    if global.term.out_is_tty {
        text.push('\n');
    }
    global.term.print(text)?;
    Ok(Exit::OK)
}

/// Says when the content is not known to be the newest.
pub fn say_age(global: &Global, answer: &Answer) {
    if let Some(seconds) = answer.cache_age {
        let age = clock::age(seconds);
        global.term.say(format!("answered from the cache, {age} old: not connected to the server"));
    }
}
