//! Secrets as environment variables: which names may be set, and what their values are.

use std::collections::BTreeMap;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::client::{Answer, Client};
use crate::kv::{Typed, read};
use host::hint::Failure;
use machine::render;

/// Which secrets, and what of them.
pub(super) struct Wanted {
    pub(super) places: Vec<Typed>,
    /// The only keys, if any are named.
    pub(super) keys: Vec<String>,
    /// Dangerous names that are meant.
    pub(super) allowed: Vec<String>,
}

/// What is set.
#[derive(Clone)]
pub(super) struct Environment {
    pub(super) variables: BTreeMap<String, Zeroizing<String>>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

impl Wanted {
    /// Reads all secrets; each answer is shown to `look` first.
    pub(super) fn read(
        &self,
        client: &Client,
        look: impl Fn(&Answer) -> Result<(), Failure>,
    ) -> anyhow::Result<Environment> {
        let mut all = Environment { variables: BTreeMap::new(), warnings: Vec::new() };
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for place in &self.places {
            let (route, data) = read::content(client, place, &look)?;
            let keys =
                data.iter().filter(|(key, _)| self.keys.is_empty() || self.keys.contains(key));
            for (key, value) in keys {
                all.variables.insert(key.clone(), self.value(key, value)?);
                if let Some(other) = owners.insert(key.clone(), route.logical()) {
                    let text =
                        format!("`{key}` of `{}` replaces that of `{other}`", route.logical());
                    all.warnings.push(text);
                }
            }
        }
        match self.keys.iter().find(|key| !all.variables.contains_key(*key)) {
            Some(key) => Err(Failure::local(format!("`{key}` is in none of the secrets")).into()),
            None => Ok(all),
        }
    }

    /// Returns what a variable is set to.
    fn value(&self, key: &str, value: &Value) -> Result<Zeroizing<String>, Failure> {
        let name = key.escape_debug();
        let leave_out = "leave it out by naming the others with --key";
        if !render::is_name(key) {
            return Err(Failure::local(format!(
                "`{name}` is not a variable name (letters, digits and `_`, not starting with a digit)"
            ))
            .hint(format!("rename it, or {leave_out}")));
        }
        if render::is_denied(key) && !self.allowed.iter().any(|allowed| allowed == key) {
            return Err(Failure::local(format!("`{name}` changes what other programs run"))
                .hint(format!("--allow-name {key} if you mean it")));
        }
        let text = match value {
            Value::String(text) => Zeroizing::new(text.clone()),
            Value::Number(_) | Value::Bool(_) => Zeroizing::new(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(Failure::local(format!(
                    "`{name}` is null, a list or an object, not text"
                ))
                .hint(format!("store it as text, or {leave_out}")));
            }
        };
        if text.contains('\0') {
            return Err(Failure::local(format!(
                "`{name}` holds a NUL byte, which no environment can"
            ))
            .hint(leave_out));
        }
        let bytes = key.len() + 1 + text.len();
        if bytes >= render::LONG_VARIABLE {
            let fault = Failure::local(format!(
                "`{name}` takes {} KiB with its value, and Linux starts no program with a variable \
                 of 128 KiB",
                bytes >> 10
            ));
            return Err(fault.hint(format!(
                "have it in a file, `vault export --key {key} --format raw --out FILE`; {leave_out}"
            )));
        }
        Ok(text)
    }
}
