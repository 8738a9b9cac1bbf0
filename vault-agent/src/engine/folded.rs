//! The state that the verified log folds to, what this machine keeps beside it, and the checks of
//! what is not applied: heads that the server has signed, known records, the genesis. No lock, no
//! database.

use std::collections::{BTreeMap, HashMap};

use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::{Identity, SignKey, VerifyKey};
use shared::log::{self, Entry, State, Version};
use shared::name::Actor;
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose, VaultId};
use shared::time::Time;

use super::blob::Due;
use super::fleet::Judged;
use super::rights::{is_kept, may_read};
use super::types::{Commit, Own};
use machine::local::Trust;

/// Entries after which a new snapshot of the state is written.
const SNAPSHOT: u64 = 4096;
/// The same while a long log is being caught up with: each takes time that the sync would need.
const SNAPSHOT_MIDWAY: u64 = 16_384;

/// The state, and what this machine keeps beside it.
pub(super) struct Folded {
    pub(super) state: State,
    /// Whether the genesis is there; without it the state is an empty stand-in.
    pub(super) born: bool,
    /// Ciphertext kept on disk, by path.
    pub(super) held: HashMap<SecretPath, Hash>,
    /// Readers' hash to their number and this machine's place among them.
    pub(super) readers: HashMap<Hash, (usize, usize)>,
    /// Entry of the last snapshot on disk.
    pub(super) snapshot: u64,
    /// Where the log ends, as the server has signed it; `None` before the genesis.
    pub(super) signed: Option<SignedHead>,
    /// Server keys that count beside those in the state: the pinned ones, until this machine has
    /// once caught up. The log begins with keys that may have been replaced long ago.
    pub(super) pinned: Vec<VerifyKey>,
    /// A server that somebody on this host vouches for, until the log lists it.
    pub(super) trusted: Option<Trust>,
    /// Paths of which versions were set aside, each with the last version that the vault knew when
    /// it went on.
    pub(super) aside: HashMap<SecretPath, u64>,
    /// How often this process has left its log for another branch of it, or forgotten what it left.
    pub(super) overs: u64,
    /// The commit of the newest of it.
    pub(super) commit: Commit,
    /// The last entry that a checkpoint stands for and this machine does not hold, 0 if none.
    pub(super) begins: u64,
}

impl Folded {
    /// Returns the last entry that a checkpoint stands for, if one does.
    pub(super) fn begins(&self) -> Option<u64> {
        Some(self.begins).filter(|last| *last > 0)
    }

    /// Tells whether a record is the newest one known, as one's own is when the stream brings it
    /// again.
    pub(super) fn is_head(&self, position: u64, envelope: &Envelope) -> bool {
        let purpose = Purpose::Entry(self.state.vault());
        position > 0 && position == self.state.seq() && envelope.hash(purpose) == self.state.head()
    }

    /// Returns the keys of which the server must hold one.
    pub(super) fn server_keys(&self) -> Vec<VerifyKey> {
        let listed = if self.born { self.state.server() } else { &[] };
        let trusted = self.trusted.iter().map(|trust| &trust.server);
        listed.iter().chain(&self.pinned).chain(trusted).cloned().collect()
    }

    /// Checks that the server has signed this very end of the log, before anything of it is used.
    ///
    /// # Errors
    /// `E_PREV` if it has signed another one, `E_BADSIG` if nobody listed has signed it.
    pub(super) fn vouched(&self, head: &SignedHead) -> Result<(), Error> {
        let made = self.state.place();
        if head.place() != made {
            let why = format!("the server signed head {}, its entries make {made}", head.place());
            return Err(Code::Prev.because(why));
        }
        head.verify(&self.server_keys(), self.state.vault())
    }

    /// Judges any other head that the server is said to have signed; `known` is the hash of the own
    /// entry of that number.
    ///
    /// # Errors
    /// `E_FORK`, proven: a listed key has signed another entry at a place that the log holds.
    pub(super) fn judge(
        &self,
        vault: VaultId,
        head: &SignedHead,
        known: Option<Hash>,
    ) -> Result<Judged, Error> {
        if self.signed == Some(*head) {
            return Ok(Judged::Held);
        }
        if head.verify(&self.server_keys(), vault).is_err() {
            return Ok(Judged::Unsigned);
        }
        let state = &self.state;
        let is_past = |epoch: Hash| {
            epoch == vault || state.resumed().iter().any(|resumed| resumed.epoch == epoch)
        };
        if !self.born {
            return Ok(Judged::Ahead);
        }
        if head.seq > state.seq() || state.epoch_at(head.seq) != head.epoch {
            let is_left = head.epoch != state.epoch() && is_past(head.epoch);
            return Ok(if is_left { Judged::Left } else { Judged::Ahead });
        }
        match known {
            Some(known) if known != head.head => {
                let (seq, there, here) = (head.seq, head.head.short(), known.short());
                let why = format!("the server signed entry {seq} as {there}, here it is {here}");
                Err(Code::Fork.because(format!("{why}; its head: {}", head.place())))
            }
            Some(_) => Ok(Judged::Held),
            // A checkpoint stands for it: which one it was is not known any more.
            None if head.seq <= self.begins => Ok(Judged::Left),
            None => Ok(Judged::Ahead),
        }
    }

