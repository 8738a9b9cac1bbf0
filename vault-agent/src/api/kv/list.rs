//! Lists of the names in a folder. Names are not secret, as in Vault: the log shows them to every
//! machine.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::json;
use shared::audit::{Op, Outcome};
use shared::log::Secret;
use shared::path::SecretPath;

use super::super::envelope::{self, ApiAnswer, Source};
use super::super::error::ApiFault;
use super::super::request::Call;
use super::{record, with_age};

/// Answers the names in a folder, sorted by byte; folders end in `/`.
pub(in super::super) async fn read(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let folder = match call.name().trim_end_matches('/') {
        "" => format!("{}/", call.mount),
        folder => format!("{}/{folder}/", call.mount),
    };
    // What the folder holds, in the notation of the audit log; other folders cannot hold any.
    let all: SecretPath = format!("{folder}*").parse().map_err(|_| ApiFault::Missing)?;
    if !call.caller.scope.covers_folder(&folder) {
        record(call, Op::LocalList, &all, None, Outcome::Denied).await?;
        return Err(ApiFault::Denied);
    }
    let keys = call.api.engine.state(|state| names(state.secrets(), &folder));
    let found = if keys.is_empty() { Outcome::Missing } else { Outcome::Ok };
    record(call, Op::LocalList, &all, None, found).await?;
    if keys.is_empty() {
        return Err(ApiFault::Missing);
    }
    Ok(with_age(call, envelope::data(Source::Kv, json!({ "keys": keys }))))
}

/// Returns every name right below `folder`, in time proportional to their number: what lies deeper
/// is jumped over.
fn names(secrets: &BTreeMap<SecretPath, Secret>, folder: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut from = Bound::Included(folder.to_owned());
    loop {
        let start = from.as_ref().map(String::as_str);
        let mut range = secrets.range::<str, _>((start, Bound::Unbounded));
        let subfolder = loop {
            let Some((path, _)) = range.next() else { return names };
            let Some(name) = path.as_str().strip_prefix(folder) else { return names };
            match name.find('/') {
                Some(end) => break &name[..=end],
                None => names.push(name.to_owned()),
            }
        };
        names.push(subfolder.to_owned());
        // `0` follows `/`, so this is past all that starts with the subfolder.
        from = Bound::Included(format!("{folder}{}0", subfolder.trim_end_matches('/')));
    }
}
