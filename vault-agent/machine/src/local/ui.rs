//! Opening and ending the page of `vault ui`.

use serde::{Deserialize, Serialize};

/// `POST` a [`UiRequest`]: [`UiLink`]; `GET`: [`UiState`]; `DELETE`: 204, the page has ended.
pub const UI: &str = "agent/ui";

/// Asks for a link that opens the page once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UiRequest {
    /// The port that the browser sees, where a tunnel leads to the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<u16>,
    /// The user whose processes may open the link; who asks, if absent. Root alone names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
}

/// A link that opens the page once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UiLink {
    /// The link.
    pub link: String,
    /// The port on 127.0.0.1 that the page listens on.
    pub port: u16,
    /// How many seconds the link is good for.
    pub seconds: u64,
}

/// Whether the page is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UiState {
    /// The port on 127.0.0.1 that it listens on, if it does.
    pub port: Option<u16>,
    /// Sessions that are open.
    pub sessions: u64,
    /// What shows how everybody stands on other pages, where `agent.toml` has it so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub widget: Option<UiWidget>,
}

/// Addresses that say how everybody stands, each with its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UiWidget {
    /// A JSON document.
    pub json: String,
    /// A picture.
    pub badge: String,
}
