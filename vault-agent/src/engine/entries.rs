//! Entries of the verified log in words, with the names, keys and access that machines had then:
//! what an owner did is told by what they signed, not by what a server says of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use host::store::checkpoint;
use rusqlite::Connection;
use shared::grant::Grants;
use shared::keys::VerifyKey;
use shared::log::{Entry, Genesis, Machine, Number, Op, Rekey, State};
use shared::name::{Actor, Name};
use shared::signed::{Envelope, Purpose, VaultId, parse_strict};

use super::parts::Parts;
use super::told;
use crate::state::log;
use machine::local::{ENTRIES, Entries, EntriesQuery, EntryTold, OpTold};

/// Operations told of one entry among others.
const TOLD: usize = 16;

pub(super) async fn tell(parts: &Parts, query: EntriesQuery) -> Result<Entries> {
    let vault = parts.own.pins.vault;
    parts.store.read(move |conn| Ok(told(conn, vault, &query))).await?
}

fn told(conn: &Connection, vault: VaultId, query: &EntriesQuery) -> Result<Entries> {
    let last = log::head(conn)?.map_or(0, |(seq, _)| seq);
    let mut due = wanted(query, last);
    let mut entries = Vec::new();
    let (mut past, genesis, begins) = Past::beginning(conn, vault)?;
    entries.extend(genesis.filter(|_| due.remove(&0)));
    due.retain(|seq| *seq > begins);
    let upto = due.last().copied().unwrap_or(0);
    // Machines sign no entry that changes who is who: theirs are read where they are asked for.
    log::by_owners(conn, begins, upto, |seq, envelope| {
        while let Some(first) = due.first().copied().filter(|first| *first < seq) {
            due.remove(&first);
            entries.extend(past.one(conn, vault, first, query.whole)?);
        }
        let entry = past.entry(vault, envelope, query.whole)?;
        entries.extend(due.remove(&seq).then_some(entry));
        Ok(())
    })?;
    for seq in due {
        entries.extend(past.one(conn, vault, seq, query.whole)?);
    }
    Ok(Entries { entries, last, begins: Some(begins).filter(|last| *last > 0) })
}

/// Returns the numbers of the entries that are asked for.
fn wanted(query: &EntriesQuery, last: u64) -> BTreeSet<u64> {
    let most = usize::try_from(ENTRIES).unwrap_or(usize::MAX);
    if let Some(only) = &query.only {
        let numbers = only.split(',').filter_map(|number| number.parse().ok());
        return numbers.filter(|number| *number <= last).take(most).collect();
    }
    let end = query.before.unwrap_or(u64::MAX).min(last.saturating_add(1));
    let limit = query.limit.unwrap_or(ENTRIES).min(ENTRIES);
    (end.saturating_sub(limit)..end).collect()
}

/// What was known of a machine.
#[derive(Clone)]
struct Known {
    name: Name,
    key: VerifyKey,
    read: Grants,
    write: Grants,
    active: bool,
}

/// Who was who, as of the entry that is told.
#[derive(Default)]
pub(super) struct Past {
    root: Option<VerifyKey>,
    admins: BTreeMap<Name, VerifyKey>,
    machines: BTreeMap<Number, Known>,
}

impl Past {
    /// Returns who was who where the log begins, the genesis in words, and the last entry that a
    /// checkpoint stands for, 0 if none does.
    pub(super) fn beginning(
        conn: &Connection,
        vault: VaultId,
    ) -> Result<(Self, Option<EntryTold>, u64)> {
        let mut past = Self::default();
        let genesis = log::entry(conn, 0)?;
        let genesis = genesis.map(|genesis| past.begin(vault, &genesis)).transpose()?;
        Ok(match checkpoint::start(conn)? {
            Some(state) => (Self::of(&state), genesis, state.seq()),
            None => (past, genesis, 0),
        })
    }

    /// Returns who is who in a state.
    fn of(state: &State) -> Self {
        let known = |(number, machine): (&Number, &Machine)| {
            let Machine { name, sign, read, write, active, .. } = machine.clone();
            (*number, Known { name, key: sign, read, write, active })
        };
        Self {
            root: state.key(&Actor::Root).cloned(),
            admins: state.admins().clone(),
            machines: state.machines().iter().map(known).collect(),
        }
    }

