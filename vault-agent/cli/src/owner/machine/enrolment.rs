//! What an owner signs for machines that are to be in the vault, and what those pin: however their
//! lines came here.

use std::net::IpAddr;

use anyhow::{Result, bail};
use shared::grant::Grants;
use shared::log::{NewMachine, Number, Op, Rekey, was};
use shared::name::Name;
use shared::token::MachineLine;

use crate::context::Global;
use crate::owner::owning::server_addresses;
use crate::owner::signing::act::Owner;
use host::hint::Failure;
use machine::local::{MachineRow, Machines};

/// What machines are let in with.
#[derive(Debug)]
pub struct Terms {
    /// What they read.
    pub read: Grants,
    /// What they write.
    pub write: Grants,
    /// Whether their silence is normal.
    pub sleeps: bool,
    /// Whether a machine of the name may be given the keys of the line unasked.
    pub rekey: Rekeying,
}

/// What becomes of a name that is in the vault with other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rekeying {
    /// The machine gets the new keys: its host has lost its own.
    Wanted,
    /// It gets them if a person, who is shown it, says so.
    Asked,
    /// It is refused: nobody looks.
    Refused,
}

/// One machine on its way into the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is in already, under this name; with other access than asked for, if that is told.
    In(Name, bool),
    /// It is added.
    Added,
    /// The machine of its name gets its keys.
    Rekeyed,
}

/// Returns how each line comes in; `is_awake` tells whether a machine follows the vault now.
///
/// # Errors
/// If a name is another host's, as far as can be told.
pub fn ways(
    all: &Machines,
    lines: &[&MachineLine],
    terms: &Terms,
    is_awake: &dyn Fn(&Name) -> Result<bool>,
) -> Result<Vec<Way>> {
    let active = || all.machines.iter().filter(|row| row.active);
    let way = |line: &&MachineLine| {
        if let Some(known) = active().find(|row| row.sign == line.sign) {
            let same = known.read == terms.read && known.write == terms.write;
            return Ok(Way::In(known.name.clone(), !same));
        }
        let Some(namesake) = active().find(|row| row.name == line.name) else {
            return Ok(Way::Added);
        };
        let name = &namesake.name;
        refuse_own(all, name)?;
        match terms.rekey {
            Rekeying::Wanted => {}
            Rekeying::Asked if !is_awake(name)? => {}
            Rekeying::Asked => bail!(taken(name, "it follows the vault right now", ANOTHER)),
            Rekeying::Refused => bail!(taken(name, "nobody is asked with `--yes`", ANOTHER)),
        }
        Ok(Way::Rekeyed)
    };
    lines.iter().map(way).collect()
}

/// Refuses the name of this very host.
///
/// # Errors
/// If it is that.
pub fn refuse_own(all: &Machines, name: &Name) -> Result<()> {
    let is_own = |row: &&MachineRow| row.active && all.own == Some(row.number);
    match all.machines.iter().find(is_own).filter(|row| row.name == *name) {
        Some(_) => {
            bail!(taken(name, "this very host has that name", "choose another name for the other"))
        }
        None => Ok(()),
    }
}

const ANOTHER: &str = "if two hosts have that name, add this one under another; if it is the same \
                       host, which has lost its keys, add `--rekey`";

fn taken(name: &Name, why: &str, way: &str) -> Failure {
    let text = format!("E_EXISTS: machine `{name}` is in the vault with other keys, and {why}");
    Failure::remote(text).hint(way)
}

/// Returns what brings the lines in, by their ways.
pub fn ops(all: &Machines, lines: &[&MachineLine], ways: &[Way], terms: &Terms) -> Vec<Op> {
    let (mut ops, mut next) = (Vec::new(), all.next);
    for (line, way) in lines.iter().zip(ways) {
        let row = |name: &Name| all.machines.iter().find(|row| row.active && row.name == *name);
        let (number, slept) = match way {
            Way::In(name, _) => row(name).map_or((0, true), |row| (row.number, row.sleeps)),
            Way::Added => {
                ops.push(enrolment(line, next, &terms.read, &terms.write));
                next += 1;
                (next - 1, false)
            }
            Way::Rekeyed => {
                let slept = row(&line.name).is_some_and(|row| row.sleeps);
                ops.extend(row(&line.name).map(|row| rekeying(line, row, next)));
                next += 1;
                (next - 1, slept)
            }
        };
        if terms.sleeps && !slept {
            ops.push(Op::MachineSet { number, sleeps: true, was: was::machine(number, false) });
        }
    }
    ops
}

/// Returns what adds the machine under the next number.
pub fn enrolment(line: &MachineLine, number: Number, read: &Grants, write: &Grants) -> Op {
    let MachineLine { name, recipient, sign, proof } = line.clone();
    let (read, write) = (read.clone(), write.clone());
    Op::MachineAdd(NewMachine { name, number, recipient, sign, proof, read, write })
}

