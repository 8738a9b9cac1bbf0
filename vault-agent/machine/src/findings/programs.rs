//! Which programs run where: those whose file is another one by now, those too old to be made for
//! this one, and those that are merely older, which is nobody's trouble.

use shared::name::Name;
use shared::version::Version;

use crate::local::{Program, Standing, Status};

use super::finding::{Finding, Kind};

/// Who runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs<'a> {
    /// The agent of a machine, as it has signed.
    Machine(&'a Name),
    /// The server, as it says.
    Server,
    /// Whoever asks.
    Asking,
}

/// That not all run the newest program that anybody runs: neighbouring versions work together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixed<'a> {
    /// The newest version.
    pub newest: Version,
    /// One who runs it.
    pub on: Runs<'a>,
    /// The others, and what they run.
    pub older: Vec<(Runs<'a>, Version)>,
}

/// Returns who runs an older program than the newest, if that differs; `own` is the version of the
/// program that asks.
pub fn mixed(status: &Status, own: Version) -> Option<Mixed<'_>> {
    let version = |it: &Program| Version::of(&it.version);
    let machines = status.machines.iter().filter_map(|it| {
        Some((Runs::Machine(&it.machine), it.program.as_ref().and_then(version)?))
    });
    let server = status.server_program.as_ref().and_then(version);
    let server = server.map(|version| (Runs::Server, version));
    let all: Vec<_> = machines.chain(server).chain([(Runs::Asking, own)]).collect();
    let newest = all.iter().map(|(_, version)| *version).max()?;
    let (on, _) = *all.iter().find(|(_, version)| *version == newest)?;
    let older: Vec<_> = all.into_iter().filter(|(_, version)| *version < newest).collect();
    (!older.is_empty()).then_some(Mixed { newest, on, older })
}

/// Returns what is wrong with the programs themselves. Only what this program is itself compared
/// with counts: nobody makes others look old by saying that there is something newer.
pub(super) fn findings(status: &Status, own: Option<Version>) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(program) = &status.server_program {
        found.extend(judged(status, None, program, own));
    }
    for Standing { machine, program, sleeps, awake, .. } in &status.machines {
        // What sleeps can do nothing about it; it is looked at once it is awake.
        if let Some(program) = program.as_ref().filter(|_| *awake || !sleeps) {
            found.extend(judged(status, Some(machine), program, own));
        }
    }
    found
}

fn judged(
    status: &Status,
    machine: Option<&Name>,
    program: &Program,
    own: Option<Version>,
) -> Option<Finding> {
    let (unit, there) = match machine {
        None => ("vault-server", " on the server's host".to_owned()),
        Some(name) if *name == status.machine => ("vault-agent", String::new()),
        Some(name) => ("vault-agent", format!(" on {name}")),
    };
    let said = if machine.is_none() { "the server says that it runs" } else { "runs" };
    let Program { version, replaced } = program;
    let (kind, text, since, todo) = if replaced.is_some() {
        (
            Kind::Replaced,
            format!("{said} {version}, which is no longer the file on its disk"),
            *replaced,
            format!("`systemctl restart {unit}` (or with `--user`){there}"),
        )
    } else {
        let (theirs, ours) = (Version::of(version)?, own?);
        if theirs >= ours || theirs.is_neighbour(ours) {
            return None;
        }
        (
            Kind::Old,
            format!("{said} {version}: too old for this program, {ours}"),
            None,
            format!("install {unit} {ours}{there}, or bring this host back to a version between"),
        )
    };
    let (machine, target, secret) = (machine.cloned(), None, None);
    Some(Finding { kind, machine, target, secret, text, since, todo })
}
