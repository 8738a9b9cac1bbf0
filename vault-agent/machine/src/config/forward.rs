//! `[[forward]]` of `agent.toml`: who is told of alarms and audit records, of which, and how.
//! Telling them does not live here.

mod sink;
mod written;

use std::sync::Arc;
use std::time::Duration;

use shared::audit::Op;
use shared::duration;
use shared::name::Name;
use toml::Spanned;

use super::source::Clash;

pub use sink::{
    File, Hidden, Journal, Mail, Private, Sink, Syslog, SyslogAddress, Webhook, check_url,
};
use written::What;
pub(super) use written::Written;
pub use written::{Body, Only};

/// Most tables: each has a task, and rows of the status.
const MOST: usize = 16;
/// How long a finding has to stand before it is told, unless the table says otherwise.
const BEGINS: Duration = Duration::from_secs(10);
/// How long it has to be gone before its end is told.
const ENDS: Duration = Duration::from_secs(30);
/// The longest of either, in microseconds.
const LONGEST: i64 = 86_400_000_000;

/// One that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// What it is called in status, metrics and log; each once.
    pub name: Name,
    /// Whether it is told of alarms.
    pub alarms: bool,
    /// Whether it is told of audit records.
    pub audit: bool,
    /// Which of them.
    pub only: Only,
    /// How long a finding has to stand before it is told.
    pub begins_after: Duration,
    /// How long it has to be gone before its end is told.
    pub ends_after: Duration,
    /// Where to.
    pub to: Sink,
}

/// Checks the tables, each name once.
pub(super) fn checked(written: Vec<Spanned<Written>>) -> Result<Vec<Arc<Forward>>, Clash> {
    let mut all: Vec<Arc<Forward>> = Vec::with_capacity(written.len());
    for table in written {
        let at = table.span().start;
        let clash = |(key, message)| (at, key, message);
        let forward = one(table.into_inner()).map_err(clash)?;
        if all.iter().any(|other| other.name == forward.name) {
            return Err(clash(("name", format!("`{}` is the name of another", forward.name))));
        }
        if all.len() == MOST {
            return Err(clash(("name", format!("there are more than {MOST} `[[forward]]`"))));
        }
        all.push(Arc::new(forward));
    }
    Ok(all)
}

fn one(mut written: Written) -> Result<Forward, sink::Wrong> {
    let name = written.name.parse::<Name>().map_err(|why| ("name", why.detail))?;
    if written.what.is_empty() {
        return Err(("what", "names nothing: `\"alarms\"`, `\"audit\"` or both".to_owned()));
    }
    let is_told = |what| written.what.contains(&what);
    let (alarms, audit) = (is_told(What::Alarms), is_told(What::Audit));
    let begins_after = span("begins_after", written.begins_after.as_deref(), BEGINS)?;
    let ends_after = span("ends_after", written.ends_after.as_deref(), ENDS)?;
    let only = std::mem::take(&mut written.only);
    only.check(alarms, audit)?;
    let to = sink::checked(written)?;
    Ok(Forward { name, alarms, audit, only, begins_after, ends_after, to })
}

impl Only {
    /// Refuses what would let nothing through, or says nothing.
    fn check(&self, alarms: bool, audit: bool) -> Result<(), sink::Wrong> {
        let Self { code, op, path, process, user, denied, .. } = self;
        if code.is_some() && !alarms {
            return Err(("only", "`code` is of alarms, and `what` names none".to_owned()));
        }
        let of_records = [op, path, process, user].into_iter().any(Option::is_some) || *denied;
        if of_records && !audit {
            let text = "`op`, `path`, `process`, `user`, `denied` are of audit records, and `what` \
                        names none";
            return Err(("only", text.to_owned()));
        }
        match op.as_deref() {
            Some(word) if !matches!(word, "write" | "act") => match Op::from(word) {
                Op::Newer(_) => Err(("only", format!("no operation is called `{word}`"))),
                _ => Ok(()),
            },
            Some(_) | None => Ok(()),
        }
    }
}

fn span(key: &'static str, text: Option<&str>, default: Duration) -> Result<Duration, sink::Wrong> {
    let Some(text) = text else { return Ok(default) };
    let micros = duration::parse(text).filter(|micros| (0..=LONGEST).contains(micros));
    let micros = micros.and_then(|micros| u64::try_from(micros).ok());
    let wrong = || (key, format!("`{text}` is no time such as \"30s\", a day at most"));
    micros.map(Duration::from_micros).ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
