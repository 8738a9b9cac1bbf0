//! What an owner signs for a machine that is to be in the vault, and where that finds the server:
//! however its line came here.

use std::net::IpAddr;

use shared::grant::Grants;
use shared::log::{NewMachine, Number, Op};
use shared::token::MachineLine;

/// Returns what adds the machine under the next number.
pub fn enrolment(line: &MachineLine, number: Number, read: &Grants, write: &Grants) -> Op {
    let MachineLine { name, recipient, sign, proof } = line.clone();
    let (read, write) = (read.clone(), write.clone());
    Op::MachineAdd(NewMachine { name, number, recipient, sign, proof, read, write })
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
    use super::*;

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
