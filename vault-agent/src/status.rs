//! `vault-agent status`: how this machine stands, as its own agent tells.

use anyhow::Result;
use host::hint::Exit;
use host::term::Term;
use host::{clock, table};
use machine::local::{STATUS, Status};
use machine::paths::Paths;

use crate::ask::ask;

/// Prints the machine, its connection, its alarms and its targets.
pub fn run(paths: &Paths, term: &Term) -> Result<Exit> {
    let status: Status = ask(paths, STATUS)?;
    let now = clock::now();
    term.line(format!("machine  {}", status.machine))?;
    term.line(format!("vault    {}", status.vault))?;
    let server = status.server.as_deref().unwrap_or("none");
    let link = if status.online { "connected" } else { "not connected" };
    term.line(format!("server   {server} ({link})"))?;
    term.line(format!("entry    {}", status.seq))?;
    for alarm in &status.alarms {
        let age = clock::age(now.seconds_since(alarm.since));
        term.line(format!("alarm    {}: {} (for {age})", alarm.code, alarm.text))?;
    }
    let own: Vec<_> = status.targets.iter().filter(|row| row.machine == status.machine).collect();
    if !own.is_empty() {
        let version = |ver: u64| if ver == 0 { "-".to_owned() } else { format!("v{ver}") };
        let cells = own.iter().map(|row| {
            let (wanted, applied) = (version(row.wanted), version(row.applied));
            let (hook, state) = (row.hook.to_string(), row.state.to_string());
            let (target, secret) = (row.target.clone(), row.secret.to_string());
            vec![target, secret, wanted, applied, hook, state, row.detail.clone()]
        });
        let header = ["TARGET", "SECRET", "WANTED", "APPLIED", "HOOK", "STATE", "DETAIL"];
        term.line("")?;
        term.line(table::plain(&header, &cells.collect::<Vec<_>>()))?;
    }
    let lags = own.iter().any(|row| row.lags());
    Ok(if lags || !status.alarms.is_empty() { Exit::REMOTE } else { Exit::OK })
}
