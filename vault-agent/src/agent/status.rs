//! `vault-agent status`: how this machine stands, as its own agent tells.

use anyhow::Result;

use crate::api::types::{self, Status};
use crate::cli::{Flags, Global};
use crate::clock;
use crate::exit::Exit;
use crate::output::Term;
use crate::output::table;
use crate::paths::Paths;

/// Prints the machine, its connection, its alarms and its targets.
///
/// # Errors
/// If no agent answers.
pub fn run(paths: &Paths, term: &Term) -> Result<Exit> {
    let address = format!("unix://{}", paths.socket.display());
    let flags = Flags { address: Some(address), ..Flags::default() };
    let client = Global::new(flags, Term::std(), Box::new(|_| None), clock::now).client()?;
    let status: Status = client.get(types::STATUS, &[])?;
    let now = clock::now();
    term.line(format!("machine  {}", status.machine))?;
    term.line(format!("vault    {}", status.vault))?;
    let server = status.server.as_deref().unwrap_or("none");
    let link = if status.online { "connected" } else { "not connected" };
    term.line(format!("server   {server} ({link})"))?;
    term.line(format!("entry    {}", status.seq))?;
    for alarm in &status.alarms {
        let age = crate::cli::duration::age(now.seconds_since(alarm.since));
        term.line(format!("alarm    {}: {} (for {age})", alarm.code, alarm.text))?;
    }
    let own: Vec<_> = status.targets.iter().filter(|row| row.machine == status.machine).collect();
    if !own.is_empty() {
        let cells: Vec<_> = own
            .iter()
            .map(|row| {
                let version = |ver: u64| if ver == 0 { "-".to_owned() } else { format!("v{ver}") };
                let (wanted, applied) = (version(row.wanted), version(row.applied));
                let (hook, state) = (row.hook.to_string(), row.state.to_string());
                let (target, secret) = (row.target.clone(), row.secret.to_string());
                vec![target, secret, wanted, applied, hook, state, row.detail.clone()]
            })
            .collect();
        term.line("")?;
        term.line(table::plain(
            &["TARGET", "SECRET", "WANTED", "APPLIED", "HOOK", "STATE", "DETAIL"],
            &cells,
        ))?;
    }
    let lags = own.iter().any(|row| row.lags());
    Ok(if lags || !status.alarms.is_empty() { Exit::REMOTE } else { Exit::OK })
}
