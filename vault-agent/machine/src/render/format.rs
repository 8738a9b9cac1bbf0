//! The formats of files, and what holds of each. How one is written lives in its own file.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `.env` by the portable rule: every common reader reads the same.
    #[default]
    Dotenv,
    /// `.env` and `env_file` of Docker Compose.
    Compose,
    /// `--env-file` of Docker and Podman: no quotes at all.
    Docker,
    /// `EnvironmentFile=` of systemd.
    Systemd,
    /// `export NAME='value'` lines for shells.
    Sh,
    /// One JSON object.
    Json,
    /// One YAML mapping.
    Yaml,
    /// One TOML table.
    Toml,
    /// One value, byte for byte.
    Raw,
    /// Whatever a template makes of the secrets.
    Template,
}

/// What names mean in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Variables of a shell.
    Shell,
    /// Environment variables.
    Environment,
    /// Keys of any kind.
    Keys,
}

impl Format {
    /// Every format, in the order shown to people.
    pub const ALL: &'static [Self] = &[
        Self::Dotenv,
        Self::Compose,
        Self::Docker,
        Self::Systemd,
        Self::Sh,
        Self::Json,
        Self::Yaml,
        Self::Toml,
        Self::Raw,
        Self::Template,
    ];

    /// Returns the name used in configuration and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dotenv => "dotenv",
            Self::Compose => "compose",
            Self::Docker => "docker",
            Self::Systemd => "systemd",
            Self::Sh => "sh",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Toml => "toml",
            Self::Raw => "raw",
            Self::Template => "template",
        }
    }

    /// Tells whether all its readers pass over lines that start with `#`.
    pub const fn has_comments(self) -> bool {
        !matches!(self, Self::Json | Self::Raw | Self::Template)
    }

    pub(super) const fn names(self) -> Names {
        match self {
            Self::Dotenv | Self::Sh => Names::Shell,
            Self::Compose | Self::Docker | Self::Systemd => Names::Environment,
            Self::Json | Self::Yaml | Self::Toml | Self::Raw | Self::Template => Names::Keys,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().copied().find(|format| format.as_str() == text);
        known.ok_or_else(|| {
            format!(
                "format `{text}` is not one of {}",
                Self::ALL.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", ")
            )
        })
    }
}
