//! `agent/resume`, `agent/accept`, `agent/set-aside`: the ways out of a halt, for this machine's
//! owner.

use shared::audit::{Fact, Op};
use shared::path::SecretPath;

use super::context::Api;
use super::envelope::{self, ApiAnswer};
use super::error::ApiFault;
use super::request::{Call, Verb};
use machine::local::{AcceptRequest, ResumeRequest};
use machine::render::Text;

/// Answers where a restored server stands, or sends the entry that resumes it.
pub(super) async fn resume(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    if call.verb == Verb::Read {
        return Ok(envelope::plain(&call.api.engine.restored().await.map_err(remote)?));
    }
    let ResumeRequest { envelope, code } = call.only(Verb::Write)?.typed().await?;
    let resumed = call.api.engine.resume(envelope, code).await.map_err(remote)?;
    Ok(envelope::plain(&resumed))
}

/// Ends `E_FORK` by a head that an admin has confirmed.
pub(super) async fn accept(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let AcceptRequest { head } = call.typed().await?;
    tracing::warn!(%head, who = %call.caller.by.who, "a head is accepted by hand");
    Ok(envelope::plain(&call.api.engine.accept(head).await.map_err(remote)?))
}

/// Lists what was set aside, shows one content of it, or drops it all.
pub(super) async fn set_aside(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let engine = &call.api.engine;
    if call.verb == Verb::Delete {
        engine.clear_set_aside().await.map_err(remote)?;
        tracing::warn!(who = %call.caller.by.who, "what was set aside is dropped");
        return Ok(envelope::no_content());
    }
    let call = call.only(Verb::Read)?;
    match call.query.get("path") {
        None => Ok(envelope::plain(&call.api.engine.set_aside().await.map_err(remote)?)),
        Some(path) => content(call.api, call, path.parse()?).await,
    }
}

/// Answers the content of a version that was set aside; that it was read is on record first.
async fn content(api: &Api, call: &Call<'_>, path: SecretPath) -> Result<ApiAnswer, ApiFault> {
    let content = api.engine.open_set_aside(&path).await.map_err(remote)?;
    let (path, ver) = (Some(path), Some(content.ver));
    let read = Fact { path, ver, ..Fact::new(Op::LocalRead).by(&call.caller.by) };
    let recorded = api.engine.record(read).await;
    recorded.map_err(|why| ApiFault::Broken(format!("{why:#}")))?;
    let mut text = Text::default();
    text.push_bytes(content.expose());
    Ok(envelope::bare(axum::http::StatusCode::OK, text))
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
fn remote(why: anyhow::Error) -> ApiFault {
    let hint = host::hint::hint(&why);
    let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    ApiFault::Remote(format!("{why:#}{hint}"))
}
