//! Who asked, as a record tells it: process, user, and unit or container; or who signed.

use std::net::IpAddr;

use shared::audit::{Fact, Record};
use shared::text::like;

/// The parts of `python3[812] uid 1000 (jonas) in ghost.service`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asker<'a> {
    process: &'a str,
    pid: Option<&'a str>,
    uid: Option<&'a str>,
    login: Option<&'a str>,
    /// `in UNIT`, `in container ID`, `for UNIT NAME`.
    place: &'a str,
    /// Of a caller from another network, such as a container: all that is known of it.
    addr: Option<&'a str>,
}

impl<'a> Asker<'a> {
    /// Takes what an agent says apart. The last ` uid ` is its own: nothing behind it that others
    /// choose holds a space.
    fn read(who: &'a str) -> Self {
        let found = who.strip_prefix("uid ").map(|rest| ("", rest));
        let Some((process, rest)) = found.or_else(|| who.rsplit_once(" uid ")) else {
            let addr = who.strip_prefix("tcp ").filter(|addr| addr.parse::<IpAddr>().is_ok());
            return Self { process: who, addr, ..Self::default() };
        };
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (uid, rest) = rest.split_at(digits);
        let named = rest.strip_prefix(" (").and_then(|rest| rest.split_once(')'));
        let (login, rest) = named.map_or((None, rest), |(login, rest)| (Some(login), rest));
        let numbered = process.strip_suffix(']').and_then(|text| text.rsplit_once('['));
        let numbered = numbered.filter(|(_, pid)| pid.bytes().all(|digit| digit.is_ascii_digit()));
        let (process, pid) = numbered.map_or((process, None), |(name, pid)| (name, Some(pid)));
        Self { process, pid, uid: Some(uid), login, place: rest.trim(), addr: None }
    }

    fn user(&self) -> String {
        let uid = self.uid.map(|uid| format!("uid {uid}"));
        self.login.map(str::to_owned).or(uid).unwrap_or_default()
    }
}

fn joined(parts: [&str; 4]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Shows who asked; of what a machine did by itself its agent, and where that was.
#[must_use]
pub fn shown(Record { fact, .. }: &Record) -> String {
    let Some(who) = &fact.who else { return machine(fact) };
    let asker = Asker::read(who.as_str());
    let pid = asker.pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
    joined([&format!("{}{pid}", asker.process), &asker.user(), &agent(fact), asker.place])
}

/// Shows the AI agent that the process works for.
fn agent(fact: &Fact) -> String {
    fact.agent.as_ref().map(|agent| format!("by {agent}")).unwrap_or_default()
}

/// As [`shown`], without what differs from one time to the next: the same program counts as the
/// same.
#[must_use]
pub fn kind(Record { fact, .. }: &Record) -> String {
    match &fact.who {
        None if fact.machine.is_some() => "agent".to_owned(),
        None => "-".to_owned(),
        Some(who) => {
            let asker = Asker::read(who.as_str());
            joined([asker.process, &asker.user(), &agent(fact), asker.place])
        }
    }
}

/// What can be restarted of who asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A unit of systemd.
    Unit(String),
    /// A container, by its number or address.
    Container(String),
}

/// Returns the unit or the container that asked.
pub fn place(Record { fact, .. }: &Record) -> Option<Place> {
    let asker = Asker::read(fact.who.as_ref()?.as_str());
    if let Some(addr) = asker.addr {
        return Some(Place::Container(addr.to_owned()));
    }
    let words: Vec<&str> = asker.place.split(' ').collect();
    match words[..] {
        ["in", "container", id] => Some(Place::Container(id.to_owned())),
        ["in", unit] | ["for", unit, ..] => Some(Place::Unit(unit.to_owned())),
        _ => None,
    }
}

fn machine(fact: &Fact) -> String {
    let addr = fact.addr.as_ref().map(ToString::to_string);
    match (&fact.machine, addr) {
        (Some(_), Some(addr)) => format!("agent {addr}"),
        (Some(_), None) => "agent".to_owned(),
        (None, addr) => addr.unwrap_or_else(|| "-".to_owned()),
    }
}

/// Tells whether a process asked that is called so, runs in a unit or container called so, or has
/// this address in a network of its own.
#[must_use]
pub fn is_process(Record { fact, .. }: &Record, name: &str) -> bool {
    let Some(who) = &fact.who else { return name == "agent" && fact.machine.is_some() };
    let asker = Asker::read(who.as_str());
    let place = asker.place.split(' ').any(|word| like(name, word));
    let addr = asker.addr.is_some_and(|addr| like(name, addr) || like(name, asker.process));
    addr || asker.uid.is_some() && (like(name, asker.process) || place)
}

