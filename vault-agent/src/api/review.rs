//! `agent/log`, `agent/acts`, `agent/admins`, `agent/writers`, `agent/removed`, `agent/names`,
//! `agent/paths`, `agent/keys`, `agent/exposure`, `agent/past`, `agent/blast` and `agent/scan`:
//! entries of the log in words, what somebody has signed, who signs, who wrote which version, which
//! machines are out, what one was called, which secrets there are, which of them hold a key, which
//! a machine could read, what changed in the versions of one, whom a value of it has reached, and
//! what hosts have found.

use std::collections::BTreeMap;

use shared::audit::{Fact, Op};
use shared::error::Error;
use shared::log::Version;
use shared::path::SecretPath;

use super::agent;
use super::context::Api;
use super::envelope::{self, ApiAnswer};
use super::error::ApiFault;
use super::request::Call;
use super::request::Verb;
use machine::local::{ActsQuery, EntriesQuery, ExposedKey, ScanRequest, Writer};

/// Answers what hosts have found of the vault's values, or asks them to look again.
pub(super) async fn scan(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    agent::refuse_who_does_not_review(call.api)?;
    if call.verb == Verb::Read {
        let scans = call.api.engine.scans().await;
        return Ok(envelope::plain(&scans.map_err(|why| ApiFault::Broken(format!("{why:#}")))?));
    }
    let ScanRequest { machines } = call.only(Verb::Write)?.typed().await?;
    tracing::info!(who = %call.caller.by.who, "scans are asked for");
    Ok(envelope::plain(&call.api.engine.wish_scans(&machines).map_err(agent::remote)?))
}

/// Answers entries of the verified log in words.
pub(super) async fn log(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let query: EntriesQuery = serde_urlencoded::from_str(call.query.0.unwrap_or_default())
        .map_err(|why| ApiFault::Refused(format!("the query for entries is malformed: {why}")))?;
    let told = call.api.engine.entries(query).await;
    Ok(envelope::plain(&told.map_err(|why| ApiFault::Broken(format!("{why:#}")))?))
}

/// Answers every admin that ever was.
pub(super) async fn admins(api: &Api) -> Result<ApiAnswer, ApiFault> {
    let found = api.engine.admins().await;
    Ok(envelope::plain(&found.map_err(|why| ApiFault::Broken(format!("{why:#}")))?))
}

/// Answers what a key has signed, and what takes that back.
pub(super) async fn acts(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let query: ActsQuery = serde_urlencoded::from_str(call.query.0.unwrap_or_default())
        .map_err(|why| ApiFault::Refused(format!("the query for acts is malformed: {why}")))?;
    let acts = call.api.engine.acts(query).await;
    Ok(envelope::plain(&acts.map_err(|why| ApiFault::Broken(format!("{why:#}")))?))
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

/// Answers what a checkpoint of the log as it is now would name, and how the newest one stands.
pub(super) async fn checkpoint(api: &Api) -> Result<ApiAnswer, ApiFault> {
    let found = api.engine.compaction().await;
    Ok(envelope::plain(&found.map_err(|why| ApiFault::Broken(format!("{why:#}")))?))
}

/// Answers how each machine went that is in the vault no more.
pub(super) fn removed(api: &Api) -> ApiAnswer {
    envelope::plain(&api.engine.removed())
}

/// Answers each name that a machine bore.
pub(super) async fn names(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let found = call.api.engine.names(call.query.get("machine").unwrap_or_default()).await;
    Ok(envelope::plain(&found.map_err(of_log)?))
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
        let (path, ver) = (Some(holder.path.clone()), holder.holds.last().copied());
        let looked = Fact { path, ver, ..Fact::new(Op::LocalSubkeys).by(&call.caller.by) };
        engine.record(looked).await.map_err(broken)?;
    }
    Ok(envelope::plain(&found))
}

/// Answers what a machine could read, and what has become of it; a number is no name. That the keys
/// of these secrets were looked at, and of those that are named as holding copies, is on record
/// then.
pub(super) async fn exposure(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let found = call.api.engine.exposure(call.query.get("machine").unwrap_or_default()).await;
    let found = found.map_err(of_log)?;
    let secrets = found.secrets.iter().filter(|secret| !secret.keys.is_empty());
    let mut looked_at = copies(found.secrets.iter().flat_map(|secret| &secret.keys));
    looked_at.extend(secrets.map(|it| (it.path.clone(), it.versions.last().copied())));
    record(call, looked_at).await?;
    Ok(envelope::plain(&found))
}

/// Answers what changed from one version of a secret to the next.
pub(super) async fn past(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let path: SecretPath = call.query.get("path").unwrap_or_default().parse()?;
    let found = call.api.engine.past(&path).await.map_err(of_log)?;
    let opened = found.iter().rev().find(|version| version.keys.is_some());
    let looked_at = opened.map(|version| (path, Some(version.ver)));
    record(call, looked_at.into_iter().collect()).await?;
    Ok(envelope::plain(&found))
}

/// Answers what a value has reached.
pub(super) async fn blast(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let path: SecretPath = call.query.get("path").unwrap_or_default().parse()?;
    let number = |text: String| {
        text.parse().map_err(|_| ApiFault::Refused(format!("`{text}` is no version")))
    };
    let ver = call.query.get("version").map(number).transpose()?;
    let key = call.query.get("key");
    let found = call.api.engine.blast(path.clone(), ver, key).await.map_err(of_log)?;
    let mut looked_at = copies(&found.keys);
    looked_at.insert(path, Some(found.ver));
    record(call, looked_at).await?;
    Ok(envelope::plain(&found))
}

/// Secrets whose keys were looked at, and in which version.
type LookedAt = BTreeMap<SecretPath, Option<u64>>;

/// Returns the secrets that are named as holding copies of values.
fn copies<'a>(keys: impl IntoIterator<Item = &'a ExposedKey>) -> LookedAt {
    let copies = keys.into_iter().flat_map(|key| &key.copies);
    copies.map(|copied| (copied.path.clone(), None)).collect()
}

/// Has it on record whose keys the caller has looked at.
async fn record(call: &Call<'_>, looked_at: LookedAt) -> Result<(), ApiFault> {
    for (path, ver) in looked_at {
        let path = Some(path);
        let looked = Fact { path, ver, ..Fact::new(Op::LocalSubkeys).by(&call.caller.by) };
        let recorded = call.api.engine.record(looked).await;
        recorded.map_err(|why| ApiFault::Broken(format!("{why:#}")))?;
    }
    Ok(())
}

/// What a rule of the log refuses, or a fault of this machine.
fn of_log(why: anyhow::Error) -> ApiFault {
    match why.downcast::<Error>() {
        Ok(error) => error.into(),
        Err(why) => ApiFault::Broken(format!("{why:#}")),
    }
}
