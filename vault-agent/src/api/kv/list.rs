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
    let mut keys = Vec::new();
    call.api.engine.state(|state| {
        each_name(state.secrets(), &folder, |name| keys.push(name.to_owned()));
    });
    let found = if keys.is_empty() { Outcome::Missing } else { Outcome::Ok };
    record(call, Op::LocalList, &all, None, found).await?;
    if keys.is_empty() {
        return Err(ApiFault::Missing);
    }
    Ok(with_age(call, envelope::data(Source::Kv, json!({ "keys": keys }))))
}

/// Calls `each` with every name right below `folder`, in time proportional to their number: what
/// lies deeper is jumped over.
fn each_name(secrets: &BTreeMap<SecretPath, Secret>, folder: &str, mut each: impl FnMut(&str)) {
    let mut from = Bound::Included(folder.to_owned());
    loop {
        let start = from.as_ref().map(String::as_str);
        let mut range = secrets.range::<str, _>((start, Bound::Unbounded));
        let subfolder = loop {
            let Some((path, _)) = range.next() else { return };
            let Some(name) = path.as_str().strip_prefix(folder) else { return };
            match name.find('/') {
                Some(end) => break &name[..=end],
                None => each(name),
            }
        };
        each(subfolder);
        // `0` follows `/`, so this is past all that starts with the subfolder.
        from = Bound::Included(format!("{folder}{}0", subfolder.trim_end_matches('/')));
    }
}
