//! The other machines by their latest verified reports, and what comparing them shows: forks,
//! withheld entries, silence, a rewritten audit log. Pure; exchanging reports lives in `report`.

use std::collections::BTreeMap;

use shared::audit::AuditHead;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::log::{Number, State};
use shared::name::{Actor, Name};
use shared::report::{Report, TargetReport};
use shared::time::Time;
use shared::wire::v1::report::Received;

use super::types::Peer;

/// How long the server may lack an entry that a peer has seen.
const FROZEN: u64 = 600;
/// How long no peer may report.
const STALE: u64 = 24 * 3600;

/// Reports, and what is being watched because of them.
pub(super) struct Fleet {
    peers: BTreeMap<Number, Peer>,
    /// Entries that a peer has seen and this machine has not, and since when.
    ahead: BTreeMap<Number, (u64, Time)>,
    /// The audit chain as last seen.
    pub(super) audit: AuditHead,
    /// Number of this machine's last report.
    pub(super) last: u64,
    /// What is reported of this machine's targets; `None` until somebody has looked at them: what
    /// was reported last then stands.
    pub(super) looked_at: Option<Vec<TargetReport>>,
}

/// Where a machine says that its log ends.
pub(super) struct PeerHead {
    pub(super) number: Number,
    pub(super) name: Name,
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl Fleet {
    /// Takes stored reports up; those of removed machines and of old keys are passed over.
    pub(super) fn load(stored: Vec<Received>, state: &State, audit: AuditHead, last: u64) -> Self {
        let (peers, ahead) = (BTreeMap::new(), BTreeMap::new());
        let mut fleet = Self { peers, ahead, audit, last, looked_at: None };
        for received in stored {
            fleet.take(state, received);
        }
        fleet
    }

    /// Verifies one report and returns it, to be stored, if it is newer than the one known. One
    /// that was signed before its machine was renamed counts under the present name.
    pub(super) fn take(&mut self, state: &State, received: Received) -> Option<(Report, Received)> {
        let Received { report: envelope, at, online } = &received;
        let Actor::Machine(name) = &envelope.by else { return None };
        let (number, machine) = state.machine(name)?;
        let key = &machine.sign;
        let report = match Report::open(envelope, key, state.vault()) {
            Ok(report) => Report { machine: name.clone(), ..report },
            Err(error) => {
                tracing::warn!(by = %envelope.by, %error, "report refused");
                return None;
            }
        };
        if let Some(known) = self.peers.get_mut(&number)
            && report.n <= known.report.n
        {
            // An older one is a replay; the same one brings news of its machine's connection.
            if report.n == known.report.n {
                known.online = *online;
            }
            return None;
        }
        let peer = Peer { report: report.clone(), at: *at, online: *online };
        self.peers.insert(number, peer);
        Some((report, received))
    }

    /// Forgets machines that are no longer active, calls the others by their present names, and
    /// returns the names that fell out of use.
    pub(super) fn prune(&mut self, state: &State) -> Vec<Name> {
        let mut gone = Vec::new();
        self.peers.retain(|number, Peer { report, .. }| {
            let machine = state.machine_numbered(*number);
            match machine {
                Some(machine) if machine.name == report.machine => {}
                Some(machine) => {
                    gone.push(std::mem::replace(&mut report.machine, machine.name.clone()));
                }
                None => gone.push(report.machine.clone()),
            }
            machine.is_some()
        });
        self.ahead.retain(|number, _| state.machine_numbered(*number).is_some());
        gone.retain(|name| !self.peers.values().any(|peer| peer.report.machine == *name));
        gone
    }

    /// Returns the entries whose hash is to be compared with the peers'.
    pub(super) fn heads(&self) -> Vec<PeerHead> {
        let head = |(number, peer): (&Number, &Peer)| PeerHead {
            number: *number,
            name: peer.report.machine.clone(),
            seq: peer.report.seq,
            hash: peer.report.head,
        };
        self.peers.iter().map(head).collect()
    }

    /// Compares one peer's head with the hash known for that entry; fails with `E_FORK`.
    pub(super) fn compare(
        &mut self,
        PeerHead { number, name, seq, hash }: &PeerHead,
        known: Option<Hash>,
        now: Time,
    ) -> Result<(), Error> {
        match known {
            Some(known) if known != *hash => {
                let (there, here) = (hash.short(), known.short());
                let why = format!("`{name}` has entry {seq} as {there}, this machine as {here}");
                Err(Code::Fork.because(why))
            }
            Some(_) => {
                self.ahead.remove(number);
                Ok(())
            }
            None => {
                let since = self.ahead.get(number).map_or(now, |(_, since)| *since);
                self.ahead.insert(*number, (*seq, since));
                Ok(())
            }
        }
    }

    /// Returns what a peer has seen and the server has withheld for too long.
    pub(super) fn frozen(&self, now: Time) -> Option<String> {
        let (number, (seq, since)) =
            self.ahead.iter().find(|(_, (_, since))| now.seconds_since(*since) >= FROZEN)?;
        let name = &self.peers.get(number)?.report.machine;
        Some(format!("`{name}` has seen entry {seq}, which the server withholds since {since}"))
    }

    /// Returns how long no other machine has reported, if that is too long.
    pub(super) fn stale(&self, state: &State, own: Option<Number>, now: Time) -> Option<String> {
        let others = state.machines().iter().filter(|(n, m)| m.active && Some(**n) != own);
        let last = others
            .map(|(number, machine)| {
                let report = self.report_of(*number).map(|report| report.time);
                report.unwrap_or(machine.added)
            })
            .max()?;
        (now.seconds_since(last) >= STALE).then(|| format!("no machine has reported since {last}"))
    }

    /// Takes the chain's new head up; `E_AUDIT_REWRITTEN` unless it has only grown.
    pub(super) fn audit_now(&mut self, now: AuditHead) -> Result<(), Error> {
        let before = self.audit;
        if now.n < before.n {
            let why = format!("it had {} records and has {}", before.n, now.n);
            return Err(Code::AuditRewritten.because(why));
        }
        if now.n == before.n && now.hash != before.hash {
            return Err(Code::AuditRewritten.because(format!("record {} was another", now.n)));
        }
        self.audit = now;
        Ok(())
    }

    /// Returns the peers with their numbers, by number.
    pub(super) const fn peers(&self) -> &BTreeMap<Number, Peer> {
        &self.peers
    }

    pub(super) fn report_of(&self, number: Number) -> Option<&Report> {
        self.peers.get(&number).map(|peer| &peer.report)
    }
}

#[cfg(test)]
mod tests {
    use shared::grant::Grants;
    use shared::keys::{Identity, SignKey};
    use shared::log::{Entry, NewMachine, Op, apply};
    use shared::signed::Envelope;
    use shared::signed::Purpose;
    use shared::text::Text;
    use shared::token::MachineLine;