    /// Starts with the genesis, and tells it.
    fn begin(&mut self, vault: VaultId, envelope: &Envelope) -> Result<EntryTold> {
        let genesis: Genesis = parse_strict(&envelope.body)?;
        let admins: Vec<String> = genesis.admins.keys().map(|name| format!("`{name}`")).collect();
        let what = format!("made the vault `{}` with admin {}", genesis.name, admins.join(", "));
        let Genesis { time, root, admins, .. } = genesis;
        (self.root, self.admins) = (Some(root.clone()), admins);
        let op = OpTold { op: "genesis".to_owned(), what, path: None, ver: None };
        let (by, prev) = (envelope.by.clone(), shared::hash::Hash::ZERO);
        let (key, ops) = (Some(root), vec![op]);
        Ok(EntryTold { seq: 0, hash: vault, prev, time, by, key, ops, rewraps: 0, more: 0 })
    }

    /// Tells an entry that is asked for by its number.
    fn one(
        &mut self,
        conn: &Connection,
        vault: VaultId,
        seq: u64,
        whole: bool,
    ) -> Result<Option<EntryTold>> {
        let Some(envelope) = log::entry(conn, seq)? else { return Ok(None) };
        self.entry(vault, &envelope, whole).map(Some)
    }

    /// Tells an entry, and takes up what it changes.
    pub(super) fn entry(
        &mut self,
        vault: VaultId,
        envelope: &Envelope,
        whole: bool,
    ) -> Result<EntryTold> {
        let purpose = Purpose::Entry(vault);
        let key = self.key(&envelope.by).filter(|key| envelope.verify(key, purpose).is_ok());
        let key = key.cloned();
        let entry: Entry = parse_strict(&envelope.body).context("an entry of the own log")?;
        let Entry { seq, prev, time, by, ops } = entry;
        let (mut told, mut rewraps, mut more) = (Vec::new(), 0, 0);
        for op in &ops {
            let is_rewrap = matches!(op, Op::Rewrap(_));
            rewraps += u64::from(is_rewrap);
            if whole || (!is_rewrap && told.len() < TOLD) {
                told.push(self.op(op));
            } else if !is_rewrap {
                more += 1;
            }
            self.step(op);
        }
        let hash = envelope.hash(purpose);
        Ok(EntryTold { seq, hash, prev, time, by, key, ops: told, rewraps, more })
    }

    /// Returns the key of a signer.
    fn key(&self, by: &Actor) -> Option<&VerifyKey> {
        match by {
            Actor::Root => self.root.as_ref(),
            Actor::Admin(name) => self.admins.get(name),
            Actor::Machine(name) => {
                let named = |known: &&Known| known.active && known.name == *name;
                self.machines.values().find(named).map(|known| &known.key)
            }
        }
    }

    pub(super) fn name(&self, number: Number) -> String {
        let known = self.machines.get(&number);
        known.map_or_else(|| told::unnamed(number), |known| known.name.to_string())
    }

    /// Returns what a machine read and wrote.
    pub(super) fn access(&self, number: Number) -> Option<(Grants, Grants)> {
        let known = self.machines.get(&number)?;
        Some((known.read.clone(), known.write.clone()))
    }

    /// Tells an operation.
    fn op(&self, op: &Op) -> OpTold {
        let ver = match op {
            Op::Put(put) | Op::Rewrap(put) => Some(put.ver),
            _ => None,
        };
        OpTold { op: op.name().to_owned(), what: self.what(op), path: op.path().cloned(), ver }
    }

    fn what(&self, op: &Op) -> String {
        let before = match op {
            Op::AccessSet(access) => self.machines.get(&access.number),
            _ => None,
        };
        let before = before.map(|known| (&known.read, &known.write));
        told::operation(op, &|number| self.name(number), before)
    }

    /// Takes up what an operation changes.
    fn step(&mut self, op: &Op) {
        match op {
            Op::AdminAdd { name, key } => {
                self.admins.insert(name.clone(), key.clone());
            }
            Op::AdminRemove { name } => {
                self.admins.remove(name);
            }
            Op::RootSet { key } => self.root = Some(key.clone()),
            Op::MachineAdd(new) => {
                let (name, key) = (new.name.clone(), new.sign.clone());
                let (read, write) = (new.read.clone(), new.write.clone());
                self.machines.insert(new.number, Known { name, key, read, write, active: true });
            }
            Op::MachineRename { number, to } => self.change(*number, |it| it.name = to.clone()),
            Op::MachineRekey(Rekey { number, new_number, sign, .. }) => {
                let Some(known) = self.machines.get(number).cloned() else { return };
                self.change(*number, |it| it.active = false);
                self.machines.insert(*new_number, Known { key: sign.clone(), ..known });
            }
            Op::MachineRemove { number, .. } => self.change(*number, |it| it.active = false),
            Op::AccessSet(access) => self.change(access.number, |it| {
                (it.read, it.write) = (access.read.clone(), access.write.clone());
            }),
            _ => {}
        }
    }

    fn change(&mut self, number: Number, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.machines.get_mut(&number) {
            change(known);
        }
    }
}
