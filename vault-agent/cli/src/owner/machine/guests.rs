//! Hosts that are to be machines, until the vault has them: looked at, with programs and keys, and
//! signed for by one act. What they do then does not live here.

use anyhow::{Result, bail};
use shared::name::Name;
use shared::token::MachineLine;

use super::enrolment::{Terms, Way, ops, refuse_own, ways};
use super::place::Place;
use super::waiting::is_awake;
use crate::context::Global;
use crate::owner::signing::act::{Owner, Signed};
use crate::owner::ssh::{Host, Probe, Reached, SSH, Wish, look};
use host::clock;
use host::hint::{self, hinted};
use machine::local::{MACHINES, MachineRow, Machines, STATUS, Status};

/// Seconds that a clock may be off before it is named.
const CLOCK: u64 = 60;

/// A host that may become a guest.
pub struct Candidate<'a> {
    /// The machine that it is to be.
    name: &'a Name,
    at: Reached,
    /// The name that it has joined by.
    called: Option<Name>,
    has_keys: bool,
}

/// One host on its way.
pub struct Guest {
    /// The host.
    pub host: Host,
    line: MachineLine,
    /// How it came in.
    pub way: Way,
    /// The name that it had joined by before.
    pub called: Option<Name>,
    /// Whether its keys were made just now.
    is_fresh: bool,
}

impl Guest {
    /// Returns the name that the machine bears in the vault.
    pub const fn name(&self) -> &Name {
        match &self.way {
            Way::In(name, _) => name,
            Way::Added | Way::Rekeyed => &self.line.name,
        }
    }
}

/// Refuses what is wrong whatever the hosts are.
///
/// # Errors
/// If a name is this host's, or somebody has to agree and nobody can be asked.
pub fn foresee(hosts: &[(Name, String)], owner: &Owner<'_>, global: &Global) -> Result<()> {
    let all: Machines = global.client()?.get(MACHINES, &[])?;
    for (name, _) in hosts {
        refuse_own(&all, name)?;
    }
    let is_in = |name: &Name| all.machines.iter().any(|row| row.active && row.name == *name);
    if hosts.iter().all(|(name, _)| is_in(name)) {
        return Ok(());
    }
    // A machine that is new has to be signed for.
    owner.demand_person()
}

/// Looks at a host; nothing is changed there.
///
/// # Errors
/// If it is not reached, is of another vault, or cannot be what is asked for.
pub fn reach<'a>(
    name: &'a Name,
    host: &str,
    wish: Wish<'_>,
    target: Option<&Place>,
    owner: &Owner<'_>,
    global: &Global,
) -> Result<Candidate<'a>> {
    let (connection, probe) = look(SSH, host, wish)?;
    remark(host, &probe, global)?;
    let at = Reached::new(connection, probe, wish, global)?;
    let standing = at.standing()?;
    let called = match standing.joined {
        Some(it) if it.vault != owner.pins.vault => bail!(hinted(
            format!("`{host}` is `{}` of another vault, {}", it.name, it.vault.short()),
            format!(
                "if it is to leave that one, run `{}vault-agent uninstall{}` there first; nothing \
                 was signed",
                at.sudo(),
                if wish.user { " --user" } else { "" },
            )
        )),
        joined => joined.map(|it| it.name),
    };
    at.demand_programs()?;
    if let Some(place) = target {
        at.demand_folder(&place.below(&at.probe.home))?;
    }
    Ok(Candidate { name, at, called, has_keys: standing.keys })
}

/// Says what is odd about a host.
///
/// # Errors
/// If the server answers under none of its addresses from there.
pub fn remark(host: &str, probe: &Probe, global: &Global) -> Result<()> {
    let off = probe.clock_off(clock::now().as_secs());
    if off.unsigned_abs() > CLOCK {
        let age = clock::age(off.unsigned_abs());
        let side = if off > 0 { "ahead" } else { "behind" };
        global.term.say_hinted(
            format!("warning: the clock of `{host}` is {age} {side}"),
            "set it there, as with `timedatectl set-ntp true`: times in the audit log are wrong else",
        );
    }
    if let Some(container) = &probe.container {
        let kind = match &**container {
            // What systemd calls one that it does not know.
            "container-other" => String::new(),
            known => format!(" ({known})"),
        };
        global.term.say(format!("{host}: a container{kind}"));
    }
    if probe.is_reached() {
        return Ok(());
    }
    let tried: Vec<_> = probe.answers.iter().map(|(address, _)| format!("`{address}`")).collect();
    let here: Status = global.client()?.get(STATUS, &[])?;
    let (either, way) = if here.online {
        (
            "",
            "is the VPN up there, and does a firewall let it through? `--server HOST:PORT` names \
              another way; nothing was signed",
        )
    } else {
        (
            ", nor from here",
            "does the server run? `systemctl status vault-server` on its host says \
                             so, with `--user` for one of a user alone; nothing was signed",
        )
    };
    Err(hinted(
        format!("the server does not answer from `{host}` at {}{either}", tried.join(", ")),
        way,
    ))
}