    use super::*;

    const DAY: u64 = 24 * 3600 * 1_000_000;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A vault with the machine `vps`, added at the beginning of time.
    fn vault() -> (State, SignKey) {
        let (root, sign) = (SignKey::generate(), SignKey::generate());
        let genesis = shared::log::Genesis {
            v: 1,
            name: name("home"),
            nonce: Hash::ZERO,
            time: Time::default(),
            root: root.verify_key(),
            recovery: Identity::generate().recipient(),
            admins: BTreeMap::new(),
            server: vec![SignKey::generate().verify_key()],
            mounts: Vec::new(),
        };
        let genesis = Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap();
        let mut state = shared::log::start(&genesis).unwrap();
        let recipient = Identity::generate().recipient();
        let MachineLine { name, recipient, sign: key, proof } =
            MachineLine::new(name("vps"), recipient, &sign).unwrap();
        let add = Op::MachineAdd(NewMachine {
            name,
            number: 1,
            recipient,
            sign: key,
            proof,
            read: Grants::default(),
            write: Grants::default(),
        });
        let (prev, by) = (state.head(), Actor::Root);
        let entry = Entry { seq: 1, prev, time: Time::default(), by: by.clone(), ops: vec![add] };
        let entry = Envelope::sign(&root, by, Purpose::Entry(state.vault()), &entry).unwrap();
        apply(&mut state, &entry).unwrap();
        (state, sign)
    }

    fn received(state: &State, sign: &SignKey, n: u64, time: Time) -> Received {
        let report = Report {
            machine: name("vps"),
            n,
            time,
            seq: 7,
            head: Hash::ZERO,
            audit_n: 0,
            audit_head: Hash::ZERO,
            agent: Text::default(),
            targets: Vec::new(),
        };
        let report = report.sign(sign, state.vault()).unwrap();
        Received { report, at: time, online: true }
    }

    fn empty(state: &State) -> Fleet {
        Fleet::load(Vec::new(), state, AuditHead::EMPTY, 0)
    }

    #[test]
    fn an_older_report_and_a_strangers_are_passed_over() {
        let (state, sign) = vault();
        let mut fleet = empty(&state);
        let now = Time::from_micros(1);
        assert!(fleet.take(&state, received(&state, &sign, 2, now)).is_some());
        assert!(fleet.take(&state, received(&state, &sign, 1, now)).is_none());
        assert!(fleet.take(&state, received(&state, &SignKey::generate(), 3, now)).is_none());
        assert_eq!(fleet.report_of(1).unwrap().n, 2);
    }

    #[test]
    fn what_a_peer_has_seen_may_be_withheld_for_ten_minutes() {
        let (state, sign) = vault();
        let mut fleet = empty(&state);
        fleet.take(&state, received(&state, &sign, 1, Time::default()));
        let head = fleet.heads().remove(0);
        let after = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        fleet.compare(&head, None, after(0)).unwrap();
        fleet.compare(&head, None, after(599)).unwrap();
        assert_eq!(fleet.frozen(after(599)), None);
        assert!(fleet.frozen(after(600)).unwrap().contains("`vps` has seen entry 7"));
        fleet.compare(&head, Some(Hash::ZERO), after(601)).unwrap();
        assert_eq!(fleet.frozen(after(9999)), None);
        let fork = fleet.compare(&head, Some(Hash::of(&[b"x"])), after(602)).unwrap_err();
        assert_eq!(fork.code, Code::Fork);
    }

    #[test]
    fn a_day_without_a_peer_is_noticed() {
        let (state, sign) = vault();
        let mut fleet = empty(&state);
        assert!(fleet.stale(&state, None, Time::from_micros(DAY)).is_some());
        fleet.take(&state, received(&state, &sign, 1, Time::from_micros(DAY)));
        assert_eq!(fleet.stale(&state, None, Time::from_micros(2 * DAY - 1)), None);
        assert!(fleet.stale(&state, None, Time::from_micros(2 * DAY)).is_some());
        assert_eq!(fleet.stale(&state, Some(1), Time::from_micros(9 * DAY)), None);
    }

    #[test]
    fn the_audit_log_only_grows() {
        let (state, _) = vault();
        let mut fleet = empty(&state);
        let one = AuditHead::EMPTY.then(Hash::ZERO);
        fleet.audit_now(one.then(Hash::ZERO)).unwrap();
        for bad in [one, one.then(Hash::of(&[b"x"]))] {
            assert_eq!(fleet.audit_now(bad).unwrap_err().code, Code::AuditRewritten);
        }
    }
}
