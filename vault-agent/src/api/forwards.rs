//! `agent/forwards` and `agent/forward`: how it goes with those who are told of alarms and audit
//! records, and a message that tries them.

use machine::local::{ForwardTest, Forwards, Tested};

use crate::forward::Forwarding;

use super::context::Api;
use super::envelope::{self, ApiAnswer};
use super::error::ApiFault;
use super::request::Call;

/// Answers who is told, and how that goes.
pub(super) fn list(api: &Api) -> ApiAnswer {
    let forwards = api.forwarding.as_ref().map(Forwarding::rows).unwrap_or_default();
    envelope::plain(&Forwards { forwards })
}

/// Sends a test, and answers what came of it.
pub(super) async fn test(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let ForwardTest { name } = call.typed().await?;
    tracing::info!(who = %call.caller.by.who, "a test is forwarded");
    let forwards = match &call.api.forwarding {
        Some(all) => all.test(name.as_deref()).await,
        None => Vec::new(),
    };
    if let (Some(name), true) = (name, forwards.is_empty()) {
        let text = format!("no `[[forward]]` of `agent.toml` is called `{}`", name.escape_debug());
        let hint = "hint: `vault-agent forward list` shows them";
        return Err(ApiFault::Refused(format!("{text}\n{hint}")));
    }
    Ok(envelope::plain(&Tested { forwards }))
}