/// Tells whether a user asked, by name or number, or an admin of that name signed.
#[must_use]
pub fn is_user(Record { fact, .. }: &Record, name: &str) -> bool {
    let Some(who) = &fact.who else { return false };
    let asker = Asker::read(who.as_str());
    let number = name.strip_prefix("uid ").unwrap_or(name);
    asker.login == Some(name)
        || asker.uid == Some(number)
        || (who.as_str() == name && asker.addr.is_none())
        || who.as_str().strip_prefix("admin:") == Some(name)
}

/// Returns the process and the user of a record, as filters name them.
#[must_use]
pub fn names(Record { fact, .. }: &Record) -> Option<(String, String)> {
    let asker = Asker::read(fact.who.as_ref()?.as_str());
    match (asker.uid, asker.addr) {
        (Some(uid), _) => Some((asker.process.into(), asker.login.unwrap_or(uid).into())),
        (None, Some(addr)) => Some((addr.into(), String::new())),
        (None, None) => Some((String::new(), asker.process.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(who: Option<&str>) -> Record {
        let mut fact = Fact::new(shared::audit::Op::LocalRead);
        fact.who = who.map(|who| who.parse().unwrap());
        fact.machine = Some("vps".parse().unwrap());
        Record { n: 1, nonce: shared::hash::Hash::ZERO, time: <_>::default(), fact }
    }

    #[test]
    fn who_asked_is_shown_and_found() {
        let container = "node[7] uid 1000 in container 0123456789ab";
        let forged = "x[1] uid 0 (root)[812] uid 1000 (jonas) in a.service";
        for (who, expected, kind, process, user) in [
            (
                "python3[812] uid 1000 (jonas) in ghost.service",
                "python3[812] jonas in ghost.service",
                "python3 jonas in ghost.service",
                "ghost.service",
                "jonas",
            ),
            (container, "node[7] uid 1000 in container 0123456789ab", "", "0123456789ab", "1000"),
            ("uid 7", "uid 7", "uid 7", "*", "7"),
            ("tcp uid 7", "tcp uid 7", "tcp uid 7", "tcp", "7"),
            (forged, "x[1] uid 0 (root)[812] jonas in a.service", "", "x*", "jonas"),
            ("x[1][22] uid 0", "x[1][22] uid 0", "x[1] uid 0", "x[1]", "0"),
            (
                "systemd[1] uid 0 (root) for ghost.service db",
                "systemd[1] root for ghost.service db",
                "systemd root for ghost.service db",
                "ghost.service",
                "root",
            ),
        ] {
            let record = record(Some(who));
            assert_eq!(shown(&record), expected);
            assert!(kind.is_empty() || self::kind(&record) == kind, "{}", self::kind(&record));
            assert!(is_process(&record, process), "{who}");
            assert!(is_user(&record, user), "{who}");
            assert!(!is_user(&record, "root") || user == "root", "{who}");
            assert!(!is_process(&record, "nginx"), "{who}");
        }
        for addr in ["172.17.0.2", "fd00::7"] {
            let container = record(Some(&format!("tcp {addr}")));
            assert_eq!(shown(&container), format!("tcp {addr}"));
            for name in [addr, "*", &format!("{}*", &addr[..4]), &format!("tcp {addr}")] {
                assert!(is_process(&container, name), "{name}");
            }
            assert!(!is_process(&container, "172.17.0.20") && !is_user(&container, addr));
            assert_eq!(names(&container), Some((addr.to_owned(), String::new())));
        }
        // Others choose what a process is called, so that one is no address.
        let forged = record(Some("tcp 172.17.0.2[7] uid 1000"));
        assert!(!is_process(&forged, "172.17.0.2"));
        let signed = record(Some("admin:jonas"));
        assert!(is_user(&signed, "jonas") && !is_process(&signed, "*"));
        let mut marked = record(Some("vault[18808] uid 1000 (jonas) in a.service"));
        marked.fact.agent = Some("claude-code".parse().unwrap());
        assert_eq!(shown(&marked), "vault[18808] jonas by claude-code in a.service");
        assert_eq!(kind(&marked), "vault jonas by claude-code in a.service");
        assert_eq!(shown(&record(None)), "agent");
        assert!(is_process(&record(None), "agent") && !is_user(&record(None), "root"));
    }
}
