//! `vault machine add --ssh`: everything from this terminal, for several hosts with one question
//! and one passphrase. Each step looks first what is there, so that the same line again goes on
//! where it ended. How hosts get into the vault is [`super::guests`]'; how a step is done on a host
//! is `owner::ssh`'s.

use std::time::Instant;

use anyhow::{Result, bail};
use shared::name::Name;
use shared::path::SecretPath;
use shared::token::{Line as _, PinLine};

use super::enrolment::{Terms, Way};
use super::guests::{Guest, admit, foresee, reach};
use super::place::{Place, secrets};
use super::waiting::{self, Expected, Kept, Waited, What};
use crate::context::Global;
use crate::owner::first_contact;
use crate::owner::signing::act::Owner;
use crate::owner::ssh::{Added, Probe, Start, TargetWish, Wish};
use host::account;
use host::hint::{self, Exit, Failure, hinted, parsed};
use host::shown::Shown;
use machine::local::{STATUS, Status};

/// Hosts, and what is done on them.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Do all of it over ssh: send the programs, make the keys there, add the machine, have it run;
    /// with names, several hosts: --ssh vps=jonas@vps --ssh nas=nas
    #[arg(long, value_name = "[NAME=][USER@]HOST")]
    ssh: Vec<String>,

    /// Have it keep this file right; a path below your home folder means the one there
    #[arg(long, value_name = "FILE", requires = "ssh")]
    target: Option<String>,

    /// Secret in that file; repeatable, later ones win [default: what the file of that name holds
    /// here, or on another host]
    #[arg(long, value_name = "PATH", requires = "target")]
    secret: Vec<SecretPath>,

    /// Run this there when the file has changed, in its folder
    #[arg(long, value_name = "COMMAND", requires = "target")]
    on_change: Option<String>,

    /// Publish first what the file there holds and the secret does not
    #[arg(long, requires = "target", conflicts_with_all = ["block", "replace"])]
    import: bool,

    /// Keep the lines of the file there, and the vault's in a marked block
    #[arg(long, requires = "target", conflicts_with = "replace")]
    block: bool,

    /// Replace the file there; a copy stays beside it
    #[arg(long, requires = "target")]
    replace: bool,

    /// Install for the user of the login alone, without root
    #[arg(long, requires = "ssh")]
    user: bool,

    /// Leave its agent's start to you
    #[arg(long, requires = "ssh")]
    no_start: bool,
}

impl Flags {
    /// Tells whether nothing is to be done over ssh.
    pub const fn is_empty(&self) -> bool {
        self.ssh.is_empty()
    }
}

/// A file to be kept right, and what is in it.
type Target = (Place, Vec<SecretPath>);

pub fn run(
    named: Option<&str>,
    flags: &Flags,
    terms: &Terms,
    addresses: &[String],
    owner: &Owner<'_>,
    global: &Global,
) -> Result<Exit> {
    let hosts = hosts(named, &flags.ssh)?;
    let target = target(flags, terms, global)?;
    foresee(&hosts, owner, global)?;
    let wish = Wish { user: flags.user, addresses };
    // All that can be in the way of any of them is told before anything is sent or signed.
    let candidates = hosts.iter().map(|(name, host)| {
        reach(name, host, wish, target.as_ref().map(|(place, _)| place), owner, global)
    });
    let candidates = candidates.collect::<Result<Vec<_>>>()?;
    let mut guests = Vec::new();
    let Some(all) = admit(candidates, &mut guests, terms, owner, global)? else {
        return Ok(Exit::LOCAL);
    };
    let mut failed = None;
    for guest in &guests {
        let pin = PinLine {
            addresses: first_reached(addresses, &guest.host.at.probe),
            server: all.server.clone(),
            vault: owner.pins.vault,
            name: guest.called.as_ref().unwrap_or(guest.name()).clone(),
            at: None,
            checkpoint: all.checkpoint,
        };
        // The others are not held up by one.
        match finish(guest, &parsed(pin.to_line())?, flags, target.as_ref(), global) {
            Ok(()) => {}
            Err(why) if hosts.len() == 1 => return Err(why),
            Err(why) => {
                let hint = hint::hint(&why).unwrap_or_default();
                global.term.say_hinted(hint::shown(&why), hint);
                failed = Some(guest.name());
            }
        }
    }
    match failed {
        None => Ok(Exit::OK),
        Some(name) => Err(Failure::remote(format!("`{name}` is in the vault, but not right yet"))
            .hint("mend what is named above, and run the same command again")
            .into()),
    }
}

