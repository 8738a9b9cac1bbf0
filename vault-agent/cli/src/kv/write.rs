//! One write at a place that was typed: where it goes, what became of it, and how that is printed.

use serde_json::{Map, Value, json};

use super::route::{Route, Typed};
use super::secret::{Secret, context, print_field};
use crate::client::Client;
use crate::context::Global;
use crate::print::{Format, table};
use host::hint::Exit;
use host::shown::Shown;

/// What became of a write that builds on a version.
pub enum Put {
    Written(Box<Option<Secret>>),
    /// Another version is the newest by now.
    Conflict,
}

/// Finds the place before a change of a kind: `data`, `metadata`, `delete`, …
pub fn place(client: &Client, typed: &Typed, doing: &str, kind: &str) -> anyhow::Result<Route> {
    let guess = typed.guess().api(kind);
    typed.for_write(client).map_err(|error| context(error, doing, &guess))
}

/// Writes; `None` for an empty answer.
pub fn put(client: &Client, path: &str, body: &Value) -> anyhow::Result<Option<Secret>> {
    Secret::answered(client.put(path, body), "writing data to", path)
}

/// Writes the version that follows `cas`.
pub fn put_after(
    client: &Client,
    path: &str,
    data: &Map<String, Value>,
    cas: u64,
) -> anyhow::Result<Put> {
    const CONFLICT: &str = "did not match the current version";
    let answer = client.put(path, &json!({ "data": data, "options": { "cas": cas } }));
    // HashiCorp's API tells it in words alone.
    if let Ok(answer) = &answer
        && answer.status == 400
        && let Ok(errors) = answer.refusal().errors
        && errors.iter().any(|text| text.contains(CONFLICT))
    {
        return Ok(Put::Conflict);
    }
    Ok(Put::Written(Box::new(Secret::answered(answer, "writing data to", path)?)))
}

/// Prints the answer to a write: the version's metadata or the field asked for, else that it
/// succeeded.
pub fn written(
    global: &Global,
    path: &str,
    answer: Option<Secret>,
    field: Option<&str>,
) -> anyhow::Result<Exit> {
    let format = global.format()?;
    // `env` says how a secret is shown, and the answer to a write is none.
    let is_table = matches!(format, Format::Table | Format::Env);
    match (answer, field) {
        (Some(secret), Some(name)) => {
            return print_field(global, secret.field(name).as_ref(), name);
        }
        (Some(secret), None) if is_table => {
            secret.say_warnings(global);
            let metadata = block("Metadata", &secret.data.unwrap_or_default());
            global.term.print(table::path("Secret Path", path) + metadata)?;
        }
        (Some(secret), None) => global.term.document(secret.text(format)?)?,
        (None, _) if is_table => global.term.line(format!("Success! Data written to: {path}"))?,
        (None, _) => {}
    }
    Ok(Exit::OK)
}

/// A titled table of fields, as below the path of a secret.
pub fn block(title: &str, fields: &Map<String, Value>) -> Shown {
    let rows = table::map(fields).unwrap_or_default();
    Shown::lines([table::map_title(title, fields), rows]).ended()
}
