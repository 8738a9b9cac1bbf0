//! A `[[forward]]` as it is written. Which of its keys go together does not live here.

use std::path::PathBuf;

use serde::Deserialize;

/// The kinds of sinks, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Journal,
    File,
    Syslog,
    Webhook,
    Mail,
}

/// What a webhook is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// One JSON object.
    #[default]
    Json,
    /// Plain text.
    Text,
    /// Plain text with the headers of ntfy.
    Ntfy,
    /// `sendMessage` of Telegram's Bot API.
    Telegram,
}

/// What is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    Alarms,
    Audit,
}

/// Conditions that must all hold; in texts `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Only {
    /// The machine that an alarm or a record is about.
    pub machine: Option<String>,
    /// Of alarms: the code, such as `silent` or `E_*`.
    pub code: Option<String>,
    /// Of records: the operation, or `read`, `write`, `act`.
    pub op: Option<String>,
    /// Of records: the secret.
    pub path: Option<String>,
    /// Of records: the process, unit or container.
    pub process: Option<String>,
    /// Of records: the user, or the admin.
    pub user: Option<String>,
    /// Of records: refusals only.
    pub denied: bool,
}

/// A table as it is written: which keys may stand together is checked later.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Written {
    pub(super) name: String,
    #[serde(default = "alarms")]
    pub(super) what: Vec<What>,
    #[serde(default)]
    pub(super) only: Only,
    pub(super) begins_after: Option<String>,
    pub(super) ends_after: Option<String>,
    pub(super) to: Kind,
    pub(super) file: Option<PathBuf>,
    pub(super) max_bytes: Option<u64>,
    pub(super) socket: Option<PathBuf>,
    pub(super) address: Option<String>,
    pub(super) facility: Option<String>,
    pub(super) format: Option<Body>,
    pub(super) url: Option<String>,
    pub(super) url_file: Option<PathBuf>,
    pub(super) url_secret: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) token_secret: Option<String>,
    pub(super) hmac_file: Option<PathBuf>,
    pub(super) hmac_secret: Option<String>,
    pub(super) chat: Option<String>,
    pub(super) mail_to: Option<Vec<String>>,
    pub(super) mail_from: Option<String>,
    pub(super) sendmail: Option<PathBuf>,
}

fn alarms() -> Vec<What> {
    vec![What::Alarms]
}
