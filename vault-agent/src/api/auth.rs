//! `auth/token/`: what a caller is told about his own token, and tokens for local programs.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::grant::{Grant, Grants};
use zeroize::Zeroizing;

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
    let token = given_token(call.headers).unwrap_or_default();
    match &call.caller.scope {
        Scope::Limited(issued) => envelope::data(Source::Token, describe(issued, token)),
        Scope::All => {
            let since = call.api.engine.since();
            let own = json!({
                "accessor": "",
                "creation_time": since.as_secs(),
                "creation_ttl": 0,
                "display_name": format!("machine-{}", call.api.engine.name()),
                "entity_id": "",
                "expire_time": null,
                "explicit_max_ttl": 0,
                "id": token,
                "issue_time": since.to_string(),
                "meta": null,
                "num_uses": 0,
                "orphan": true,
                "path": "auth/token/create",
                "policies": ["machine"],
                "renewable": false,
                "ttl": 0,
                "type": "service",
            });
            envelope::data(Source::Token, own)
        }
    }
}

/// Describes a token as Vault does; its holder is shown the token itself.
fn describe(issued: &Issued, token: &str) -> serde_json::Map<String, Value> {
    let left = issued.expires.map_or(0, |expires| expires.seconds_since(clock::now()));
    let whole = issued.expires.map_or(0, |expires| expires.seconds_since(issued.created));
    let paths = issued.paths.as_slice().iter().map(Grant::as_str).collect::<Vec<_>>().join(",");
    let fields = [
        ("accessor", Value::from(issued.accessor.as_str())),
        ("creation_time", Value::from(issued.created.as_secs())),
        ("creation_ttl", Value::from(whole)),
        ("display_name", Value::from(issued.name.as_str())),
        ("entity_id", Value::from("")),
        ("expire_time", issued.expires.map_or(Value::Null, |time| Value::from(time.to_string()))),
        ("explicit_max_ttl", Value::from(whole)),
        ("id", Value::from(token)),
        ("issue_time", Value::from(issued.created.to_string())),
        // Text by name: clients take nothing else here.
        ("meta", json!({ "paths": paths, "capabilities": capabilities(issued).join(",") })),
        ("num_uses", Value::from(0)),
        ("orphan", Value::from(true)),
        ("path", Value::from("auth/token/create")),
        ("policies", json!(["token"])),
        ("renewable", Value::from(false)),
        ("ttl", Value::from(left)),
        ("type", Value::from("service")),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn capabilities(issued: &Issued) -> &'static [&'static str] {
    if issued.write { &["read", "write"] } else { &["read"] }
}

/// Answers that the token lives on and is not to be renewed.
pub(super) fn renew_self(call: &Call<'_>) -> ApiAnswer {
    let token = given_token(call.headers).unwrap_or_default();
    let (accessor, policy, left) = match &call.caller.scope {
        Scope::All => ("", "machine", 0),
        Scope::Limited(issued) => (
            issued.accessor.as_str(),
            "token",
            issued.expires.map_or(0, |expires| expires.seconds_since(clock::now())),
        ),
    };
    envelope::auth(grant(token, accessor, policy, left))
}

fn grant(token: &str, accessor: &str, policy: &str, seconds: u64) -> Value {
    json!({
        "client_token": token,
        "accessor": accessor,
        "policies": [policy],
        "token_policies": [policy],
        "metadata": null,
        "lease_duration": seconds,
        "renewable": false,
        "entity_id": "",
        "token_type": "service",
        "orphan": true,
        "mfa_requirement": null,
        "num_uses": 0,
    })
}

/// Makes a token for the `path`s given, to `read` unless `capabilities` say `write`, for `ttl`.
pub(super) async fn create(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    require_all(call)?;
    let fields = call.fields().await?;
    let wanted = wanted(&fields)?;
    let (token, issued) = call.api.gate.tokens.create(wanted).map_err(refused)?;
    let left = issued.expires.map_or(0, |expires| expires.seconds_since(issued.created));
    Ok(envelope::auth(grant(&token, &issued.accessor, "token", left)))
}

fn wanted(fields: &Fields) -> Result<Wanted, ApiFault> {
    let paths = fields.texts("path")?;
    if paths.is_empty() {
        return Err(ApiFault::Refused(
            "a token needs a `path`: a secret, a folder with `/` at its end, or `*`".to_owned(),
        ));
    }
    let mut write = false;
    for capability in fields.texts("capabilities")? {
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
    let ttl = match fields.duration("ttl")? {
        None | Some(0) => None,
        Some(ttl) => {
            Some(u64::try_from(ttl).map_err(|_| ApiFault::field("ttl", "a time to come"))?)
        }
    };
    let name: String = fields.text("display_name")?.unwrap_or("token").chars().take(80).collect();
    Ok(Wanted { name, paths: Grants::parse(&paths)?, write, ttl: ttl.map(|ttl| ttl.max(MICROS)) })
}

/// Answers the accessors of all tokens.
pub(super) fn accessors(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    require_all(call)?;
    let list = call.api.gate.tokens.list();
    if list.is_empty() {
        return Err(ApiFault::Missing);
    }
    let keys: Vec<&str> = list.iter().map(|issued| issued.accessor.as_str()).collect();
    Ok(envelope::data(Source::Token, json!({ "keys": keys })))
}

/// Answers what is known of a token; without one, of the caller's own.
pub(super) async fn lookup(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    require_all(call)?;
    let fields = call.fields().await?;
    let own = given_token(call.headers).unwrap_or_default();
    let token = fields.text("token")?.unwrap_or_default();
    if token.is_empty() || token == own {
        return Ok(lookup_self(call));
    }
    let token = Zeroizing::new(token.to_owned());
    let issued = call.api.gate.tokens.find(&token).ok_or(ApiFault::BadToken)?;
    Ok(envelope::data(Source::Token, describe(&issued, &token)))
}

/// Answers what is known of the token with an accessor; not the token.
pub(super) async fn lookup_accessor(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    require_all(call)?;
    let fields = call.fields().await?;
    let accessor = accessor(&fields)?;
    let list = call.api.gate.tokens.list();
    let issued = list.iter().find(|issued| *issued.accessor == *accessor);
    let issued = issued.ok_or_else(|| ApiFault::several(&["invalid accessor".to_owned()]))?;
    Ok(envelope::data(Source::Token, describe(issued, "")))
}

/// Revokes the caller's own token, if it is one made here.
pub(super) fn revoke_self(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    if let Scope::Limited(own) = &call.caller.scope {
        let accessor = own.accessor.clone();
        call.api.gate.tokens.revoke(|issued| issued.accessor == accessor).map_err(refused)?;
    }
    Ok(envelope::no_content())
}

/// Revokes a token; nothing if it is unknown.
pub(super) async fn revoke(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    require_all(call)?;
    let fields = call.fields().await?;
    let token = text(&fields, "token")?;
    let token = token.ok_or_else(|| ApiFault::Refused("missing token ID".to_owned()))?;
    if let Some(known) = call.api.gate.tokens.find(&token) {
        call.api.gate.tokens.revoke(|issued| issued.accessor == known.accessor).map_err(refused)?;
    }
    Ok(envelope::no_content())
}

/// Revokes the token with an accessor.
pub(super) async fn revoke_accessor(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    require_all(call)?;
    let fields = call.fields().await?;
    let accessor = accessor(&fields)?;
    let revoked = call.api.gate.tokens.revoke(|issued| *issued.accessor == *accessor);
    if revoked.map_err(refused)? == 0 {
        let text = "No token found with this accessor";
        return Ok(envelope::warning(StatusCode::OK, Source::Token, text));
    }
    Ok(envelope::no_content())
}

fn require_all(call: &Call<'_>) -> Result<(), ApiFault> {
    if call.caller.scope.is_all() { Ok(()) } else { Err(ApiFault::Denied) }
}

fn text(fields: &Fields, name: &'static str) -> Result<Option<Zeroizing<String>>, ApiFault> {
    let text = fields.text(name)?.filter(|text| !text.is_empty());
    Ok(text.map(|text| Zeroizing::new(text.to_owned())))
}

fn accessor(fields: &Fields) -> Result<Zeroizing<String>, ApiFault> {
    let missing = || ApiFault::several(&["missing accessor".to_owned()]);
    text(fields, "accessor")?.ok_or_else(missing)
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
fn refused(why: anyhow::Error) -> ApiFault {
    ApiFault::Refused(format!("{why:#}"))
}