/// Returns what gives a machine the keys of a line, and with them the next number.
pub fn rekeying(line: &MachineLine, row: &MachineRow, new_number: Number) -> Op {
    let MachineLine { recipient, sign, proof, .. } = line.clone();
    Op::MachineRekey(Rekey { number: row.number, new_number, recipient, sign, proof })
}

/// Returns where a new machine finds the server: as said, else as the log has it or this machine,
/// without what only this machine can reach.
pub fn addresses(said: &[String], owner: &Owner<'_>, global: &Global) -> Result<Vec<String>> {
    if !said.is_empty() {
        return Ok(said.to_vec());
    }
    Ok(reachable(server_addresses(global, &owner.pins)?))
}

/// Leaves out loopback addresses, unless there are no others.
pub fn reachable(known: Vec<String>) -> Vec<String> {
    let local = |address: &String| {
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let (here, elsewhere): (Vec<_>, Vec<_>) = known.into_iter().partition(local);
    if elsewhere.is_empty() { here } else { elsewhere }
}

#[cfg(test)]
mod tests {
    use shared::keys::{Identity, SignKey};

    use super::*;

    fn line(name: &str, seed: u8) -> MachineLine {
        let key = SignKey::from_seed(&[seed; 32]);
        MachineLine::new(name.parse().unwrap(), Identity::generate().recipient(), &key).unwrap()
    }

    /// A vault whose machine 1, `rtx1080`, is this host, and whose machine 2 is `vps`.
    fn machines() -> Machines {
        let row = |name: &str, number: Number| MachineRow {
            name: name.parse().unwrap(),
            number,
            active: true,
            sleeps: false,
            sign: SignKey::from_seed(&[u8::try_from(number).unwrap(); 32]).verify_key(),
            read: Grants::parse(&["*"]).unwrap(),
            write: Grants::default(),
            seen_at: None,
            agent: None,
        };
        let machines = vec![row("rtx1080", 1), row("vps", 2)];
        Machines { machines, next: 3, own: Some(1), server: Vec::new(), checkpoint: None }
    }

    fn terms(rekey: Rekeying) -> Terms {
        let read = Grants::parse(&["*"]).unwrap();
        Terms { read, write: Grants::default(), sleeps: true, rekey }
    }

    /// Names what would be signed for the lines.
    fn signed(lines: &[MachineLine], rekey: Rekeying, awake: &[Name]) -> Result<Vec<String>> {
        let (all, lines) = (machines(), lines.iter().collect::<Vec<_>>());
        let terms = terms(rekey);
        let ways = ways(&all, &lines, &terms, &|name| Ok(awake.contains(name)))?;
        let name = |op: &Op| match op {
            Op::MachineAdd(new) => format!("add {} {}", new.name, new.number),
            Op::MachineRekey(new) => format!("rekey {} {}", new.number, new.new_number),
            Op::MachineSet { number, .. } => format!("sleeps {number}"),
            other => other.name().to_owned(),
        };
        Ok(ops(&all, &lines, &ways, &terms).iter().map(name).collect())
    }

    #[test]
    fn several_machines_come_in_by_one_act() {
        let lines = [line("nas", 7), line("vps", 8), line("pi", 9)];
        let found = signed(&lines, Rekeying::Asked, &[]).unwrap();
        let expected = ["add nas 3", "sleeps 3", "rekey 2 4", "sleeps 4", "add pi 5", "sleeps 5"];
        assert_eq!(found, expected);
        assert_eq!(signed(&[line("vps", 2)], Rekeying::Refused, &[]).unwrap(), ["sleeps 2"]);
    }

    #[test]
    fn a_second_host_of_a_name_does_not_take_it_over() {
        let other = [line("vps", 8)];
        let awake = ["vps".parse().unwrap()];
        for (rekey, awake, why) in [
            (Rekeying::Asked, &awake[..], "follows the vault right now"),
            (Rekeying::Refused, &[][..], "nobody is asked"),
        ] {
            let fault = signed(&other, rekey, awake).unwrap_err();
            assert!(fault.to_string().contains(why), "{fault}");
            assert!(host::hint::hint(&fault).unwrap().contains("--rekey"));
        }
        assert_eq!(signed(&other, Rekeying::Wanted, &awake).unwrap()[0], "rekey 2 3");
        let fault = signed(&[line("rtx1080", 8)], Rekeying::Wanted, &[]).unwrap_err();
        assert!(fault.to_string().contains("this very host"), "{fault}");
    }

    #[test]
    fn loopback_is_handed_on_only_if_there_is_nothing_else() {
        let list = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        for (known, expected) in [
            (list(&["127.0.0.1:1", "10.8.0.3:8443"]), list(&["10.8.0.3:8443"])),
            (list(&["[::1]:1", "nas.local:8443"]), list(&["nas.local:8443"])),
            (list(&["127.0.0.1:1", "localhost:2"]), list(&["127.0.0.1:1", "localhost:2"])),
            (list(&[]), list(&[])),
        ] {
            assert_eq!(reachable(known), expected);
        }
    }
}
