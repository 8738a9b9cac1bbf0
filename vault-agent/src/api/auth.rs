//! `auth/token/`: what a caller is told about his own token, and tokens for local programs.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::grant::{Grant, Grants};
use shared::time::Time;

use host::clock;

use super::caller::given_token;
use super::envelope::{self, ApiAnswer, Source};
use super::error::ApiFault;
use super::json::Fields;
use super::request::Call;
use super::tokens::{Issued, Scope, Wanted};

const MICROS: u64 = 1_000_000;

/// Answers who the caller is. Any caller that was let in is told: clients ask before anything else.
pub(super) fn lookup_self(call: &Call<'_>) -> ApiAnswer {
    describe(call, &call.caller.scope, given_token(call.headers).unwrap_or_default())
}

/// Describes a token as Vault does, or this machine, for callers without one of their own; its
/// holder is shown the token itself.
fn describe(call: &Call<'_>, scope: &Scope, token: &str) -> ApiAnswer {
    let (name, created, expires, meta) = match scope {
        Scope::All => {
            let engine = &call.api.engine;
            (format!("machine-{}", engine.name()), engine.since(), None, Value::Null)
        }
        Scope::Limited(issued) => {
            let Issued { name, created, expires, paths, write, .. } = &**issued;
            let paths = paths.as_slice().iter().map(Grant::as_str).collect::<Vec<_>>().join(",");
            // Text by name: clients take nothing else here.
            let capabilities = if *write { "read,write" } else { "read" };
            let meta = json!({ "paths": paths, "capabilities": capabilities });
            (name.clone(), *created, *expires, meta)
        }
    };
    let (accessor, policy, left) = standing(scope, clock::now());
    let whole = standing(scope, created).2;
    let described = json!({
        "accessor": accessor,
        "creation_time": created.as_secs(),
        "creation_ttl": whole,
        "display_name": name,
        "entity_id": "",
        "expire_time": expires.map(|time| time.to_string()),
        "explicit_max_ttl": whole,
        "id": token,
        "issue_time": created.to_string(),
        "meta": meta,
        "num_uses": 0,
        "orphan": is_orphan(scope),
        "path": "auth/token/create",
        "policies": [policy],
        "renewable": false,
        "ttl": left,
        "type": "service",
    });
    envelope::data(Source::Token, described)
}

/// Returns accessor, policy, and the seconds that are left at a time; 0 where there is no end.
fn standing(scope: &Scope, at: Time) -> (&str, &'static str, u64) {
    match scope {
        Scope::All => ("", "machine", 0),
        Scope::Limited(token) => {
            let policy = if token.all { "machine" } else { "token" };
            (&token.accessor, policy, token.expires.map_or(0, |expires| expires.seconds_since(at)))
        }
    }
}

/// Tells whether no other token takes it along when it ends.
fn is_orphan(scope: &Scope) -> bool {
    match scope {
        Scope::All => true,
        Scope::Limited(token) => token.parent.is_none(),
    }
}

/// Answers that the token lives on and is not to be renewed.
pub(super) fn renew_self(call: &Call<'_>) -> ApiAnswer {
    let token = given_token(call.headers).unwrap_or_default();
    granted(token, &call.caller.scope, clock::now())
}

fn granted(token: &str, scope: &Scope, at: Time) -> ApiAnswer {
    let (accessor, policy, left) = standing(scope, at);
    envelope::auth(json!({
        "client_token": token,
        "accessor": accessor,
        "policies": [policy],
        "token_policies": [policy],
        "metadata": null,
        "lease_duration": left,
        "renewable": false,
        "entity_id": "",
        "token_type": "service",
        "orphan": is_orphan(scope),
        "mfa_requirement": null,
        "num_uses": 0,
    }))
}

/// Makes a token: for the `path`s given, to `read` unless `capabilities` say `write`; without both
/// one that may do what its maker may, as Vault's child tokens. It lives for `ttl`, and no longer
/// than its maker.
pub(super) async fn create(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let fields = call.fields().await?;
    let wanted = wanted(&fields, &call.caller.scope)?;
    let (token, issued) = call.api.gate.tokens.create(wanted).map_err(refused)?;
    let created = issued.created;
    Ok(granted(&token, &Scope::Limited(issued), created))
}

fn wanted(fields: &Fields, maker: &Scope) -> Result<Wanted, ApiFault> {
    require_known(fields, maker)?;
    let parent = match maker {
        Scope::All => None,
        Scope::Limited(token) => Some(token),
    };
    let (paths, capabilities) = (fields.texts("path")?, fields.texts("capabilities")?);
    let mut write = false;
    for capability in &capabilities {
        match capability.as_str() {
            "read" => {}
            "write" => write = true,
            other => {
                return Err(ApiFault::Refused(format!(
                    "capability {other:?} is not known\nhint: use `read` or `write`"
                )));
            }
        }
    }
    let whole = paths.is_empty() && capabilities.is_empty();
    let may_write = parent.is_none_or(|parent| parent.all || parent.write);
    let within = |parent: &Issued| parent.all || paths.iter().all(|path| parent.covers(path));
    if (write && !may_write) || !parent.is_none_or(|parent| within(parent)) {
        return Err(ApiFault::Denied);
    }
    let paths = match parent {
        _ if !paths.is_empty() => Grants::parse(&paths)?,
        Some(parent) => parent.paths.clone(),
        None => Grants::parse(&["*"])?,
    };
    let name: String = fields.text("display_name")?.unwrap_or("token").chars().take(80).collect();
    Ok(Wanted {
        name,
        paths,
        write: write || (whole && may_write),
        all: whole && maker.is_all(),
        parent: parent.map(|parent| parent.accessor.clone()),
        ttl: time_to_live(fields, parent.and_then(|parent| parent.left()))?,
    })
}