/// Reads which machine lives on which host.
fn hosts(named: Option<&str>, given: &[String]) -> Result<Vec<(Name, String)>> {
    let mut hosts: Vec<(Name, String)> = Vec::new();
    for text in given {
        let (name, host) = match (named, text.split_once('=')) {
            (Some(name), None) if given.len() == 1 => (name, text.as_str()),
            (None, Some((name, host))) if !text.starts_with('-') => (name, host),
            (_, _) => bail!(hinted(
                format!("`--ssh {text}` does not say which machine that is"),
                "one host: `vault machine add NAME --ssh HOST`; several: `--ssh NAME=HOST` for each"
            )),
        };
        let name: Name = parsed(name.parse())?;
        if hosts.iter().any(|(known, _)| *known == name) {
            bail!(hinted(
                format!("two hosts are to be `{name}`"),
                "give each a name of its own: `--ssh NAME=HOST`"
            ));
        }
        hosts.push((name, host.to_owned()));
    }
    Ok(hosts)
}

/// Reads which file is to be kept right, and what is in it.
fn target(flags: &Flags, terms: &Terms, global: &Global) -> Result<Option<Target>> {
    let Some(text) = &flags.target else { return Ok(None) };
    let place = Place::read(text, &homes(global))?;
    let rows = || Ok(global.client()?.get::<Status>(STATUS, &[])?.targets);
    let secrets = secrets(&flags.secret, &place, &terms.read, rows, global)?;
    Ok(Some((place, secrets)))
}

/// Returns what a shell may have made of `~` in what was typed: with `sudo` it was that of another
/// user.
fn homes(global: &Global) -> Vec<String> {
    let typist = global.env("SUDO_USER").and_then(|name| account::user(&name));
    let typist = typist.map(|user| user.home.to_string_lossy().into_owned());
    global.env("HOME").into_iter().chain(typist).collect()
}

/// Puts the addresses first that answer from a host.
fn first_reached(addresses: &[String], probe: &Probe) -> Vec<String> {
    let answers = |address: &&String| {
        probe.answers.iter().any(|(known, answer)| known == *address && *answer == Some(true))
    };
    let (mut first, rest): (Vec<_>, Vec<_>) = addresses.iter().partition(answers);
    first.extend(rest);
    first.into_iter().cloned().collect()
}

/// Has a machine that is in the vault do what it is there for.
fn finish(
    guest: &Guest,
    pin_line: &str,
    flags: &Flags,
    target: Option<&Target>,
    global: &Global,
) -> Result<()> {
    let (Guest { host, way, .. }, name, term) = (guest, guest.name(), &global.term);
    let begun = Instant::now();
    let server = host.join(pin_line)?;
    term.say(Shown::from(format!("{name}: has joined: ")) + server);
    // One that runs has the keys and the program of before.
    let anew = host.is_renewed || !matches!(way, Way::In(..));
    let mut is_started = false;
    let start = |anew: bool| -> Result<()> {
        for note in host.start(if anew { Start::Anew } else { Start::Once })? {
            term.say(Shown::from(format!("{name}: ")) + note);
        }
        Ok(())
    };
    let mut kept = None;
    if let Some((place, secrets)) = target {
        let wish = wish(place, secrets, flags, &host.at.probe.home);
        // What a file would lose, a running agent tells.
        if !flags.no_start && host.has(&wish.file)? {
            start(anew)?;
            is_started = true;
        }
        kept = Some(Kept { shown: place.shown(), names: keep(guest, wish, flags, global)? });
    }
    if flags.no_start {
        term.say(format!("machine `{name}` has joined: start its agent"));
        return Ok(());
    }
    start(anew && !is_started)?;
    let what = kept.as_ref().map_or(What::Nothing, What::File);
    match waiting::wait(&Expected { name, what }, &global.client()?)? {
        Waited::Right(what) => {
            let seconds = begun.elapsed().as_secs_f64();
            Ok(term.line(
                Shown::from(format!("{name} is right: "))
                    + what
                    + format!(", {seconds:.1} s").into(),
            )?)
        }
        Waited::Missing(what, todo) => {
            term.say(format!("what `{name}` says of itself:"));
            term.say(host.diagnosis());
            Err(Failure::remote(what).hint(todo).into())
        }
    }
}

