//! The state as bytes, written in one way only: what the hash of a checkpoint is of, and what a
//! machine starts from that has not folded the entries before it (design/trust, *Checkpoints*).
//! Rows of strict JSON, each with LF at its end: the first one says how many of each kind follow.
//! What a state need not hold, since its versions tell it, is not in it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Result};
use crate::hash::{Hash, Hasher};
use crate::keys::{Recipient, VerifyKey};
use crate::limits;
use crate::name::Name;
use crate::path::{Mount, SecretPath};
use crate::signed::{VaultId, parse_strict};
use crate::time::Time;

use super::entry::{Address, Checkpoint};
use super::ops::{check_custom, check_kept};
use super::roster::{Machine, Number, Roster};
use super::state::{MountConfig, Resumed, Secret, State};

/// The format of the rows.
const FORMAT: u32 = 1;

/// The first row.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    v: u32,
    vault: VaultId,
    name: Name,
    created: Time,
    seq: u64,
    head: Hash,
    time: Time,
    root: VerifyKey,
    recovery: Recipient,
    recovery_number: u64,
    server: Vec<VerifyKey>,
    addresses: Vec<Address>,
    format: u32,
    checkpoint: Option<Checkpoint>,
    rows: Counts,
}

/// How many rows of each kind follow, in this order.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    admins: u64,
    resumed: u64,
    mounts: u64,
    machines: u64,
    keys: u64,
    forgotten: u64,
    floors: u64,
    secrets: u64,
}

fn row(value: &impl Serialize) -> Vec<u8> {
    let mut row = serde_json::to_vec(value).expect("plain fields are JSON");
    row.push(b'\n');
    row
}

impl State {
    /// Writes the state, row by row. Two folders of one log write the same bytes.
    pub fn rows(&self) -> impl Iterator<Item = Vec<u8>> {
        let keys = self.used_keys.iter().map(|key| Hash::from_bytes(*key));
        std::iter::once_with(|| row(&self.first()))
            .chain(self.admins.iter().map(|admin| row(&admin)))
            .chain(self.resumed.iter().map(row))
            .chain(self.mounts.iter().map(|mount| row(&mount)))
            .chain(self.machines.all().iter().map(|machine| row(&machine)))
            .chain(keys.map(|key| row(&key)))
            .chain(self.forgotten.iter().map(|path| row(&path)))
            .chain(self.floors.iter().map(|floor| row(&floor)))
            .chain(self.secrets.iter().map(|secret| row(&secret)))
    }

    /// Returns what a checkpoint of this very state names. Takes time with the state's size.
    pub fn summed(&self) -> Checkpoint {
        let (mut hasher, mut size) = (Hasher::default(), 0);
        for row in self.rows() {
            hasher.update(&row);
            size += row.len() as u64;
        }
        Checkpoint { seq: self.seq, state: hasher.finish(), size }
    }

    fn first(&self) -> First {
        let counts = Counts {
            admins: self.admins.len() as u64,
            resumed: self.resumed.len() as u64,
            mounts: self.mounts.len() as u64,
            machines: self.machines.all().len() as u64,
            keys: self.used_keys.len() as u64,
            forgotten: self.forgotten.len() as u64,
            floors: self.floors.len() as u64,
            secrets: self.secrets.len() as u64,
        };
        First {
            v: FORMAT,
            vault: self.vault,
            name: self.name.clone(),
            created: self.created,
            seq: self.seq,
            head: self.head,
            time: self.time,
            root: self.root.clone(),
            recovery: self.recovery.clone(),
            recovery_number: self.recovery_number,
            server: self.server.clone(),
            addresses: self.addresses.clone(),
            format: self.format,
            checkpoint: self.checkpoint,
            rows: counts,
        }
    }
}

/// Reads a state that a checkpoint names, as its bytes come; nothing of it may be used before
/// [`StateReader::finish`] says that it is that state.
pub struct StateReader {
    named: Checkpoint,
    hasher: Hasher,
    read: u64,
    /// A row that has not come whole.
    part: Vec<u8>,
    /// What the rows so far make, and how many are still to come.
    state: Option<(State, Counts)>,
}

impl StateReader {
    /// Begins to read the state that `named` names.
    pub fn new(named: Checkpoint) -> Self {
        Self { named, hasher: Hasher::default(), read: 0, part: Vec::new(), state: None }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `E_CHECKPOINT` for more bytes than are named; `E_PARSE` or `E_LIMITS` for a malformed row,
    /// one that contradicts another, or one more than were announced; `E_UPGRADE` for a state of a
    /// newer format.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.read = self.read.saturating_add(bytes.len() as u64);
        if self.read > self.named.size {
            return Err(self.another("it is longer"));
        }
        self.hasher.update(bytes);
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (row, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.part.is_empty() {
                self.row(row)?;
            } else {
                let mut whole = std::mem::take(&mut self.part);
                whole.extend_from_slice(row);
                self.row(&whole)?;
            }
        }
        self.part.extend_from_slice(bytes);
        check_length(self.part.len())
    }