/// Has the hosts make their keys, and signs what brings all of them in, by one act; returns the
/// machines of before, and `None` if the person said no. Where nothing was signed, keys that were
/// made for it go again.
///
/// # Errors
/// What is in the way of one of them.
pub fn admit(
    candidates: Vec<Candidate<'_>>,
    guests: &mut Vec<Guest>,
    terms: &Terms,
    owner: &Owner<'_>,
    global: &Global,
) -> Result<Option<Machines>> {
    let mut is_asked = false;
    let admitted = || {
        for Candidate { name, at, called, has_keys } in candidates {
            let host = Host::equip(at, global)?;
            let line = host.init(called.as_ref().unwrap_or(name), owner.pins.vault)?;
            let is_fresh = !has_keys;
            guests.push(Guest { host, line, way: Way::Added, called, is_fresh });
            refuse_known(name, guests.last().expect("it was pushed"), global)?;
        }
        sign(guests, terms, owner, &mut is_asked, global)
    };
    let result = admitted();
    // What became of an act that was agreed to need not be known here.
    if matches!(result, Ok(None)) || (result.is_err() && !is_asked) {
        for guest in guests.iter().filter(|guest| guest.is_fresh) {
            let (host, term) = (guest.host.host(), &global.term);
            match guest.host.forget() {
                Ok(()) => {
                    term.say(format!("{host}: the keys that it made for this are gone again"));
                }
                Err(why) => term.say_hinted(
                    hint::shown(&why),
                    format!(
                        "`{}vault-agent uninstall` there takes the keys away that it made",
                        guest.host.at.sudo()
                    ),
                ),
            }
        }
    }
    result
}

/// Refuses a host that the vault knows by another name, or whose keys are out.
fn refuse_known(name: &Name, guest: &Guest, global: &Global) -> Result<()> {
    let Guest { host, line, called, .. } = guest;
    let all: Machines = global.client()?.get(MACHINES, &[])?;
    let stranger = Stranger { host: host.host(), name, called: called.as_ref() };
    stranger.refusal(line, &all, sudo(global)).map_or(Ok(()), Err)
}

/// A host that may be another machine than it is to be.
struct Stranger<'a> {
    host: &'a str,
    /// The machine that it is to be.
    name: &'a Name,
    /// The name that it has joined by.
    called: Option<&'a Name>,
}

impl Stranger<'_> {
    /// Says why the host cannot be that machine by the keys of its line, if it cannot.
    fn refusal(&self, line: &MachineLine, all: &Machines, sudo: &str) -> Option<anyhow::Error> {
        let Self { host, name, called } = *self;
        let is_it = |row: &&MachineRow| row.sign == line.sign;
        let known = all.machines.iter().filter(|row| row.active).find(is_it);
        if let Some(row) = known.filter(|row| row.name != *name) {
            return Some(hinted(
                format!("`{host}` is the machine `{}` already", row.name),
                format!("add it by that name: `{sudo}vault machine add {} --ssh …`", row.name),
            ));
        }
        // No key comes back.
        let former = all.machines.iter().filter(|row| !row.active).find(is_it);
        let former = former.filter(|_| known.is_none()).map(|row| &row.name);
        let was = former.or(called.filter(|it| known.is_none() && *it != name))?;
        if all.machines.iter().any(|row| row.active && row.name == *was) {
            return Some(hinted(
                format!("the keys on `{host}` are out: the vault has others of `{was}`"),
                format!(
                    "it may be a copy of `{was}`, or an old state of it; if it is to be a machine, \
                     run `{sudo}vault-agent uninstall` there, and this again; nothing was signed"
                ),
            ));
        }
        Some(hinted(
            format!("`{host}` was the machine `{was}`, which was removed"),
            format!(
                "take that away there first: `{sudo}vault machine remove {was} --ssh … \
                 --uninstall`; its files stay"
            ),
        ))
    }
}