/// Has a file kept right, with the choice of a person where it would lose something; returns the
/// names by which the machine reports it.
fn keep(guest: &Guest, wish: TargetWish, flags: &Flags, global: &Global) -> Result<Vec<String>> {
    let (Guest { host, .. }, name, term) = (guest, guest.name(), &global.term);
    let (mut wish, mut is_decided) = (wish, flags.import || flags.block || flags.replace);
    let say = |notes: Vec<Shown>| {
        for note in notes {
            term.say(Shown::from(format!("{name}: ")) + note);
        }
    };
    loop {
        let (added, names) = host.add_target(&wish)?;
        match added {
            Added::Now(notes) => {
                say(notes);
                term.say(format!("{name}: keeps `{}` right", wish.file));
            }
            Added::Changed(notes) => {
                say(notes);
                term.say(format!("{name}: keeps `{}` right as this line says now", wish.file));
            }
            Added::Before => {}
            Added::Otherwise(secrets) => term.say_hinted(
                format!(
                    "{name}: `{}` holds {} already, and stays so",
                    wish.file,
                    secrets.join(", ")
                ),
                format!(
                    "`{}vault-agent target remove {}` there ends that",
                    host.at.sudo(),
                    wish.file
                ),
            ),
            Added::Foreign(why) => {
                let chosen = match is_decided || !global.can_ask() {
                    true => None,
                    false => first_contact::ask(&why.text, global)?,
                };
                let Some(choice) = chosen else { bail!(why) };
                wish.flags.push(choice.to_owned());
                is_decided = true;
                continue;
            }
        }
        return Ok(names);
    }
}

fn wish(place: &Place, secrets: &[SecretPath], flags: &Flags, home: &str) -> TargetWish {
    let on_change = flags.on_change.iter().flat_map(|it| ["--on-change".to_owned(), it.clone()]);
    let choices =
        [(flags.import, "--import"), (flags.block, "--block"), (flags.replace, "--replace")];
    let chosen = choices.iter().filter(|(chosen, _)| *chosen).map(|(_, flag)| (*flag).to_owned());
    TargetWish {
        file: place.below(home),
        secrets: secrets.iter().map(ToString::to_string).collect(),
        flags: on_change.chain(chosen).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_its_name() {
        let read = |named, given: &[&str]| {
            let given: Vec<_> = given.iter().map(|it| (*it).to_owned()).collect();
            hosts(named, &given).map(|hosts| {
                hosts.iter().map(|(name, host)| format!("{name} {host}")).collect::<Vec<_>>()
            })
        };
        assert_eq!(read(Some("vps"), &["jonas@vps"]).unwrap(), ["vps jonas@vps"]);
        let both = read(None, &["vps=jonas@vps", "nas=nas"]).unwrap();
        assert_eq!(both, ["vps jonas@vps", "nas nas"]);
        for (named, given) in [
            (None, &["vps"][..]),
            (Some("vps"), &["a=b"]),
            (Some("vps"), &["a", "b"]),
            (None, &["a=x", "a=y"]),
            (None, &["4=x"]),
        ] {
            assert!(read(named, given).is_err(), "{given:?}");
        }
    }
}
