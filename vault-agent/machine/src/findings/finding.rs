//! One thing that is not as it should be, and what kinds of it there are.

use shared::name::Name;
use shared::path::SecretPath;
use shared::report::TargetState;
use shared::time::Time;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing, as scripts read it.
    pub kind: Kind,
    /// On which machine; `None` for the server.
    pub machine: Option<Name>,
    /// In which target.
    pub target: Option<String>,
    /// About which secret.
    pub secret: Option<SecretPath>,
    /// What, in words that follow the machine and the target.
    pub text: String,
    /// Since when, as far as anybody knows.
    pub since: Option<Time>,
    /// What to do about it, mostly a command.
    pub todo: String,
}

/// What kind of thing is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An alarm of this machine, by its code.
    Alarm(String),
    /// The log is not followed.
    Server,
    /// The server does not say how the others stand.
    Untold,
    /// The server's own backups fail.
    Backup,
    /// An owner's act has left versions encrypted to its readers of before.
    Left,
    /// A machine that does not sleep was not heard for five minutes.
    Silent,
    /// A machine's clock is minutes off.
    Clock,
    /// The server does not hand out the newest targets of a machine.
    Outdated,
    /// A program runs whose file is another one by now.
    Replaced,
    /// A program is too old to be made for the one that asks.
    Old,
    /// A file holds an older version than the newest, for more than a few seconds.
    Lags,
    /// A hook has failed.
    Hook,
    /// A file is not what it should be.
    Target(TargetState),
}

impl Kind {
    /// Returns the word for it; of an alarm, its code.
    pub fn word(&self) -> &str {
        match self {
            Self::Alarm(code) => code,
            Self::Server => "server_away",
            Self::Untold => "untold",
            Self::Backup => "backup_failing",
            Self::Left => "not_re_encrypted",
            Self::Silent => "silent",
            Self::Clock => "clock_off",
            Self::Outdated => "outdated",
            Self::Replaced => "program_replaced",
            Self::Old => "program_too_old",
            Self::Lags => "lags",
            Self::Hook => "hook_failed",
            Self::Target(state) => match state {
                TargetState::Starting => "starting",
                TargetState::Ok => "ok",
                TargetState::Waiting => "waiting",
                TargetState::Missing => "missing",
                TargetState::Denied => "denied",
                TargetState::Kept => "kept",
                TargetState::Refused => "refused",
                TargetState::Failed => "failed",
                TargetState::Drift => "drift",
                TargetState::TooOld => "too_old",
                TargetState::Foreign => "foreign",
            },
        }
    }
}
