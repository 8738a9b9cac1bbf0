//! `vault-agent forward`: who is told of alarms and audit records, and a message that tries it.

use anyhow::{Result, bail};
use host::clock;
use host::hint::{Exit, Failure};
use host::table;
use host::term::Term;
use machine::local::{FORWARD, FORWARDS, ForwardRow, ForwardTest, Forwards, Tested, TestedRow};
use machine::paths::Paths;

use crate::ask;

/// Who is told of alarms and audit records, unasked
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print who is told, and how that goes
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send a message that says that it is a test, and say what came of it
    Test {
        /// The name of one `[[forward]]`; all without it
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

pub(crate) fn run(command: &Command, paths: &Paths, term: &Term) -> Result<Exit> {
    match command {
        Command::List { json } => list(*json, paths, term),
        Command::Test { name } => test(name.clone(), paths, term),
    }
}

fn list(json: bool, paths: &Paths, term: &Term) -> Result<Exit> {
    let Forwards { forwards } = ask::ask(paths, FORWARDS)?;
    let is_well = forwards.iter().all(|row| row.failing.is_none());
    let exit = if is_well { Exit::OK } else { Exit::REMOTE };
    if json {
        term.document(serde_json::to_string_pretty(&forwards)?)?;
        return Ok(exit);
    }
    if forwards.is_empty() {
        term.say("nobody is told of alarms: `agent.toml` has no `[[forward]]`");
        return Ok(Exit::OK);
    }
    let header = ["NAME", "TO", "SENT", "WAITING", "DROPPED", "STATE"];
    let rows: Vec<Vec<String>> = forwards.iter().map(cells).collect();
    term.print(table::plain(&header, &rows))?;
    Ok(exit)
}

fn cells(row: &ForwardRow) -> Vec<String> {
    let ForwardRow { name, to, sent, queued, dropped, failing, why, .. } = row;
    let state = match failing {
        Some(since) => {
            let age = clock::age(clock::now().seconds_since(*since));
            format!("fails for {age}: {}", why.as_deref().unwrap_or_default())
        }
        // Nobody knows yet whether it would be taken.
        None if *sent == 0 => "untried".to_owned(),
        None => "ok".to_owned(),
    };
    let numbers = [sent, queued, dropped].map(ToString::to_string);
    let [sent, queued, dropped] = numbers;
    vec![name.to_string(), to.clone(), sent, queued, dropped, state]
}

fn test(name: Option<String>, paths: &Paths, term: &Term) -> Result<Exit> {
    let Tested { forwards } = ask::post_and_wait(paths, FORWARD, &ForwardTest { name })?;
    if forwards.is_empty() {
        bail!(
            Failure::local("nobody is told of alarms: `agent.toml` has no `[[forward]]`")
                .hint("the guide, *Alarms and metrics*, has some to copy")
        );
    }
    let mut exit = Exit::OK;
    for TestedRow { name, to, failure, waiting } in forwards {
        let waiting = match waiting {
            0 => String::new(),
            1 => "; 1 message waits, and is tried now".to_owned(),
            some => format!("; {some} messages wait, and are tried now"),
        };
        match failure {
            None => term.say(format!("{name} ({to}): sent{waiting}")),
            Some(why) => {
                exit = Exit::REMOTE;
                term.say(format!("{name} ({to}): not sent: {why}{waiting}"));
            }
        }
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_was_told_nothing_yet_is_untried() {
        let row = |sent, failing, why: Option<&str>| ForwardRow {
            name: "phone".parse().unwrap(),
            to: "mail".to_owned(),
            sent,
            queued: 0,
            dropped: 0,
            audit: 0,
            failing,
            why: why.map(str::to_owned),
        };
        let state = |row: &ForwardRow| cells(row).pop().unwrap();
        assert_eq!(state(&row(0, None, None)), "untried");
        assert_eq!(state(&row(1, None, None)), "ok");
        let failing = state(&row(1, Some(clock::now()), Some("it answered 500")));
        assert_eq!(failing, "fails for 0 s: it answered 500");
    }
}
