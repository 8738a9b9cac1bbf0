//! `[ui]`: the page of `vault ui`. Opening it does not live here.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use shared::duration;

/// How long nobody may have asked for anything before the page ends.
const IDLE: Duration = Duration::from_mins(30);
/// The longest of these times: a page is no service.
const LONGEST: Duration = Duration::from_hours(24);

/// The page that `vault ui` opens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ui {
    /// The port on 127.0.0.1; `None` for any that is free.
    #[serde(deserialize_with = "port")]
    pub port: Option<u16>,
    /// How long a session lives that asks for nothing.
    #[serde(deserialize_with = "idle")]
    pub idle: Duration,
    /// Whether `/widget.json` and `/badge.svg` are answered to callers that show their token, for
    /// as long as the agent runs.
    pub widget: bool,
}

impl Default for Ui {
    fn default() -> Self {
        Self { port: None, idle: IDLE, widget: false }
    }
}

impl Ui {
    /// Refuses a widget at a port that is another one after each start.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.widget && self.port.is_none() {
            let text = "a widget is asked for at an address that stays: set `port` beside it";
            return Err(("widget", text.to_owned()));
        }
        Ok(())
    }
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    match u16::deserialize(deserializer)? {
        0 => Err(D::Error::custom("port 0 is none: leave `port` out for any that is free")),
        port => Ok(Some(port)),
    }
}

fn idle<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let micros = duration::parse(&text).and_then(|micros| u64::try_from(micros).ok());
    match micros.map(Duration::from_micros) {
        Some(idle) if (Duration::from_secs(1)..=LONGEST).contains(&idle) => Ok(idle),
        Some(_) => Err(D::Error::custom(format!("idle {text:?} is not between 1s and 24h"))),
        None => Err(D::Error::custom(format!("idle {text:?} is no duration such as \"30m\""))),
    }
}
