//! Who asks, in full: the AI agent that a process works for, and why it asks, as the headers say;
//! and who has to say why.

use std::sync::Arc;

use axum::http::HeaderMap;
use machine::ai_tools;
use machine::config::{self, RequireReason};
use machine::local;
use shared::audit::{self, Agent, Asker, Reason};

use super::ancestry::Ancestry;
use super::error::ApiFault;

/// What is known of those who ask, and demanded of them.
#[derive(Debug)]
pub(super) struct Askers {
    ancestry: Arc<Ancestry>,
    required: RequireReason,
}

impl Askers {
    pub(super) fn new(options: &config::Api) -> Self {
        let ancestry = Arc::new(Ancestry::new(&options.ai_tools));
        Self { ancestry, required: options.require_reason }
    }

    /// Returns the AI agent that a process works for, if that shows.
    pub(super) async fn agent_of(&self, pid: Option<i32>) -> Option<Agent> {
        let (ancestry, pid) = (Arc::clone(&self.ancestry), pid?);
        // A process under way can hold up whoever reads its files in `/proc`.
        tokio::task::spawn_blocking(move || ancestry.agent_of(pid)).await.ok().flatten()
    }

    /// Adds what a caller says of themselves. Nobody gets rid of a mark by it.
    pub(super) fn heard(&self, asker: Asker, headers: &HeaderMap) -> Result<Asker, ApiFault> {
        let claimed = headers.get(local::AI_AGENT).and_then(|name| name.to_str().ok());
        let claimed = claimed.and_then(ai_tools::by_claim);
        let claimed = claimed.map(|name| self.ancestry.claimed(&name));
        Ok(Asker { agent: asker.agent.or(claimed), reason: reason(headers)?, ..asker })
    }

    /// Returns what is to be said to a caller who has to say why they ask, and has not.
    pub(super) fn lacks_reason(&self, asker: &Asker) -> Option<ApiFault> {
        let whom = match (self.required, &asker.agent) {
            (RequireReason::Agents | RequireReason::All, Some(agent)) => format!("`{agent}`"),
            (RequireReason::All, None) => "everybody".to_owned(),
            (RequireReason::Never, _) | (RequireReason::Agents, None) => return None,
        };
        asker.reason.is_none().then_some(ApiFault::NoReason(whom))
    }
}

/// Reads the header that says why. Clients that know no UTF-8 in headers send Latin-1.
fn reason(headers: &HeaderMap) -> Result<Option<Reason>, ApiFault> {
    let mut all = headers.get_all(local::REASON).iter();
    let Some(first) = all.next() else { return Ok(None) };
    let refused = |why: &str| {
        let hint = format!("one line of at most {} characters says why", audit::REASON);
        ApiFault::Refused(format!("X-Vault-Reason: {why}\nhint: {hint}"))
    };
    if all.next().is_some() {
        return Err(refused("the header stands there twice"));
    }
    let bytes = first.as_bytes();
    let latin = || bytes.iter().map(|byte| char::from(*byte)).collect();
    let text: String = str::from_utf8(bytes).map_or_else(|_| latin(), str::to_owned);
    // A variable that is empty is as none.
    if text.trim().is_empty() {
        return Ok(None);
    }
    audit::reason(&text).map(Some).map_err(|error| refused(&error.detail))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn said(values: &[&[u8]]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(local::REASON, HeaderValue::from_bytes(value).unwrap());
        }
        let found = reason(&headers).map_err(|fault| fault.to_string());
        found.map(|reason| reason.map(|text| text.to_string()))
    }

    #[test]
    fn a_header_says_why() {
        let is = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(said(&[]), Ok(None));
        assert_eq!(said(&[b"  "]), Ok(None));
        assert_eq!(said(&[b"deploy of Ghost"]), is("deploy of Ghost"));
        assert_eq!(said(&["für Ghost".as_bytes()]), is("für Ghost"));
        assert_eq!(said(&[b"f\xfcr Ghost"]), is("für Ghost"));
        for (values, part) in [
            (&[&[b'a'; 201][..]][..], "201 characters, 200 at most"),
            (&[b"a\tb"], "cannot be seen"),
            (&["a\u{202e}b".as_bytes()], "cannot be seen"),
            (&[b"a", b"b"], "stands there twice"),
        ] {
            let why = said(values).unwrap_err();
            assert!(why.contains(part) && why.contains("\nhint: one line of at most 200"), "{why}");
        }
    }

    #[test]
    fn reasons_are_demanded_of_those_whom_the_configuration_names() {
        let asker = |agent: Option<&str>, reason: Option<&str>| Asker {
            who: "vault[7] uid 1000".parse().unwrap(),
            agent: agent.map(Agent::lossy),
            reason: reason.map(|text| audit::reason(text).unwrap()),
        };
        let check = |required, agent: Option<&str>, lacks: bool| {
            let options = config::Api { require_reason: required, ..config::Api::default() };
            let askers = Askers::new(&options);
            assert_eq!(askers.lacks_reason(&asker(agent, None)).is_some(), lacks, "{required:?}");
            assert!(askers.lacks_reason(&asker(agent, Some("deploy"))).is_none(), "{required:?}");
        };
        check(RequireReason::Never, Some("codex"), false);
        check(RequireReason::Agents, Some("codex"), true);
        check(RequireReason::Agents, None, false);
        check(RequireReason::All, Some("codex"), true);
        check(RequireReason::All, None, true);
    }

    #[test]
    fn nobody_talks_themselves_out_of_a_mark() {
        let ai_tools = vec!["my-tool".to_owned()];
        let askers = Askers::new(&config::Api { ai_tools, ..config::Api::default() });
        let heard = |agent: Option<&str>, said: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(local::AI_AGENT, HeaderValue::from_static(said));
            let who: audit::Who = "vault[7] uid 1000".parse().unwrap();
            let asker = Asker { agent: agent.map(Agent::lossy), ..Asker::from(who) };
            askers.heard(asker, &headers).unwrap().agent.map(|agent| agent.to_string())
        };
        assert_eq!(heard(None, "my-tool").as_deref(), Some("my-tool"));
        assert_eq!(heard(None, "hunter2-hunter2").as_deref(), Some("unknown"));
        assert_eq!(heard(None, "  "), None);
        assert_eq!(heard(None, "x in y.service").as_deref(), Some("unknown"));
        assert_eq!(heard(Some("codex"), "").as_deref(), Some("codex"));
        assert_eq!(heard(Some("codex"), "person").as_deref(), Some("codex"));
    }
}
