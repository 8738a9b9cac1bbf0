//! What somebody has signed whose key may have been in other hands, and what takes it back.

use anyhow::{Context as _, Result};
use shared::keys::VerifyKey;
use shared::time::Time;

use crate::context::Global;
use machine::local::{ACTS, Act, Acts};

/// How far back is looked, in days.
const DAYS: u64 = 30;
const DAY: u64 = 24 * 60 * 60 * 1_000_000;

/// Prints what `key`, which belonged to `who`, has signed in the last days: the last step of a
/// command, all else being done.
pub(super) fn show(global: &Global, who: &str, key: &VerifyKey) -> Result<()> {
    list(global, who, key).with_context(|| {
        format!("all is done, but what `{who}` signed was not shown (`vault log` shows it)")
    })
}

fn list(global: &Global, who: &str, key: &VerifyKey) -> Result<()> {
    let since = Time::from_micros(global.now().as_micros().saturating_sub(DAYS * DAY));
    let query = [("key", key.to_string()), ("since", since.as_micros().to_string())];
    let Acts { acts, earlier, begins } = global.client()?.get(ACTS, &query)?;
    let before = match earlier {
        0 => String::new(),
        n => format!(" ({n} before that: `vault log`)"),
    };
    if let Some(begins) = begins {
        global.term.say(format!(
            "what `{who}` signed up to entry {begins} is not known: a checkpoint stands for it"
        ));
    }
    if acts.is_empty() {
        global.term.say(format!("`{who}` signed nothing in the last {DAYS} days{before}"));
        return Ok(());
    }
    let entries = if acts.len() == 1 { "entry" } else { "entries" };
    global.term.say(format!(
        "`{who}` signed {} {entries} in the last {DAYS} days{before}; look at each:",
        acts.len()
    ));
    for act in &acts {
        for line in lines(act) {
            global.term.line(line)?;
        }
    }
    Ok(())
}

fn lines(Act { seq, time, backdated, what, back }: &Act) -> Vec<String> {
    let dated = if *backdated { ", dated back" } else { "" };
    let mut lines = vec![format!("entry {seq}, {time}{dated}: {}", what.join("; "))];
    lines.extend(back.iter().map(|command| format!("  to take it back: {command}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_told_with_what_takes_it_back() {
        let act = Act {
            seq: 14,
            time: Time::from_micros(1_795_464_000_000_000),
            backdated: true,
            what: vec!["added evil: reads *, writes *".to_owned()],
            back: vec!["vault machine remove evil".to_owned()],
        };
        insta::assert_snapshot!(lines(&act).join("\n"), @r"
        entry 14, 2026-11-23T20:00:00Z, dated back: added evil: reads *, writes *
          to take it back: vault machine remove evil
        ");
    }
}
