//! Opening a version for the page, by the same rules as the local API: what was asked for is on
//! record before anything of it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use host::shown::Shown;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use shared::audit::{Fact, Op, Outcome};
use shared::blob::Kind;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;
use zeroize::Zeroizing;

use crate::engine::ReadError;
use crate::page::frame::Fault;
use crate::page::site::Visit;
use machine::binary;
use machine::findings::access_command;

/// What came of opening a version.
pub(super) enum Opened {
    /// Its content, as JSON.
    Content(Arc<Plaintext>),
    /// It is deleted or destroyed, or there is none.
    Gone,
    /// This machine may not read it: what would give it the right.
    Denied(String),
    /// Why it cannot be had.
    Unavailable(Shown),
}

/// Opens a version, and records what came of it.
///
/// # Errors
/// If it cannot be recorded: nothing is shown then.
pub(super) async fn open(
    visit: &Visit<'_>,
    path: &SecretPath,
    ver: u64,
    op: Op,
) -> Result<Opened, Fault> {
    let engine = &visit.site.engine;
    let (outcome, opened) = if !engine.may_read(path) {
        (Outcome::Denied, Opened::Denied(command(visit, path)))
    } else {
        match engine.content(path, Some(ver)).await {
            Ok(content) => (
                Outcome::Ok,
                Opened::Content(match content.kind {
                    Kind::Kv => content.bytes,
                    Kind::Raw => Arc::new(binary::file_json(content.expose())),
                }),
            ),
            Err(ReadError::Deleted { .. } | ReadError::Destroyed { .. }) => {
                (Outcome::Deleted, Opened::Gone)
            }
            Err(ReadError::Missing) => (Outcome::Missing, Opened::Gone),
            Err(ReadError::Denied) => (Outcome::Denied, Opened::Denied(command(visit, path))),
            Err(why) => (Outcome::Unavailable, Opened::Unavailable(Shown::line(why))),
        }
    };
    let fact = Fact::new(op).by(&visit.session.opener.by);
    let fact = Fact { path: Some(path.clone()), ver: Some(ver), result: outcome, ..fact };
    engine.record(fact).await.map_err(Fault::broken)?;
    Ok(opened)
}

fn command(visit: &Visit<'_>, path: &SecretPath) -> String {
    let command = visit
        .site
        .engine
        .own(|_, own| access_command(&own.name, (&own.read, Some(path)), (&own.write, None)));
    command.unwrap_or_else(|| "vault status".to_owned())
}

/// Returns the names of the keys; `None` for what is no object.
pub(super) fn keys(content: &Plaintext) -> Option<Vec<String>> {
    let keys: BTreeMap<String, IgnoredAny> = serde_json::from_slice(content.expose()).ok()?;
    Some(keys.into_keys().collect())
}

/// Returns the value of a key: a text as it is, all else as JSON.
pub(super) fn value(content: &Plaintext, key: &str) -> Option<Zeroizing<String>> {
    let values: BTreeMap<String, &RawValue> = serde_json::from_slice(content.expose()).ok()?;
    let json = values.get(key)?.get();
    let text: Option<String> = serde_json::from_str(json).ok();
    Some(Zeroizing::new(text.unwrap_or_else(|| json.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_told_apart() {
        let content = Plaintext::from(br#"{"B":"x\ny","A":{"c":1},"n":1.50}"#.as_slice());
        assert_eq!(keys(&content).unwrap(), ["A", "B", "n"]);
        let of = |key| value(&content, key).map(|value| value.to_string());
        assert_eq!(of("B").as_deref(), Some("x\ny"));
        assert_eq!(of("A").as_deref(), Some(r#"{"c":1}"#));
        assert_eq!(of("n").as_deref(), Some("1.50"));
        assert_eq!(of("other"), None);
        assert_eq!(keys(&Plaintext::from(b"[1]".as_slice())), None);
    }
}
