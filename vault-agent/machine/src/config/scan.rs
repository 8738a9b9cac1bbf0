//! `[scan]` of `agent.toml`: where the host looks for values of the vault, how often, and how far.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use shared::duration;

/// How the host scans itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scan {
    /// Time from one scan to the next; `None` for scans that somebody asks for alone.
    #[serde(deserialize_with = "every")]
    pub every: Option<Duration>,
    /// Places that most people mean.
    pub presets: Vec<Preset>,
    /// Files and folders besides; absolute, or below `~` or `~USER`, and `*` in a name is any text.
    #[serde(deserialize_with = "places")]
    pub paths: Vec<String>,
    /// What is left out: places as above, or names of files and folders anywhere.
    #[serde(deserialize_with = "left_out")]
    pub except: Vec<String>,
    /// Whether the journal is searched.
    pub journal: bool,
    /// Whether the logs of containers are.
    pub containers: Containers,
    /// How many older versions of each secret are looked for besides the newest.
    pub older_versions: usize,
    /// Most files of one scan.
    pub max_files: u64,
    /// Most bytes that one scan reads.
    pub max_bytes: u64,
    /// Longest time that one scan takes.
    #[serde(deserialize_with = "time")]
    pub max_time: Duration,
}

/// Places that most people mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Home folders, whole.
    Homes,
    /// What shells and other prompts remember.
    ShellHistories,
    /// What AI tools have heard and said.
    AiTranscripts,
}

/// Which containers' logs are searched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Containers {
    /// Those of Docker and Podman where these usually are, or none.
    Usual(bool),
    /// Those below folders of a container engine, such as `/srv/docker/containers`.
    Below(#[serde(deserialize_with = "places")] Vec<String>),
}

impl Containers {
    /// Tells whether any are.
    pub fn is_any(&self) -> bool {
        match self {
            Self::Usual(usual) => *usual,
            Self::Below(folders) => !folders.is_empty(),
        }
    }
}

/// Shortest time from one scan to the next.
const SHORTEST: Duration = Duration::from_mins(10);

impl Default for Scan {
    fn default() -> Self {
        Self {
            every: Some(Duration::from_hours(24)),
            presets: vec![Preset::ShellHistories, Preset::AiTranscripts],
            paths: Vec::new(),
            except: Vec::new(),
            journal: false,
            containers: Containers::Usual(false),
            older_versions: 2,
            max_files: 1_000_000,
            max_bytes: 100_000_000_000,
            max_time: Duration::from_hours(1),
        }
    }
}

fn read(text: &str) -> Option<Duration> {
    let micros = duration::parse_or_seconds(text)?;
    u64::try_from(micros).ok().map(Duration::from_micros)
}

fn every<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match read(&text) {
        Some(Duration::ZERO) => Ok(None),
        Some(span) if span >= SHORTEST => Ok(Some(span)),
        Some(_) | None => Err(D::Error::custom(format!(
            "`{text}` is not a time span such as \"12h\" or \"1d\", of 10 minutes at least; \"0\" \
             scans only when somebody asks"
        ))),
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let span = read(&text).filter(|span| *span >= Duration::from_secs(1));
    span.ok_or_else(|| {
        let why = format!("`{text}` is not a time span such as \"10m\" or \"1h\"");
        D::Error::custom(why)
    })
}

fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let places = Vec::<String>::deserialize(deserializer)?;
    match places.iter().find(|place| !is_place(place)) {
        Some(bad) => Err(D::Error::custom(format!(
            "`{bad}` is neither absolute nor below `~` or `~USER`, or has `..` in it"
        ))),
        None => Ok(places),
    }
}

fn left_out<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let all = Vec::<String>::deserialize(deserializer)?;
    let is_name = |it: &str| !it.is_empty() && !it.contains('/') && it != "." && it != "..";
    match all.iter().find(|it| !is_place(it) && !is_name(it)) {
        Some(bad) => Err(D::Error::custom(format!(
            "`{bad}` is neither a name nor a place: absolute, or below `~` or `~USER`"
        ))),
        None => Ok(all),
    }
}

fn is_place(text: &str) -> bool {
    let starts = text.starts_with(['/', '~']);
    starts && !text.contains('\0') && !text.split('/').any(|part| part == "." || part == "..")
}