/// Signs for all of them; notes in `is_asked` that nothing is in the way of the question.
fn sign(
    guests: &mut [Guest],
    terms: &Terms,
    owner: &Owner<'_>,
    is_asked: &mut bool,
    global: &Global,
) -> Result<Option<Machines>> {
    let (mut before, mut found) = (None, Vec::new());
    let lines: Vec<&MachineLine> = guests.iter().map(|guest| &guest.line).collect();
    let signed = owner.sign(|all| {
        before = Some(all.clone());
        found = ways(all, &lines, terms, &|name| is_awake(name, global))?;
        let ops = ops(all, &lines, &found, terms);
        if !ops.is_empty() {
            owner.demand_person()?;
        }
        *is_asked = true;
        Ok(ops)
    })?;
    if signed == Signed::Declined {
        return Ok(None);
    }
    for (guest, way) in guests.iter_mut().zip(found) {
        guest.way = way;
        let (name, term) = (guest.name(), &global.term);
        match (&guest.way, &signed) {
            (Way::Added, Signed::Done(done)) => {
                term.say(format!("{name}: added to the vault: entry {}", done.seq));
            }
            (Way::Rekeyed, Signed::Done(done)) => {
                term.say(format!("{name}: has its new keys: entry {}", done.seq));
            }
            (_, _) => term.say(format!("{name}: in the vault already")),
        }
        if let Way::In(name, true) = &guest.way {
            term.say(format!(
                "{name}: may read and write other things than this: `{}vault access set {name}` \
                 changes that",
                sudo(global)
            ));
        }
    }
    Ok(before)
}

/// Returns what the person has typed before this command, and types before the next one.
fn sudo(global: &Global) -> &'static str {
    if global.env("SUDO_USER").is_some() { "sudo " } else { "" }
}

#[cfg(test)]
mod tests {
    use shared::grant::Grants;
    use shared::keys::{Identity, SignKey};

    use super::*;

    #[test]
    fn a_host_whose_keys_are_out_is_told_what_takes_them_away() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let row = |called, number, active, seed| MachineRow {
            name: name(called),
            number,
            active,
            sleeps: false,
            sign: SignKey::from_seed(&[seed; 32]).verify_key(),
            read: Grants::default(),
            write: Grants::default(),
            seen_at: None,
            agent: None,
        };
        let (next, own, server, checkpoint) = (9, None, Vec::new(), None);
        let machines = vec![
            row("vps", 1, false, 1),
            row("nas", 2, false, 2),
            row("nas", 3, true, 3),
            row("web", 4, true, 4),
        ];
        let all = Machines { machines, next, own, server, checkpoint };
        let check = |wanted: &str, called: Option<&str>, seed: u8, text: &str, way: &str| {
            let key = SignKey::from_seed(&[seed; 32]);
            let line = MachineLine::new(name(wanted), Identity::generate().recipient(), &key);
            let (wanted, called) = (name(wanted), called.map(name));
            let stranger = Stranger { host: "h", name: &wanted, called: called.as_ref() };
            match stranger.refusal(&line.unwrap(), &all, "") {
                None => assert_eq!(text, "", "{wanted} {seed}"),
                Some(why) => {
                    assert_eq!(why.to_string(), text);
                    let hint = hint::hint(&why).unwrap();
                    assert!(hint.contains(way), "{hint}");
                }
            }
        };
        let removed = "`h` was the machine `vps`, which was removed";
        let way = "`vault machine remove vps --ssh … --uninstall`";
        for wanted in ["vps", "new"] {
            check(wanted, Some("vps"), 1, removed, way);
            // Its pins are lost.
            check(wanted, None, 1, removed, way);
        }
        // Of one that the vault has forgotten.
        check("new", Some("vps"), 8, removed, way);
        let old = "the keys on `h` are out: the vault has others of `nas`";
        check("nas", Some("nas"), 2, old, "run `vault-agent uninstall` there");
        check("new", Some("web"), 4, "`h` is the machine `web` already", "add it by that name");
        check("web", Some("web"), 4, "", "");
        check("new", None, 7, "", "");
        check("nas", Some("nas"), 7, "", "");
    }
}
