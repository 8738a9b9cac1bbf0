//! The verified log: the only place where entries are applied. Each is applied in memory and
//! stored with the head and the blobs it brought in one transaction; if that fails, memory goes
//! back (design/trust, *Client*, read 1).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rusqlite::Connection;
use shared::blob::{Blob, Sealed};
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::log::{self, Entry, Op, Refused, State};
use shared::name::Name;
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose};
use tokio::sync::oneshot;

use super::Inner;
use super::blob::Due;
use super::commit::Commit;
use crate::state::{self, Failure, Outcome};

/// A record from the server and where it claims to stand; the genesis stands at 0.
pub(super) struct Delivery {
    pub(super) position: u64,
    pub(super) envelope: Envelope,
    pub(super) blobs: Vec<Vec<u8>>,
}

/// What a batch of records did.
#[derive(Default)]
pub(super) struct News {
    /// Blobs that came along, to be opened.
    pub(super) arrived: Vec<(Due, Blob)>,
    /// Whether a readable path has a newer version whose blob did not come along.
    pub(super) missing: bool,
    /// Whether any record was new.
    pub(super) advanced: bool,
    /// The first record refused; those before it count.
    pub(super) refused: Option<Error>,
}

/// Answers to a batch: at once when it is applied, and when it is on disk.
pub(super) struct Receipt {
    pub(super) applied: oneshot::Receiver<Result<News, Failure>>,
    pub(super) committed: oneshot::Receiver<Result<(), Failure>>,
}

/// The state, and what this machine keeps beside it.
pub(super) struct Ledger {
    pub(super) state: State,
    /// Whether the genesis is there; without it the state is an empty stand-in.
    pub(super) born: bool,
    /// Ciphertext kept on disk, by path.
    pub(super) held: HashMap<SecretPath, Hash>,
    /// Readers' hash to their number and this machine's place among them.
    pub(super) readers: HashMap<Hash, (usize, usize)>,
}

impl Ledger {
    /// Returns where the log stands for a server: 0 also asks for the genesis.
    pub(super) fn seq(&self) -> u64 {
        if self.born { self.state.seq() } else { 0 }
    }
}

/// Tells whether a record is the newest one known, as one's own is when the stream brings it again.
pub(super) fn is_head(ledger: &Ledger, record: &Delivery) -> bool {
    let purpose = Purpose::Entry(ledger.state.vault());
    ledger.born
        && record.position == ledger.state.seq()
        && record.position > 0
        && record.envelope.hash(purpose) == ledger.state.head()
}

/// What an entry that was applied brought.
#[derive(Default)]
struct Taken {
    ops: Vec<Op>,
    /// Blobs that this machine made itself.
    own: Vec<(Hash, Arc<Sealed>)>,
}

/// Takes one entry back.
type Undo = Box<dyn FnOnce(&mut State) + Send>;

/// How to take a batch back.
#[derive(Default)]
struct Before {
    undo: Vec<Undo>,
    unborn: Option<Box<State>>,
    held: Vec<(SecretPath, Option<Hash>)>,
}

/// Hands records to the database thread, in order with everything else that goes there.
pub(super) async fn ingest(
    inner: &Arc<Inner>,
    deliveries: Vec<Delivery>,
) -> Result<Receipt, Failure> {
    let (answer, applied) = oneshot::channel();
    let (settle, committed) = oneshot::channel();
    let own = Arc::clone(inner);
    let job = move |conn: &Connection| {
        let mut before = Before::default();
        let commit = Commit::default();
        // Whoever sees the new state finds this commit, not an older one.
        let earlier = std::mem::replace(&mut *own.commit(), commit.clone());
        match own.take(conn, deliveries, &mut before) {
            Ok(news) => {
                own.advanced();
                let _ = answer.send(Ok(news));
                Outcome::Keep(Box::new(move |result| {
                    if result.is_err() {
                        own.go_back(before);
                        *own.commit() = earlier;
                        own.tick();
                    }
                    commit.end(result.is_ok());
                    let _ = settle.send(result);
                }))
            }
            Err(fault) => {
                own.go_back(before);
                *own.commit() = earlier;
                commit.end(false);
                let fault = Failure::from(fault);
                let _ = answer.send(Err(fault.clone()));
                Outcome::Undo(fault)
            }
        }
    };
    inner.store.submit(Box::new(job)).await?;
    Ok(Receipt { applied, committed })
}

