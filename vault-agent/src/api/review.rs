//! `agent/log`, `agent/writers`, `agent/removed`, `agent/paths` and `agent/keys`: entries of the
//! log in words, who wrote which version, which machines are out, which secrets there are, and
//! which of them hold a key.

use shared::audit::{Fact, Op};
use shared::log::Version;
use shared::path::SecretPath;

use super::context::Api;
use super::envelope::{self, ApiAnswer};
use super::error::ApiFault;
use super::request::Call;
use machine::local::{EntriesQuery, Writer};

/// Answers entries of the verified log in words.
pub(super) async fn log(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let query: EntriesQuery = serde_urlencoded::from_str(call.query.0.unwrap_or_default())
        .map_err(|why| ApiFault::Refused(format!("the query for entries is malformed: {why}")))?;
    let told = call.api.engine.entries(query).await;
    Ok(envelope::plain(&told.map_err(|why| ApiFault::Broken(format!("{why:#}")))?))
}

/// Answers who wrote the versions of a secret: `metadata` has no field for it that all of Vault's
/// clients know.
pub(super) fn writers(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let path: SecretPath = call.query.get("path").unwrap_or_default().parse()?;
    let writers = call.api.engine.state(|state| {
        let one = |(ver, version): (u64, &Version)| Writer { ver, by: version.by.clone() };
        Some(state.secret(&path)?.versions().map(one).collect::<Vec<_>>())
    });
    Ok(envelope::plain(&writers.ok_or(ApiFault::Missing)?))
}

/// Answers how each machine went that is in the vault no more.
pub(super) async fn removed(api: &Api) -> Result<ApiAnswer, ApiFault> {
    let removed = api.engine.removed().await;
    Ok(envelope::plain(&removed.map_err(|why| ApiFault::Broken(format!("{why:#}")))?))
}

/// Answers the path of every secret that is or was there: what can stand in a record.
pub(super) fn paths(api: &Api) -> ApiAnswer {
    envelope::plain(&api.engine.state(|state| state.paths().cloned().collect::<Vec<_>>()))
}

/// Answers which secrets hold a key; that the keys of these were looked at is on record then.
pub(super) async fn keys(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let name = call.query.get("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| ApiFault::Refused("no key is named".to_owned()))?;
    let engine = &call.api.engine;
    let broken = |why: anyhow::Error| ApiFault::Broken(format!("{why:#}"));
    let found = engine.holders(&name).await.map_err(broken)?;
    for holder in &found.secrets {
        let (who, path) = (Some(call.caller.who.clone()), Some(holder.path.clone()));
        let ver = holder.holds.last().copied();
        let looked = Fact { who, path, ver, ..Fact::new(Op::LocalSubkeys) };
        engine.record(looked).await.map_err(broken)?;
    }
    Ok(envelope::plain(&found))
}
