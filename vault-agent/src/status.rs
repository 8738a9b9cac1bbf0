//! `vault-agent status`: how this machine stands, as its own agent tells.

use anyhow::Result;
use host::hint::Exit;
use host::term::Term;
use host::{clock, table};
use machine::findings::{Finding, Kind, findings};
use machine::local::{STATUS, Status};
use machine::paths::Paths;

use crate::ask::ask;

/// Prints the machine, its connection, its targets, and what is wrong with any of them; fails
/// unless this machine is known to be right.
pub fn run(paths: &Paths, term: &Term) -> Result<Exit> {
    let status: Status = ask(paths, STATUS)?;
    let now = clock::now();
    term.line(format!("machine  {}", status.machine))?;
    term.line(format!("vault    {}", status.vault))?;
    let server = status.server.as_deref().unwrap_or("none");
    let link = if status.online { "connected" } else { "not connected" };
    term.line(format!("server   {server} ({link})"))?;
    term.line(format!("entry    {}", status.seq))?;
    let own: Vec<_> = status.targets.iter().filter(|row| row.machine == status.machine).collect();
    let found: Vec<Finding> =
        findings(&status).into_iter().filter(|it| is_own(&status, it)).collect();
    for Finding { kind, target, text, since, todo, .. } in &found {
        let label = match kind {
            Kind::Alarm(code) => format!("alarm    {code}: "),
            _ => "wrong    ".to_owned(),
        };
        let target = target.as_ref().map(|target| format!("{target}: ")).unwrap_or_default();
        let age = since.map(|at| format!(" (for {})", clock::age(now.seconds_since(at))));
        term.line(format!("{label}{target}{text}{}", age.unwrap_or_default()))?;
        term.line(format!("hint     {todo}"))?;
    }
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
    Ok(if found.is_empty() { Exit::OK } else { Exit::REMOTE })
}

/// Tells whether it is this machine's matter: what is wrong on others is theirs.
fn is_own(status: &Status, finding: &Finding) -> bool {
    match finding.kind {
        Kind::Server => true,
        Kind::Untold | Kind::Backup | Kind::Left => false,
        Kind::Alarm(_)
        | Kind::Replaced
        | Kind::Old
        | Kind::Silent
        | Kind::Clock
        | Kind::Outdated
        | Kind::Lags
        | Kind::Hook
        | Kind::Target(_) => finding.machine.as_ref() == Some(&status.machine),
    }
}