    /// Returns the state, once all bytes have come.
    ///
    /// # Errors
    /// `E_CHECKPOINT` if it is not the state that was named; `E_KEY` if it holds a key that it does
    /// not count as used.
    pub fn finish(self) -> Result<State> {
        if self.read != self.named.size || !self.part.is_empty() {
            return Err(self.another("it is shorter"));
        }
        if self.hasher.clone().finish() != self.named.state {
            return Err(self.another("its hash differs"));
        }
        let named = self.named;
        let Some((mut state, left)) = self.state else { return Err(malformed("no row")) };
        if left.next().is_some() {
            return Err(malformed("fewer rows than announced"));
        }
        if state.seq != named.seq {
            return Err(malformed("another entry than named"));
        }
        state.check_keys()?;
        let kept = state.kept_blobs().count();
        state.used_blobs = state.kept_blobs().collect();
        if state.used_blobs.len() != kept {
            return Err(Code::BlobReuse.because("a state with one blob in two versions"));
        }
        Ok(state)
    }

    fn another(&self, why: &str) -> crate::error::Error {
        let Checkpoint { seq, state, .. } = self.named;
        Code::Checkpoint.because(format!("the state {} after entry {seq}: {why}", state.short()))
    }

    fn row(&mut self, row: &[u8]) -> Result<()> {
        check_length(row.len())?;
        match &mut self.state {
            None => self.state = Some(begin(parse_strict(row)?)?),
            Some((state, left)) => state.add(left, row)?,
        }
        Ok(())
    }
}

fn check_length(row: usize) -> Result<()> {
    if row > limits::STATE_ROW {
        return Err(Code::Limits.because(format!("a row of a state of {row} bytes and more")));
    }
    Ok(())
}

fn malformed(why: &str) -> crate::error::Error {
    Code::Parse.because(format!("a state with {why}"))
}

/// Makes the state of the first row, without what follows.
fn begin(first: First) -> Result<(State, Counts)> {
    let First { server, addresses, rows, .. } = first;
    if first.v != FORMAT || first.format > limits::FORMAT {
        return Err(Code::Upgrade.because("a state of a newer format"));
    }
    let servers = server.len();
    if !(1..=2).contains(&servers) || addresses.len() > limits::ADDRESSES {
        let why = format!("a state with {servers} server keys, {} addresses", addresses.len());
        return Err(Code::Limits.because(why));
    }
    if first.checkpoint.is_some_and(|before| before.seq >= first.seq) {
        return Err(malformed("a checkpoint past it"));
    }
    let state = State {
        vault: first.vault,
        name: first.name,
        created: first.created,
        seq: first.seq,
        head: first.head,
        time: first.time,
        root: first.root,
        recovery: first.recovery,
        recovery_number: first.recovery_number,
        admins: BTreeMap::new(),
        server,
        addresses,
        format: first.format,
        resumed: Vec::new(),
        mounts: BTreeMap::new(),
        machines: Roster::default(),
        secrets: BTreeMap::new(),
        checkpoint: first.checkpoint,
        forgotten: BTreeMap::new(),
        floors: BTreeMap::new(),
        used_keys: Default::default(),
        used_blobs: Default::default(),
    };
    Ok((state, rows))
}

/// What a row holds.
#[derive(Clone, Copy)]
enum Kind {
    Admin,
    Resumed,
    Mount,
    Machine,
    Key,
    Forgotten,
    Floor,
    Secret,
}

impl Counts {
    /// Returns the kind of the next row.
    fn next(&self) -> Option<Kind> {
        self.all().into_iter().find_map(|(kind, left)| (left > 0).then_some(kind))
    }

    const fn all(&self) -> [(Kind, u64); 8] {
        [
            (Kind::Admin, self.admins),
            (Kind::Resumed, self.resumed),
            (Kind::Mount, self.mounts),
            (Kind::Machine, self.machines),
            (Kind::Key, self.keys),
            (Kind::Forgotten, self.forgotten),
            (Kind::Floor, self.floors),
            (Kind::Secret, self.secrets),
        ]
    }

    const fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Admin => &mut self.admins,
            Kind::Resumed => &mut self.resumed,
            Kind::Mount => &mut self.mounts,
            Kind::Machine => &mut self.machines,
            Kind::Key => &mut self.keys,
            Kind::Forgotten => &mut self.forgotten,
            Kind::Floor => &mut self.floors,
            Kind::Secret => &mut self.secrets,
        }
    }
}

