//! `vault machine remove`: takes a machine out, and says what has to be changed at its issuers; of
//! one that is out already, the latter again.

use anyhow::{Result, bail};
use shared::limits::REASON;
use shared::log::{Number, Op};
use shared::name::Name;
use shared::text::Text;

use crate::context::Global;
use crate::owner::owning::{Signing, active};
use crate::owner::signing::act::{Owner, Signed};
use crate::owner::ssh::{Connection, Leaving, Machine, SSH};
use crate::print::{Format, table};
use host::hint::{Exit, Failure, hinted, parsed};
use host::shown::Shown;
use machine::identity::Pins;
use machine::local::{EXPOSURE, Exposed, Exposure, MACHINES, Machines};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    machine: String,

    /// Why, for the log: every machine of the vault can read it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,

    /// Log in there, and take the agent away too; needs --uninstall
    #[arg(long, value_name = "[USER@]HOST", requires = "uninstall")]
    ssh: Option<String>,

    /// Take unit, keys, state and programs of the agent away from its host, over ssh
    #[arg(long, requires = "ssh")]
    uninstall: bool,

    /// Remove the files of its targets there too, as far as they hold what the agent wrote
    #[arg(long, requires = "uninstall")]
    with_targets: bool,

    /// The agent there is that of the user of the login alone
    #[arg(long, requires = "ssh")]
    user: bool,

    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let name: Name = parsed(args.machine.parse())?;
    let reason: Text<_> = parsed(args.reason.parse())?;
    let all: Machines = global.client()?.get(MACHINES, &[])?;
    let is_removed =
        active(&all, &name).is_err() && all.machines.iter().any(|row| row.name == name);
    if !is_removed {
        active(&all, &name)?;
    }
    // What is wrong with the host is told before anything is signed.
    let leaving = match &args.ssh {
        Some(host) => leaving(&name, host, args, &all, global)?,
        None => None,
    };
    let number = if is_removed {
        global.term.say(format!("machine `{name}` is removed already"));
        None
    } else {
        let Some(number) = remove(&name, &reason, args, global)? else { return Ok(Exit::LOCAL) };
        Some(number.to_string())
    };
    let exit = exposed(number.as_deref().unwrap_or(name.as_str()), global)?;
    if let (Some(leaving), Some(host)) = (leaving, &args.ssh) {
        for line in leaving.leave(args.with_targets, global)?.lines() {
            global.term.say(format!("{name}: {line}"));
        }
        global.term.say(format!("the agent is gone from `{host}`"));
    }
    Ok(exit)
}

/// Removes it from the vault; returns its number, or nothing if the person said no.
fn remove(
    name: &Name,
    reason: &Text<REASON>,
    args: &Args,
    global: &Global,
) -> Result<Option<Number>> {
    let owner = Owner::at(global, &args.signing)?;
    let mut number = 0;
    let signed = owner.sign(|all| {
        number = active(all, name)?.number;
        if all.own == Some(number) {
            bail!(itself(name));
        }
        Ok(vec![Op::MachineRemove { number, reason: reason.clone() }])
    })?;
    let Signed::Done(done) = signed else { return Ok(None) };
    global.term.say(format!("machine `{name}` is removed: entry {}", done.seq));
    Ok(Some(number))
}

/// Finds its agent on the host, by the name that it has there or the keys it has or had.
fn leaving(
    name: &Name,
    host: &str,
    args: &Args,
    all: &Machines,
    global: &Global,
) -> Result<Option<Leaving>> {
    let Some(pins) = Pins::load(&global.paths()?)? else {
        bail!(hinted(
            "this host belongs to no vault",
            "run `vault-agent uninstall` on the other host"
        ));
    };
    let rows = all.machines.iter().filter(|row| row.name == *name);
    if rows.clone().any(|row| row.active && all.own == Some(row.number)) {
        bail!(itself(name));
    }
    let keys = rows.map(|row| row.sign.clone()).collect();
    let machine = Machine { vault: pins.vault, name, keys };
    let connection = Connection::open(SSH, host)?;
    let found = Leaving::find(connection, args.user, &machine, global)?;
    if found.is_none() {
        global.term.say(format!("there is no agent on `{host}`"));
    }
    Ok(found)
}

/// Says that a machine does not remove itself.
fn itself(name: &Name) -> Failure {
    Failure::local(format!("`{name}` is this machine"))
        .hint("remove it from another machine that has an admin key")
}

/// Prints what was ever encrypted to a machine, by its number, or by the name that it had last.
fn exposed(machine: &str, global: &Global) -> Result<Exit> {
    let format = global.format()?;
    let query = [("machine", machine.to_owned())];
    let Exposure { secrets } = global.client()?.get(EXPOSURE, &query)?;
    if secrets.is_empty() {
        global.term.say("nothing was ever encrypted to it");
        if format == Format::Table {
            return Ok(Exit::OK);
        }
    } else {
        global.term.say(
            "it may keep what was encrypted to it: change every key of these at its issuer, and \
             write the new values here; the same command shows the list again, where `replaced` \
             says only that there is a newer version: it may have unchanged keys",
        );
    }
    global.show(format, || shown(&secrets), &secrets)
}

fn shown(secrets: &[Exposed]) -> Shown {
    let row = |secret: &Exposed| {
        let newest = if secret.current { "in use" } else { "replaced" };
        vec![secret.path.to_string(), ranges(&secret.versions), newest.to_owned()]
    };
    table::plain(&["SECRET", "VERSIONS", "VALUE"], &secrets.iter().map(row).collect::<Vec<_>>())
}

/// Writes `v1-v3,v5`.
fn ranges(versions: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &ver in versions {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == ver => *last = ver,
            Some(_) | None => runs.push((ver, ver)),
        }
    }
    let shown = runs.iter().map(|(first, last)| {
        if first == last { format!("v{first}") } else { format!("v{first}-v{last}") }
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_shown_in_runs() {
        for (versions, expected) in
            [(vec![1], "v1"), (vec![1, 2, 3, 5, 7, 8], "v1-v3,v5,v7-v8"), (vec![], "")]
        {
            assert_eq!(ranges(&versions), expected);
        }
    }

    #[test]
    fn what_is_still_in_use_is_marked() {
        let secret = |path: &str, versions: &[u64], current| Exposed {
            path: path.parse().unwrap(),
            versions: versions.to_vec(),
            current,
        };
        let secrets = [secret("secret/jjeco/keys", &[1, 2], true), secret("secret/m", &[4], false)];
        insta::assert_snapshot!(shown(&secrets), @r"
        SECRET             VERSIONS  VALUE
        secret/jjeco/keys  v1-v2     in use
        secret/m           v4        replaced
        ");
    }
}
