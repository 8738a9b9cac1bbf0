//! Headers of requests and answers that Vault does not have.

/// Request header, any value: the server is not asked, what this machine holds must do.
pub const OFFLINE: &str = "x-vault-offline";

/// Request header of a write, any value: the answer does not wait for this host's own targets.
pub const NO_WAIT: &str = "x-vault-no-wait";

/// Request header: why the caller wants this, on one line; it stands in the audit record.
pub const REASON: &str = "x-vault-reason";

/// How answers begin that want a reason, or another one.
pub const NO_REASON: [&str; 2] = ["a reason is wanted of ", "the reason holds a value "];

/// Request header: the AI agent that the caller works for, if it says so itself.
pub const AI_AGENT: &str = "x-vault-ai-agent";

/// Response header: seconds since the content was last known to be the newest; only while the
/// server is away.
pub const CACHE_AGE: &str = "x-vault-cache-age";

/// Response header of every answer: the agent's version.
pub const AGENT: &str = "x-vault-agent-version";