/// Adds a row to a table whose rows come in order.
fn push<K, V>(table: &mut BTreeMap<K, V>, bytes: &[u8]) -> Result<()>
where
    K: Ord + Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    let (key, value) = parse_strict::<(K, V)>(bytes)?;
    if table.last_key_value().is_some_and(|(last, _)| *last >= key) {
        return Err(malformed("rows out of order"));
    }
    table.insert(key, value);
    Ok(())
}

impl State {
    /// Adds a row, of those that are `left`.
    fn add(&mut self, left: &mut Counts, row: &[u8]) -> Result<()> {
        let kind = left.next().ok_or_else(|| malformed("more rows than announced"))?;
        *left.of(kind) -= 1;
        match kind {
            Kind::Admin => push(&mut self.admins, row),
            Kind::Resumed => self.add_resumed(parse_strict(row)?),
            Kind::Mount => self.add_mount(row),
            Kind::Machine => self.add_machine(parse_strict(row)?),
            Kind::Key => {
                let key: Hash = parse_strict(row)?;
                if self.used_keys.last().is_some_and(|last| last >= key.as_bytes()) {
                    return Err(malformed("rows out of order"));
                }
                self.used_keys.insert(*key.as_bytes());
                Ok(())
            }
            Kind::Forgotten => push::<SecretPath, u64>(&mut self.forgotten, row),
            Kind::Floor => push::<u16, u64>(&mut self.floors, row),
            Kind::Secret => self.add_secret(parse_strict(row)?),
        }
    }

    fn add_resumed(&mut self, resumed: Resumed) -> Result<()> {
        let before = self.resumed.last().map_or(0, |last| last.seq);
        if resumed.seq <= before || resumed.seq > self.seq || resumed.from.seq + 1 != resumed.seq {
            return Err(malformed("a resumption in no place"));
        }
        self.resumed.push(resumed);
        Ok(())
    }

    fn add_mount(&mut self, row: &[u8]) -> Result<()> {
        push::<Mount, MountConfig>(&mut self.mounts, row)?;
        self.mounts.last_key_value().map_or(Ok(()), |(_, config)| check_kept(config.max_versions))
    }

    fn add_machine(&mut self, (number, machine): (Number, Machine)) -> Result<()> {
        if number < self.machines.due() {
            return Err(malformed("rows out of order"));
        }
        machine.read.check()?;
        machine.write.check()?;
        if machine.former.len().max(machine.once.len()) > limits::FORMER {
            return Err(Code::Limits.because(format!("the past of machine `{}`", machine.name)));
        }
        if machine.active != machine.gone.is_none() {
            return Err(malformed("a machine that has gone and is active"));
        }
        let taken = self.machines.named(&machine.name).is_some()
            || self.machines.signing(machine.sign.as_bytes()).is_some();
        if machine.active && taken {
            return Err(Code::Exists.because(format!("machine `{}` twice", machine.name)));
        }
        self.machines.set(number, Some(machine));
        Ok(())
    }

    fn add_secret(&mut self, (path, secret): (SecretPath, Secret)) -> Result<()> {
        if self.secrets.last_key_value().is_some_and(|(last, _)| *last >= path) {
            return Err(malformed("rows out of order"));
        }
        if !self.mounts.contains_key(path.mount()) {
            return Err(Code::Missing.because(format!("mount `{}`", path.mount())));
        }
        check_kept(secret.max_versions)?;
        check_custom(&path, &secret.custom.texts())?;
        let kept = secret.kept() as u64;
        let numbered = secret.last.checked_sub(secret.base).is_some_and(|own| kept <= own);
        let sized = |size: u64| size > 0 && size <= limits::BLOB as u64;
        if !numbered || kept > limits::VERSIONS || !secret.versions().all(|(_, it)| sized(it.size))
        {
            return Err(Code::Limits.because(format!("versions of `{path}`")));
        }
        self.secrets.insert(path, secret);
        Ok(())
    }

    /// Demands that every key which counts is known as used.
    fn check_keys(&self) -> Result<()> {
        let machines = self.machines.all().values();
        let machines = machines.flat_map(|it| [it.sign.as_bytes(), it.recipient.as_bytes()]);
        let mut keys = self
            .admins
            .values()
            .chain(&self.server)
            .chain([&self.root])
            .map(VerifyKey::as_bytes)
            .chain([self.recovery.as_bytes()])
            .chain(machines);
        if keys.all(|key| self.used_keys.contains(key)) {
            return Ok(());
        }
        Err(Code::Key.because("a state with a key that it does not know as used"))
    }
}

#[cfg(test)]
mod tests;
