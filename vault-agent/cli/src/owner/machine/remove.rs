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
use crate::owner::ssh::{Host, SSH, Wish, look};
use crate::print::{Format, table};
use host::hint::{Exit, hinted, parsed};
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
    let number = if is_removed {
        global.term.say(format!("machine `{name}` is removed already"));
        None
    } else {
        let Some(number) = remove(&name, &reason, args, global)? else { return Ok(Exit::LOCAL) };
        Some(number.to_string())
    };
    let exit = exposed(number.as_deref().unwrap_or(name.as_str()), global)?;
    if let Some(host) = &args.ssh {
        uninstall(&name, host, args, global)?;
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
            bail!(hinted(
                format!("`{name}` is this machine"),
                "remove it from another machine that has an admin key"
            ));
        }
        Ok(vec![Op::MachineRemove { number, reason: reason.clone() }])
    })?;
    let Signed::Done(done) = signed else { return Ok(None) };
    global.term.say(format!("machine `{name}` is removed: entry {}", done.seq));
    Ok(Some(number))
}

/// Takes the agent away from its host.
fn uninstall(name: &Name, host: &str, args: &Args, global: &Global) -> Result<()> {
    let Some(pins) = Pins::load(&global.paths()?)? else {
        bail!(hinted(
            "this host belongs to no vault",
            "run `vault-agent uninstall` on the other host"
        ));
    };
    let wish = Wish { user: args.user, addresses: &[] };
    let (connection, probe) = look(SSH, host, wish)?;
    let Some(there) = Host::as_is(connection, probe, wish, global)? else {
        global.term.say(format!("there is no agent on `{host}`"));
        return Ok(());
    };
    for line in there.uninstall(name, pins.vault, args.with_targets)?.lines() {
        global.term.say(format!("{name}: {line}"));
    }
    global.term.say(format!("the agent is gone from `{host}`"));
    Ok(())
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