impl Inner {
    fn take(
        &self,
        conn: &Connection,
        deliveries: Vec<Delivery>,
        before: &mut Before,
    ) -> rusqlite::Result<News> {
        let mut news = News::default();
        let mut touched = Touched::default();
        let mut blobs = HashMap::new();
        for Delivery { position, envelope, blobs: inline } in deliveries {
            match self.take_one(conn, position, &envelope, before)? {
                Ok(None) => {}
                Ok(Some(Taken { ops, own })) => {
                    news.advanced = true;
                    touched.note(&self.name, &ops);
                    let own = own.into_iter().map(|(_, sealed)| sealed.bytes.clone());
                    let brought = inline.into_iter().chain(own).map(Blob::new);
                    blobs.extend(brought.map(|blob| (blob.id(), blob)));
                }
                Err(error) => {
                    news.refused = Some(error);
                    break;
                }
            }
        }
        if news.advanced {
            let ledger = self.ledger();
            state::log::set_head(conn, ledger.state.seq(), ledger.state.head())?;
            drop(ledger);
            self.tend_blobs(conn, &touched, blobs, &mut news, before)?;
        }
        Ok(news)
    }

    /// Applies and stores one record; returns `None` for a known one.
    fn take_one(
        &self,
        conn: &Connection,
        position: u64,
        envelope: &Envelope,
        before: &mut Before,
    ) -> rusqlite::Result<Result<Option<Taken>, Error>> {
        let mut ledger = self.ledger_mut();
        if ledger.born && position <= ledger.state.seq() {
            let known = state::log::hash_at(conn, position)?;
            return Ok(recognise(&ledger.state, position, known, envelope).map(|()| None));
        }
        if !ledger.born {
            return match born(self.pins.vault, position, envelope) {
                Err(error) => Ok(Err(error)),
                Ok(state) => {
                    state::log::insert(conn, 0, envelope, state.head())?;
                    let unborn = std::mem::replace(&mut ledger.state, state);
                    ledger.born = true;
                    before.unborn = Some(Box::new(unborn));
                    Ok(Ok(Some(Taken::default())))
                }
            };
        }
        let applied = match log::apply(&mut ledger.state, envelope) {
            Ok(applied) => applied,
            // Signed by a member, numbered as due, and built on another past than ours.
            Err(Refused { error, .. }) if error.code == Code::Prev => {
                return Ok(Err(Code::Fork.because(error.detail)));
            }
            Err(Refused { error, .. }) => return Ok(Err(error)),
        };
        let undo = applied.undo;
        before.undo.push(Box::new(move |state| state.revert(undo)));
        let head = ledger.state.head();
        self.note_readers(conn, &mut ledger, &applied.entry)?;
        drop(ledger);
        state::log::insert(conn, applied.entry.seq, envelope, head)?;
        state::pending::settle(conn, head)?;
        let own = self.settled(head);
        let mut cache = self.cache();
        applied.dropped.iter().for_each(|blob| cache.remove(blob));
        Ok(Ok(Some(Taken { ops: applied.entry.ops, own })))
    }

    /// Notes how many readers each new blob was made for: the log itself keeps their hash only.
    fn note_readers(
        &self,
        conn: &Connection,
        ledger: &mut Ledger,
        entry: &Entry,
    ) -> rusqlite::Result<()> {
        for op in &entry.ops {
            let (Op::Put(put) | Op::Rewrap(put)) = op else { continue };
            if ledger.readers.contains_key(&put.readers)
                || !may_read(&ledger.state, &self.name, &put.path)
                || log::readers_hash(&ledger.state, &put.path) != put.readers
            {
                continue;
            }
            let (count, position) = place(&ledger.state, &self.name, &put.path);
            state::blobs::set_readers(conn, put.readers, count as u64, position as u64)?;
            ledger.readers.insert(put.readers, (count, position));
        }
        Ok(())
    }

    /// Keeps the ciphertext of what is newest now, and drops what is not to be had any more.
    fn tend_blobs(
        &self,
        conn: &Connection,
        touched: &Touched,
        mut blobs: HashMap<Hash, Blob>,
        news: &mut News,
        before: &mut Before,
    ) -> rusqlite::Result<()> {
        let mut ledger = self.ledger_mut();
        let all: Vec<SecretPath>;
        let paths: Box<dyn Iterator<Item = &SecretPath>> = if touched.all {
            let held = ledger.held.keys().chain(ledger.state.secrets().keys());
            all = held.cloned().collect::<BTreeSet<_>>().into_iter().collect();
            Box::new(all.iter())
        } else {
            Box::new(touched.paths.iter())
        };
        for path in paths {
            self.tend_retained(conn, &ledger, path)?;
            let held = ledger.held.get(path).copied();
            let Some(due) = Due::newest(&ledger, &self.name, path) else {
                if held.is_some() {
                    state::blobs::drop(conn, path)?;
                    ledger.held.remove(path);
                    before.held.push((path.clone(), held));
                }
                continue;
            };
            if held == Some(due.blob) {
                continue;
            }
            let blob = match blobs.remove(&due.blob) {
                Some(blob) => Some(blob),
                // An owner's act that was carried out from here.
                None => state::blobs::staged(conn, due.blob)?.map(Blob::new),
            };
            let Some(blob) = blob else {
                news.missing = true;
                continue;
            };
            state::blobs::keep(conn, path, due.blob, blob.bytes())?;
            before.held.push((path.clone(), held));
            ledger.held.insert(path.clone(), due.blob);
            news.arrived.push((due, blob));
        }
        Ok(())
    }