    /// Returns what is due for a version.
    pub(super) fn due(&self, path: &SecretPath, ver: u64, version: &Version) -> Due {
        let newest = self.state.secret(path).is_some_and(|secret| secret.last == ver);
        let readers = self.readers.get(&version.readers).copied();
        let (path, vault) = (path.clone(), self.state.vault());
        let Version { blob, size, commit, .. } = *version;
        Due { path, ver, blob, newest, vault, size, commit, readers }
    }

    /// Returns what is due for a path's newest version if this machine is to keep its ciphertext.
    pub(super) fn newest(&self, own: &Own, path: &SecretPath) -> Option<Due> {
        let (ver, version) = self.state.secret(path)?.current()?;
        let wanted = !version.destroyed && may_read(&self.state, own, path);
        wanted.then(|| self.due(path, ver, version))
    }

    /// Lists the newest versions whose ciphertext this machine should have and has not.
    pub(super) fn missing(&self, own: &Own) -> Vec<Due> {
        let Some((_, machine)) = own.find(&self.state) else { return Vec::new() };
        let secrets = self.state.secrets().iter();
        let wanted = secrets.filter(|(path, _)| machine.read.cover(path));
        wanted
            .filter_map(|(path, secret)| {
                let (ver, version) = secret.current()?;
                let lacking = self.held.get(path) != Some(&version.blob);
                (lacking && is_kept(version)).then(|| self.due(path, ver, version))
            })
            .collect()
    }
}

/// Tells whether many entries have come since the last snapshot.
pub(super) fn snapshot_is_due(last: u64, seq: u64, caught_up: bool) -> bool {
    seq >= last + if caught_up { SNAPSHOT } else { SNAPSHOT_MIDWAY }
}

/// Tells whether a record that stands where one is known already is that very one.
pub(super) fn recognise(
    state: &State,
    position: u64,
    known: Option<Hash>,
    envelope: &Envelope,
) -> Result<(), Error> {
    if position == 0 {
        let same = envelope.hash(Purpose::Genesis) == state.vault();
        return if same { Ok(()) } else { Err(Code::BadSig.because("another genesis")) };
    }
    let purpose = Purpose::Entry(state.vault());
    if known == Some(envelope.hash(purpose)) {
        return Ok(());
    }
    // Members can sign such an entry: it proves nothing against the server.
    let entry: Entry = envelope.parse()?;
    if entry.seq != position {
        return Err(Code::Seq.because(format!("entry {} where {position} is due", entry.seq)));
    }
    let signed = state.key(&envelope.by).is_some_and(|key| envelope.verify(key, purpose).is_ok());
    let code = if signed { Code::Prev } else { Code::BadSig };
    Err(code.because(format!("another entry {position} than the one known")))
}

/// Makes the first state from the genesis that the vault id pins.
pub(super) fn born(vault: Hash, position: u64, envelope: &Envelope) -> Result<State, Error> {
    if position != 0 {
        return Err(Code::Seq.because("an entry before the genesis"));
    }
    if envelope.hash(Purpose::Genesis) != vault {
        return Err(Code::BadSig.because("the genesis is not the pinned vault's"));
    }
    log::start(envelope)
}

/// The state of a machine that has seen nothing yet: valid, and without anything in it.
pub(super) fn stand_in() -> Result<State, Error> {
    let root = SignKey::generate();
    let genesis = log::Genesis {
        v: 1,
        name: "unknown".parse()?,
        nonce: Hash::ZERO,
        time: Time::default(),
        root: root.verify_key(),
        recovery: Identity::generate().recipient(),
        admins: BTreeMap::new(),
        server: vec![SignKey::generate().verify_key()],
        mounts: Vec::new(),
    };
    log::start(&Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis)?)
}

#[cfg(test)]
mod tests {
    use shared::head::Head;
    use shared::log::{Op, Resume};

    use super::*;

