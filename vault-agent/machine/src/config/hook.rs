//! `on_change`: what to run when a target has changed. Running it does not live here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use shared::duration;

/// How long a hook may run unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often a failed hook is tried again unless it says otherwise.
const RETRIES: u32 = 5;

/// What to run, for how long, and how often again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    /// What to run.
    pub action: HookAction,
    /// After this long its processes are killed.
    pub timeout: Duration,
    /// How often a failure is tried again.
    pub retries: u32,
}

/// The kinds of hooks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HookAction {
    /// A program and its arguments, run in the target's folder.
    Command(Vec<String>),
    /// A systemd unit.
    Systemd {
        /// The unit, e.g. `ghost.service`.
        unit: String,
        /// What to do with it.
        action: UnitAction,
    },
    /// A signal to the process whose number a file holds.
    Signal {
        /// The signal.
        signal: HookSignal,
        /// The file.
        pid_file: PathBuf,
    },
}

/// What to do with a systemd unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitAction {
    /// Start it.
    Start,
    /// Restart it, or start it.
    Restart,
    /// Restart it if it runs.
    #[default]
    TryRestart,
    /// Have it reload.
    Reload,
    /// Have it reload, or restart it.
    ReloadOrRestart,
    /// If it runs, have it reload, or restart it.
    TryReloadOrRestart,
}

impl UnitAction {
    /// Returns the verb of `systemctl`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart => "restart",
            Self::TryRestart => "try-restart",
            Self::Reload => "reload",
            Self::ReloadOrRestart => "reload-or-restart",
            Self::TryReloadOrRestart => "try-reload-or-restart",
        }
    }
}

/// The signals that a hook may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "signal(7) says what they mean")]
pub enum HookSignal {
    Hup,
    Usr1,
    Usr2,
    Winch,
    Term,
    Int,
    Quit,
}

/// A hook in table form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    command: Option<Command>,
    systemd: Option<String>,
    action: Option<UnitAction>,
    signal: Option<HookSignal>,
    pid_file: Option<PathBuf>,
    timeout: Option<Span>,
    retries: Option<u32>,
}

/// A command: a list of arguments, or a line for `sh -c`.
struct Command(Vec<String>);

/// A time span: seconds, or a duration as Go writes it.
struct Span(Duration);

impl<'de> Deserialize<'de> for Hook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HookVisitor)
    }
}

struct HookVisitor;

impl<'de> Visitor<'de> for HookVisitor {
    type Value = Hook;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of arguments, a line for `sh`, or a table with `command`, `systemd` or `signal`")
    }

    fn visit_str<E: Error>(self, line: &str) -> Result<Hook, E> {
        Ok(Hook { action: HookAction::Command(shell(line)?.0), timeout: TIMEOUT, retries: RETRIES })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Hook, A::Error> {
        let command = arguments(Vec::deserialize(SeqAccessDeserializer::new(seq))?)?;
        Ok(Hook { action: HookAction::Command(command.0), timeout: TIMEOUT, retries: RETRIES })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Hook, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let Table { command, systemd, action, signal, pid_file, timeout, retries } = table;
        let action = match (command, systemd, action, signal, pid_file) {
            (Some(Command(command)), None, None, None, None) => HookAction::Command(command),
            (None, Some(unit), action, None, None) => HookAction::Systemd {
                unit: checked_unit(unit)?,
                action: action.unwrap_or_default(),
            },
            (None, None, None, Some(signal), Some(pid_file)) => {
                if !pid_file.is_absolute() {
                    let shown = pid_file.display();
                    return Err(A::Error::custom(format!("pid_file `{shown}` is not absolute")));
                }
                HookAction::Signal { signal, pid_file }
            }
            _ => {
                return Err(A::Error::custom(
                    "a hook is one of { command }, { systemd, action } and { signal, pid_file }",
                ));
            }
        };
        let timeout = timeout.map_or(TIMEOUT, |span| span.0);
        Ok(Hook { action, timeout, retries: retries.unwrap_or(RETRIES) })
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CommandVisitor;
        impl<'de> Visitor<'de> for CommandVisitor {
            type Value = Command;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of arguments, or a line for `sh`")
            }

            fn visit_str<E: Error>(self, line: &str) -> Result<Command, E> {
                shell(line)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Command, A::Error> {
                arguments(Vec::deserialize(SeqAccessDeserializer::new(seq))?)
            }
        }
        deserializer.deserialize_any(CommandVisitor)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time span such as \"90s\" or \"2m\"")
            }

            fn visit_i64<E: Error>(self, seconds: i64) -> Result<Span, E> {
                self.visit_str(&seconds.to_string())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                let span = span(text)
                    .filter(|span| !span.is_zero() && *span <= Duration::from_secs(24 * 3600));
                span.map(Span).ok_or_else(|| {
                    E::custom(format!(
                        "`{text}` is not a time span such as \"90s\" or \"2m\", of a day at most"
                    ))
                })
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

/// Reads how long something may last, without a limit of a day.
pub(super) fn long_span<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match span(&text).filter(|span| *span >= Duration::from_secs(1)) {
        Some(span) => Ok(Some(span)),
        None => Err(D::Error::custom(format!(
            "`{text}` is not a time span such as \"24h\" or \"7d\", of a second at least"
        ))),
    }
}

fn shell<E: Error>(line: &str) -> Result<Command, E> {
    if line.trim().is_empty() {
        return Err(E::custom("a hook needs a command"));
    }
    Ok(Command(vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()]))
}

fn arguments<E: Error>(arguments: Vec<String>) -> Result<Command, E> {
    match arguments.first() {
        Some(program) if !program.is_empty() && !arguments.iter().any(|a| a.contains('\0')) => {
            Ok(Command(arguments))
        }
        _ => Err(E::custom("a hook needs a command")),
    }
}

/// Refuses what `systemctl` would take for an option or a pattern.
pub(super) fn checked_unit<E: Error>(unit: String) -> Result<String, E> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if unit.is_empty() || unit.starts_with('-') || !unit.chars().all(plain) {
        return Err(E::custom(format!("`{unit}` is not a unit name such as \"ghost.service\"")));
    }
    Ok(unit)
}

fn span(text: &str) -> Option<Duration> {
    let micros = duration::parse_or_seconds(text)?;
    u64::try_from(micros).ok().map(Duration::from_micros)
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            HookAction::Command(command) => match &command[..] {
                [sh, c, line] if sh == "sh" && c == "-c" => f.write_str(line),
                arguments => f.write_str(&arguments.join(" ")),
            },
            HookAction::Systemd { unit, action } => {
                write!(f, "systemctl {} {unit}", action.as_str())
            }
            HookAction::Signal { signal, pid_file } => {
                write!(f, "kill -{} {}", format!("{signal:?}").to_uppercase(), pid_file.display())
            }
        }
    }
}