    fn go_back(&self, before: Before) {
        let mut ledger = self.ledger_mut();
        for undo in before.undo.into_iter().rev() {
            undo(&mut ledger.state);
        }
        if let Some(unborn) = before.unborn {
            ledger.state = *unborn;
            ledger.born = false;
        }
        for (path, held) in before.held.into_iter().rev() {
            match held {
                Some(blob) => drop(ledger.held.insert(path, blob)),
                None => drop(ledger.held.remove(&path)),
            }
        }
    }
}

/// What a batch was about.
#[derive(Default)]
struct Touched {
    paths: BTreeSet<SecretPath>,
    /// This machine's own rights changed.
    all: bool,
}

impl Touched {
    fn note(&mut self, own: &Name, ops: &[Op]) {
        for op in ops {
            match op {
                Op::MachineAdd(machine) => self.all |= machine.name == *own,
                Op::AccessSet(access) => self.all |= access.name == *own,
                Op::MachineRemove { name, .. } => self.all |= name == own,
                other => self.paths.extend(other.path().cloned()),
            }
        }
    }
}

/// Tells whether a record that stands where one is known already is that very one.
fn recognise(
    state: &State,
    position: u64,
    known: Option<Hash>,
    envelope: &Envelope,
) -> Result<(), Error> {
    if position == 0 {
        let same = envelope.hash(Purpose::Genesis) == state.vault();
        return if same { Ok(()) } else { Err(Code::Fork.because("another genesis")) };
    }
    let purpose = Purpose::Entry(state.vault());
    if known == Some(envelope.hash(purpose)) {
        return Ok(());
    }
    // Only a signed entry of that number proves a fork; anything else is a broken stream.
    let entry: Entry = envelope.parse()?;
    if entry.seq != position {
        return Err(Code::Seq.because(format!("entry {} where {position} is due", entry.seq)));
    }
    let signed = state.key(&envelope.by).is_some_and(|key| envelope.verify(key, purpose).is_ok());
    let code = if signed { Code::Fork } else { Code::BadSig };
    Err(code.because(format!("another entry {position} than the one known")))
}

/// Makes the first state from the genesis that the vault id pins.
fn born(vault: Hash, position: u64, envelope: &Envelope) -> Result<State, Error> {
    if position != 0 {
        return Err(Code::Seq.because("an entry before the genesis"));
    }
    if envelope.hash(Purpose::Genesis) != vault {
        return Err(Code::BadSig.because("the genesis is not the pinned vault's"));
    }
    log::start(envelope)
}

/// Tells whether the machine may read `path`.
pub(super) fn may_read(state: &State, name: &Name, path: &SecretPath) -> bool {
    state.machine(name).is_some_and(|machine| machine.read.cover(path))
}

/// Returns how many readers a path has today, and the machine's place among them.
pub(super) fn place(state: &State, name: &Name, path: &SecretPath) -> (usize, usize) {
    let readers = log::readers(state, path);
    let own = state.machine(name).map(|machine| format!("{name}#{}", machine.incarnation));
    let position = own.and_then(|own| readers.iter().position(|reader| *reader == own));
    (readers.len(), position.unwrap_or(0))
}

/// The state of a machine that has seen nothing yet: valid, and without anything in it.
pub(super) fn stand_in() -> Result<State, Error> {
    let root = shared::keys::SignKey::generate();
    let genesis = log::Genesis {
        v: 1,
        name: "unknown".parse()?,
        nonce: Hash::ZERO,
        time: shared::time::Time::default(),
        root: root.verify_key(),
        recovery: shared::keys::Identity::generate().recipient(),
        admins: BTreeMap::new(),
        server: vec![shared::keys::SignKey::generate().verify_key()],
        mounts: Vec::new(),
    };
    log::start(&Envelope::sign(&root, shared::name::Actor::Root, Purpose::Genesis, &genesis)?)
}