    /// A log of three entries, of which the third resumed the vault after the second.
    fn resumed(server: &SignKey) -> Folded {
        let root = SignKey::generate();
        let genesis = log::Genesis {
            v: 1,
            name: "home".parse().unwrap(),
            nonce: Hash::ZERO,
            time: Time::default(),
            root: root.verify_key(),
            recovery: Identity::generate().recipient(),
            admins: BTreeMap::new(),
            server: vec![server.verify_key()],
            mounts: Vec::new(),
        };
        let genesis = Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap();
        let mut state = log::start(&genesis).unwrap();
        for seq in 1..=3 {
            let (by, prev, time) = (Actor::Root, state.head(), Time::default());
            let from = Resume { seq: seq - 1, head: prev, audit_n: 0, audit_head: Hash::ZERO };
            let op = match seq {
                3 => Op::Resume(from),
                _ => Op::AdminAdd {
                    name: format!("a{seq}").parse().unwrap(),
                    key: SignKey::generate().verify_key(),
                },
            };
            let entry = Entry { seq, prev, time, by: by.clone(), ops: vec![op] };
            let purpose = Purpose::Entry(state.vault());
            log::apply(&mut state, &Envelope::sign(&root, by, purpose, &entry).unwrap()).unwrap();
        }
        let (held, readers, aside, pinned, trusted) = Default::default();
        let (snapshot, overs, commit, begins) = (0, 0, Commit::default(), 0);
        let (born, signed) = (true, None);
        Folded {
            state,
            born,
            held,
            readers,
            snapshot,
            signed,
            pinned,
            trusted,
            commit,
            aside,
            overs,
            begins,
        }
    }

    #[test]
    fn only_another_entry_at_a_place_that_the_log_holds_is_a_fork() {
        let server = SignKey::generate();
        let folded = resumed(&server);
        let state = &folded.state;
        let (vault, epoch, foreign) = (state.vault(), state.epoch(), Hash::of(&[b"foreign"]));
        let (here, there) = (Hash::of(&[b"here"]), Hash::of(&[b"there"]));
        let judged = |epoch, seq, head, known| {
            let head = Head { epoch, seq, head }.sign(&server, vault).unwrap();
            folded.judge(vault, &head, known).map_err(|error| error.code)
        };
        for (epoch, seq, head, known, expected) in [
            (vault, 2, here, Some(here), Ok(Judged::Held)),
            (epoch, 3, here, Some(here), Ok(Judged::Held)),
            (vault, 2, there, Some(here), Err(Code::Fork)),
            (epoch, 3, there, Some(here), Err(Code::Fork)),
            (epoch, 4, there, None, Ok(Judged::Ahead)),
            // Of epochs that this log lacks: it may have to be followed there.
            (foreign, 2, there, Some(here), Ok(Judged::Ahead)),
            (foreign, 9, there, None, Ok(Judged::Ahead)),
            // What the resumption left behind.
            (vault, 3, there, Some(here), Ok(Judged::Left)),
            (vault, 9, there, None, Ok(Judged::Left)),
            // Of the present epoch, before it began: nobody honest signs that.
            (epoch, 2, there, Some(here), Ok(Judged::Ahead)),
        ] {
            assert_eq!(judged(epoch, seq, head, known), expected, "{epoch} {seq}");
        }
        // Behind a checkpoint nobody can tell.
        let folded = Folded { begins: 2, ..folded };
        for (seq, known, expected) in [
            (1, None, Ok(Judged::Left)),
            (2, None, Ok(Judged::Left)),
            (2, Some(here), Err(Code::Fork)),
        ] {
            let head = Head { epoch: vault, seq, head: there }.sign(&server, vault).unwrap();
            let judged = folded.judge(vault, &head, known).map_err(|error| error.code);
            assert_eq!(judged, expected, "{seq}");
        }
        let place = Head { epoch: vault, seq: 2, head: there };
        let stranger = place.sign(&SignKey::generate(), vault).unwrap();
        assert_eq!(folded.judge(vault, &stranger, Some(here)), Ok(Judged::Unsigned));
        let elsewhere = place.sign(&server, foreign).unwrap();
        assert_eq!(folded.judge(vault, &elsewhere, Some(here)), Ok(Judged::Unsigned));
    }

    #[test]
    fn the_end_of_the_log_is_vouched_for_by_a_listed_or_a_pinned_key() {
        let (server, next) = (SignKey::generate(), SignKey::generate());
        let mut folded = resumed(&server);
        let (vault, place) = (folded.state.vault(), folded.state.place());
        let code = |folded: &Folded, place: Head, key: &SignKey| {
            let head = place.sign(key, vault).unwrap();
            folded.vouched(&head).map_err(|error| error.code)
        };
        assert_eq!(code(&folded, place, &server), Ok(()));
        assert_eq!(code(&folded, Head { epoch: vault, ..place }, &server), Err(Code::Prev));
        assert_eq!(code(&folded, Head { seq: 4, ..place }, &server), Err(Code::Prev));
        assert_eq!(code(&folded, Head { head: vault, ..place }, &server), Err(Code::Prev));
        assert_eq!(code(&folded, place, &next), Err(Code::BadSig));
        folded.pinned = vec![next.verify_key()];
        assert_eq!(code(&folded, place, &next), Ok(()));
    }

    #[test]
    fn a_long_sync_is_not_all_lost_with_the_process() {
        assert!(!snapshot_is_due(0, 16_383, false));
        assert!(snapshot_is_due(0, 16_384, false));
        assert!(!snapshot_is_due(16_384, 20_480, false));
        assert!(snapshot_is_due(16_384, 20_480, true));
    }
}
