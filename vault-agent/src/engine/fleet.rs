//! The other machines by their latest verified seen-records, and what comparing these shows:
//! withheld entries and silence (design/trust, *Reports*). Pure: time is this machine's connected
//! time, which the caller counts; exchanging records lives in `report`.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::error::{Code, Result};
use shared::head::SignedHead;
use shared::log::{Machine, Number, State};
use shared::name::Name;
use shared::report::Seen;
use shared::signed::Envelope;
use shared::time::Time;

/// How long the server may withhold what it has signed.
const FROZEN: Duration = Duration::from_mins(10);
/// How long a machine that is to be missed may bring nothing new.
const SILENT: Duration = Duration::from_hours(24);

/// Another machine's newest verified record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub seen: Seen,
    /// When it came here, by this machine's clock.
    pub at: Time,
}

/// A record that was verified.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) seen: Seen,
    /// Whether it is newer than the one known.
    pub(super) newer: bool,
}

/// What this machine's log says of a head that the server has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is there.
    Held,
    /// It is past the log's end, or of an epoch that the log lacks.
    Ahead,
    /// It is of a past epoch, after that epoch's end: a resumption left it behind; or a checkpoint
    /// stands for it.
    Left,
    /// Nobody listed has signed it.
    Unsigned,
}

/// Who has shown a signed head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Stream,
    Peer(Number),
}

/// The oldest signed head of a source that the log does not hold, and since when it is known.
#[derive(Clone, Copy)]
struct Ahead {
    head: SignedHead,
    since: Duration,
}

/// A record whose head is still to be found in the log.
#[derive(Clone, Copy)]
struct Open {
    /// Whether it breaks its machine's silence: one that was here before a restart does not again.
    counts: bool,
    /// Entries of the log when the head was not among them.
    tried: Option<u64>,
}

/// Whose silence would be noticed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nobody's: every other machine sleeps at times, or there is none.
    NotJudged,
    /// All are heard.
    Heard,
    /// Who is not.
    Silent(String),
}

/// Records, and what is being watched because of them.
#[derive(Default)]
pub(super) struct Fleet {
    peers: BTreeMap<Number, Peer>,
    /// Connected time at which each machine last brought something new, or came to be watched.
    heard: BTreeMap<Number, Duration>,
    /// Machines whose newest record is still to be judged.
    open: BTreeMap<Number, Open>,
    ahead: BTreeMap<Source, Ahead>,
    /// Since when the stream's last entries have no signed head after them.
    unsigned: Option<Duration>,
    /// When each machine was last heard, removed ones too: by a record, or as the server says.
    seen: BTreeMap<Number, Time>,
}

impl Fleet {
    /// Takes stored records up; those of removed machines and of old keys are passed over.
    pub(super) fn load(
        stored: Vec<(Envelope, Time)>,
        heard: BTreeMap<Number, Duration>,
        seen: BTreeMap<Number, Time>,
        state: &State,
    ) -> Self {
        let mut fleet = Self { heard, seen, ..Self::default() };
        for (envelope, at) in stored {
            if let Err(error) = fleet.take(state, &envelope, None, at) {
                tracing::debug!(%error, "a stored record is passed over");
            }
        }
        fleet.open.values_mut().for_each(|open| open.counts = false);
        fleet
    }

    /// Verifies a record with its machine's key and keeps it if it is newer than the one known, and
    /// not this machine's own.
    ///
    /// # Errors
    /// Why it is passed over: nobody is to blame but who hands it out.
    pub(super) fn take(
        &mut self,
        state: &State,
        envelope: &Envelope,
        own: Option<Number>,
        at: Time,
    ) -> Result<Taken> {
        let number = Seen::claimed(envelope)?;
        let missing = || Code::Missing.because(format!("machine {number}"));
        let machine = state.machine_numbered(number).ok_or_else(missing)?;
        let seen = Seen::open(envelope, number, &machine.sign, state.vault())?;
        let newer = Some(number) != own
            && self.peers.get(&number).is_none_or(|known| seen.n > known.seen.n);
        if newer {
            self.peers.insert(number, Peer { seen: seen.clone(), at });
            // One that comes late says when it was made.
            let last = self.seen.get(&number).copied().unwrap_or_default();
            self.saw(number, last.max(seen.time.min(at)));
            self.open.insert(number, Open { counts: true, tried: None });
        }
        Ok(Taken { seen, newer })
    }

    /// Takes up when a machine was heard last.
    pub(super) fn saw(&mut self, number: Number, at: Time) {
        self.seen.insert(number, at);
    }

    /// Returns when each machine was last heard, removed ones too.
    pub(super) const fn seen(&self) -> &BTreeMap<Number, Time> {
        &self.seen
    }

    /// Forgets machines that are no longer active, but when they were last heard, and returns their
    /// numbers.
    pub(super) fn prune(&mut self, state: &State) -> Vec<Number> {
        let is_active = |number: &Number| state.machine_numbered(*number).is_some();
        let gone = self.peers.keys().copied().filter(|number| !is_active(number)).collect();
        self.peers.retain(|number, _| is_active(number));
        self.heard.retain(|number, _| is_active(number));
        self.open.retain(|number, _| is_active(number));
        self.ahead.retain(|source, _| match source {
            Source::Stream => true,
            Source::Peer(number) => is_active(number),
        });
        gone
    }

    /// Returns the peers by number.
    pub(super) const fn peers(&self) -> &BTreeMap<Number, Peer> {
        &self.peers
    }

    /// Returns when each machine was last heard, to be kept over a restart.
    pub(super) const fn heard(&self) -> &BTreeMap<Number, Duration> {
        &self.heard
    }