/// Returns the microseconds that a token is to live: those asked for, but not more than `most`.
fn time_to_live(fields: &Fields, most: Option<u64>) -> Result<Option<u64>, ApiFault> {
    let mut shortest = most;
    let asked = if fields.get("ttl").is_some() { "ttl" } else { "lease" };
    for name in [asked, "explicit_max_ttl"] {
        let Some(ttl) = fields.duration(name)?.filter(|ttl| *ttl != 0) else { continue };
        let ttl =
            u64::try_from(ttl).map_err(|_| ApiFault::field(name, "expected a time to come"))?;
        shortest = Some(shortest.unwrap_or(u64::MAX).min(ttl.max(MICROS)));
    }
    Ok(shortest)
}

/// Refuses what Vault's request may ask for and no token here can keep: to leave it out without a
/// word would make more of the token than was asked for.
fn require_known(fields: &Fields, maker: &Scope) -> Result<(), ApiFault> {
    let refuse = |text: String| Err(ApiFault::Refused(text));
    if fields.count("num_uses")?.is_some_and(|uses| uses > 0) {
        return refuse("num_uses: uses are not counted here\nhint: give `ttl`".to_owned());
    }
    if fields.duration("period")?.is_some_and(|period| period != 0) {
        return refuse("period: tokens are not renewed here\nhint: give `ttl`".to_owned());
    }
    for name in ["id", "entity_alias"] {
        if fields.text(name)?.is_some_and(|text| !text.is_empty()) {
            return refuse(format!("{name}: a token is named by this machine\nhint: leave it out"));
        }
    }
    let kind = fields.text("type")?.unwrap_or_default();
    if !matches!(kind, "" | "service" | "default" | "default-service") {
        return refuse(format!("type {kind:?} is not known here\nhint: use `service`"));
    }
    let own = standing(maker, Time::default()).1;
    let policies = fields.texts("policies")?;
    if let Some(other) = policies.iter().find(|name| *name != own && *name != "default") {
        return refuse(format!(
            "policy {other:?} is not known here\nhint: give `path` and `capabilities`"
        ));
    }
    if fields.flag("no_parent")? == Some(true) && !matches!(maker, Scope::All) {
        return refuse("root or sudo privileges required to create orphan token".to_owned());
    }
    Ok(())
}

/// Answers the accessors of all tokens.
pub(super) fn accessors(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    let list = call.api.gate.tokens.list();
    if list.is_empty() {
        return Err(ApiFault::Missing);
    }
    let keys: Vec<&str> = list.iter().map(|issued| issued.accessor.as_str()).collect();
    Ok(envelope::data(Source::Token, json!({ "keys": keys })))
}

/// Answers what is known of a token; without one, of the caller's own.
pub(super) async fn lookup(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    let fields = call.fields().await?;
    let token = fields.text("token")?.unwrap_or_default();
    if token.is_empty() || Some(token) == given_token(call.headers) {
        return Ok(lookup_self(call));
    }
    let issued = call.api.gate.tokens.find(token);
    let issued = issued.ok_or_else(|| ApiFault::Forbidden("bad token".to_owned()))?;
    Ok(describe(call, &Scope::Limited(issued), token))
}

/// Answers what is known of the token with an accessor; not the token.
pub(super) async fn lookup_accessor(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    let fields = call.fields().await?;
    let accessor = accessor(&fields)?;
    let list = call.api.gate.tokens.list();
    let issued = list.into_iter().find(|issued| issued.accessor == accessor);
    let issued = issued.ok_or_else(|| ApiFault::several(&["invalid accessor".to_owned()]))?;
    Ok(describe(call, &Scope::Limited(issued), ""))
}

/// Revokes the caller's own token, if it is one made here.
pub(super) fn revoke_self(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    if let Scope::Limited(own) = &call.caller.scope {
        call.api.gate.tokens.revoke(&own.accessor).map_err(refused)?;
    }
    Ok(envelope::no_content())
}

/// Revokes a token; nothing if it is unknown.
pub(super) async fn revoke(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    let fields = call.fields().await?;
    let token = fields.text("token")?.filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| ApiFault::Refused("missing token ID".to_owned()))?;
    if let Some(known) = call.api.gate.tokens.find(token) {
        call.api.gate.tokens.revoke(&known.accessor).map_err(refused)?;
    }
    Ok(envelope::no_content())
}

/// Revokes the token with an accessor.
pub(super) async fn revoke_accessor(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    let fields = call.fields().await?;
    if !call.api.gate.tokens.revoke(accessor(&fields)?).map_err(refused)? {
        let text = "No token found with this accessor";
        return Ok(envelope::warning(StatusCode::OK, Source::Token, text));
    }
    Ok(envelope::no_content())
}

fn accessor(fields: &Fields) -> Result<&str, ApiFault> {
    let accessor = fields.text("accessor")?.filter(|accessor| !accessor.is_empty());
    accessor.ok_or_else(|| ApiFault::several(&["missing accessor".to_owned()]))
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
fn refused(why: anyhow::Error) -> ApiFault {
    ApiFault::Refused(format!("{why:#}"))
}