    /// Returns the heads to compare with the log, which has `seq` entries now: those of records
    /// that are not judged yet, and those that the log did not hold.
    pub(super) fn to_judge(&self, seq: u64) -> Vec<(Source, SignedHead)> {
        let open = self.open.iter().filter(|(_, open)| open.tried != Some(seq));
        let open = open.filter_map(|(number, _)| {
            Some((Source::Peer(*number), self.peers.get(number)?.seen.signed_head()))
        });
        let ahead = self.ahead.iter().map(|(source, ahead)| (*source, ahead.head));
        ahead.chain(open).collect()
    }

    /// Takes up what the log, which has `seq` entries, says of a head that `source` has shown.
    pub(super) fn judged(
        &mut self,
        (source, head): (Source, SignedHead),
        judged: Judged,
        seq: u64,
        now: Duration,
    ) {
        if judged == Judged::Ahead {
            // The oldest stays: newer ones from the same source do not reset the time.
            self.ahead.entry(source).or_insert(Ahead { head, since: now });
        } else if self.ahead.get(&source).is_some_and(|ahead| ahead.head == head) {
            self.ahead.remove(&source);
        }
        let Source::Peer(number) = source else { return };
        let newest = self.peers.get(&number).map(|peer| peer.seen.signed_head());
        let Some(open) = self.open.get_mut(&number).filter(|_| newest == Some(head)) else {
            return;
        };
        match judged {
            // The log may come to hold it, or to list the key.
            Judged::Ahead | Judged::Unsigned => open.tried = Some(seq),
            Judged::Held | Judged::Left => {
                if open.counts && judged == Judged::Held {
                    self.heard.insert(number, now);
                }
                self.open.remove(&number);
            }
        }
    }

    /// Takes up that a head proves a fork, and tells whether that is news: a record that was here
    /// before a restart has been judged then, and somebody may have decided since.
    pub(super) fn proven(&mut self, (source, head): (Source, SignedHead)) -> bool {
        let was_ahead = self.ahead.get(&source).is_some_and(|ahead| ahead.head == head);
        if was_ahead {
            self.ahead.remove(&source);
        }
        let Source::Peer(number) = source else { return true };
        let open = self.open.remove(&number);
        was_ahead || open.is_some_and(|open| open.counts || open.tried.is_some())
    }

    /// Notes whether the stream's last entries came without a signed head after them.
    pub(super) fn unsigned(&mut self, unsigned: bool, now: Duration) {
        self.unsigned = unsigned.then(|| self.unsigned.unwrap_or(now));
    }

    /// Tells whether entries wait for a signed head.
    #[cfg(test)]
    pub(super) const fn has_unsigned(&self) -> bool {
        self.unsigned.is_some()
    }

    /// Returns what the server has withheld for too long.
    pub(super) fn frozen(&self, state: &State, now: Duration) -> Option<String> {
        let is_over = |since: Duration| now.saturating_sub(since) >= FROZEN;
        let withheld = self.ahead.iter().find(|(_, ahead)| is_over(ahead.since));
        if let Some((source, Ahead { head, since })) = withheld {
            let minutes = now.saturating_sub(*since).as_secs() / 60;
            let (seq, hash) = (head.seq, head.head.short());
            let shown = match source {
                Source::Stream => String::new(),
                Source::Peer(number) => format!(", which {} has shown,", called(state, *number)),
            };
            return Some(format!(
                "the server has signed head {seq} {hash}{shown} and withheld its entries for \
                 {minutes} minutes of connection"
            ));
        }
        self.unsigned.filter(|since| is_over(*since)).map(|since| {
            let minutes = now.saturating_sub(since).as_secs() / 60;
            format!("entries have come without a signed head for {minutes} minutes of connection")
        })
    }

    /// Judges who is silent: each other witness is missed, or, without any, more than half of the
    /// other machines must be heard. Those that sleep at times are never missed.
    pub(super) fn silence(&mut self, state: &State, own: Option<Number>, now: Duration) -> Silence {
        let (mut witnesses, mut others) = (Vec::new(), Vec::new());
        for (number, machine) in state.machines() {
            if !machine.active || Some(*number) == own {
                continue;
            }
            if machine.sleeps {
                // Should it be said to sleep no longer, its time begins then.
                self.heard.insert(*number, now);
                continue;
            }
            let heard = *self.heard.entry(*number).or_insert(now);
            let silent = now.saturating_sub(heard) >= SILENT;
            let list = if is_witness(machine) { &mut witnesses } else { &mut others };
            list.push((&machine.name, silent));
        }
        let is_witnessed = !witnesses.is_empty();
        let judged = if is_witnessed { witnesses } else { others };
        let silent: Vec<&Name> =
            judged.iter().filter(|(_, silent)| *silent).map(|(name, _)| *name).collect();
        let heard = judged.len() - silent.len();
        if judged.is_empty() {
            Silence::NotJudged
        } else if silent.is_empty() || (!is_witnessed && heard * 2 > judged.len()) {
            Silence::Heard
        } else {
            Silence::Silent(told(&silent))
        }
    }
}

/// Tells whether the machine is one of the owner's own hosts.
fn is_witness(machine: &Machine) -> bool {
    machine.write.as_slice().iter().any(|grant| grant.as_str() == "*")
}

/// Names those who are silent.
fn told(silent: &[&Name]) -> String {
    let shown = silent.iter().take(3).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    let more = silent.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("nothing new of {}{more} for 24 hours of connection", shown.join(", "))
}

/// Returns what a machine is called now.
fn called(state: &State, number: Number) -> String {
    match state.machine_numbered(number) {
        Some(machine) => format!("`{}`", machine.name),
        None => format!("machine {number}"),
    }
}

#[cfg(test)]
mod tests;
