//! A record in words: which machine asked, and what was done. What an owner did is told by the
//! verified log entry that it made, never by the server.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use shared::audit::{Applied, Fact, HookRun, Kind, Op, Outcome, Record};

use super::pages::Line;
use super::when::seconds;
use crate::client::{Client, Error};
use machine::local::{
    ENTRIES, Entries, EntriesQuery, EntryTold, LOG, MACHINES, MachineRow, Machines, OpTold,
};
use machine::who;

/// Columns of records as people read them.
pub const HEADER: [&str; 4] = ["TIME", "MACHINE", "WHO", "WHAT"];

/// What the agent knows of those who asked and of what was done.
pub struct Words<'a> {
    client: &'a Client,
    /// By key; asked for when the first record names one.
    machines: OnceCell<BTreeMap<String, Holder>>,
    /// Entries that the records at hand are about, by number.
    entries: RefCell<BTreeMap<u64, EntryTold>>,
}

/// Whose a key is.
struct Holder {
    name: String,
    active: bool,
}

impl<'a> Words<'a> {
    pub fn new(client: &'a Client) -> Self {
        Self { client, machines: OnceCell::new(), entries: RefCell::default() }
    }

    /// Asks for the entries that the records are about; those of earlier ones are forgotten.
    pub fn learn(&self, lines: &[Line]) -> Result<(), Error> {
        let records = lines.iter().map(|line| &line.record);
        let told = records.filter(|record| is_act(record) || record.fact.op == Op::Deliver);
        let due: BTreeSet<u64> = told.filter_map(|record| record.fact.seq).collect();
        let due: Vec<u64> = due.into_iter().collect();
        let mut known = BTreeMap::new();
        for some in due.chunks(usize::try_from(ENTRIES).unwrap_or(1)) {
            let only: Vec<String> = some.iter().map(ToString::to_string).collect();
            let query = EntriesQuery { only: Some(only.join(",")), ..EntriesQuery::default() };
            let told: Entries = self.client.get(LOG, &query.parameters())?;
            known.extend(told.entries.into_iter().map(|entry| (entry.seq, entry)));
        }
        *self.entries.borrow_mut() = known;
        Ok(())
    }

    /// Returns which machine asked, `-` if that is not known: a machine's name, `NAME (removed)`,
    /// or the start of a key that never was a machine's.
    pub fn machine(&self, record: &Record) -> Result<String, Error> {
        Ok(match (&record.fact.machine, &record.fact.key) {
            (Some(machine), _) => machine.to_string(),
            (None, Some(key)) => match self.holder(key.as_str())? {
                Some(Holder { name, active: true }) => name.clone(),
                Some(Holder { name, active: false }) => format!("{name} (removed)"),
                None => format!("key {}", key.as_str().chars().take(8).collect::<String>()),
            },
            (None, None) => "-".to_owned(),
        })
    }

    /// Tells whether a record is of a machine that knocked before it was added: no key is ever an
    /// active machine's again.
    fn was_early(&self, fact: &Fact) -> Result<bool, Error> {
        let (Op::Stranger, Some(key)) = (&fact.op, &fact.key) else { return Ok(false) };
        Ok(self.holder(key.as_str())?.is_some_and(|holder| holder.active))
    }

    /// Tells whether somebody was refused, by all that is known here.
    pub fn is_refusal(&self, record: &Record) -> Result<bool, Error> {
        Ok(record.fact.is_refusal() && !self.was_early(&record.fact)?)
    }

    fn holder(&self, key: &str) -> Result<Option<&Holder>, Error> {
        if let Some(known) = self.machines.get() {
            return Ok(known.get(key));
        }
        let all: Machines = self.client.get(MACHINES, &[])?;
        let named = |row: MachineRow| {
            (row.sign.to_string(), Holder { name: row.name.to_string(), active: row.active })
        };
        let known = self.machines.get_or_init(|| all.machines.into_iter().map(named).collect());
        Ok(known.get(key))
    }

    /// Tells what was done, and what came of it unless it was done as asked.
    pub fn what(&self, record: &Record) -> Result<String, Error> {
        let fact = &record.fact;
        if self.was_early(fact)? {
            return Ok(format!("asked before it was added{}", times(fact)));
        }
        let told = self.act(record).or_else(|| applied(fact));
        let told = told.unwrap_or_else(|| did(fact) + self.way(fact));
        let did = format!("{told}{}", times(fact));
        let told = match &fact.result {
            Outcome::Ok => did,
            result if fact.is_refusal() => format!("refused ({result}): {did}"),
            result => format!("{did}: {result}"),
        };
        let reason = fact.reason.as_ref().map(|reason| format!("; reason: {reason}"));
        Ok(told + &reason.unwrap_or_default())
    }

    /// Tells what the entry did that a record names; several acts of one kind together.
    fn act(&self, record: &Record) -> Option<String> {
        let (entries, op) = (self.entries.borrow(), record.fact.op.as_str());
        let told = entries.get(&record.fact.seq?)?.ops.iter().filter(|told| told.op == op);
        let told: Vec<&str> = told.map(|told| told.what.as_str()).collect();
        (is_act(record) && !told.is_empty()).then(|| told.join("; "))
    }

    /// Tells in which way a copy came to a machine: re-encrypted versions come again.
    fn way(&self, Fact { op, path, seq, .. }: &Fact) -> &'static str {
        let entries = self.entries.borrow();
        let entry = seq.and_then(|seq| entries.get(&seq));
        let is_new = |entry: &EntryTold| {
            let put = |told: &OpTold| told.op == "put" && told.path == *path;
            entry.more > 0 || entry.rewraps == 0 || entry.ops.iter().any(put)
        };
        match op {
            Op::Deliver if entry.is_none_or(is_new) => " (delivered)",
            Op::Deliver => " (re-encrypted)",
            Op::Read => " (fetched)",
            _ => "",
        }
    }

    /// Lays a record out for a table.
    pub fn cells(&self, record: &Record) -> Result<Vec<String>, Error> {
        let (machine, what) = (self.machine(record)?, self.what(record)?);
        Ok(vec![seconds(record.time), machine, who::shown(record), what])
    }
}

/// Tells whether a record is of something that an owner did, or that changed the vault itself.
fn is_act(record: &Record) -> bool {
    record.fact.op.kind() == Kind::Act
}

fn times(fact: &Fact) -> String {
    fact.count.filter(|count| *count > 1).map(|count| format!(" ×{count}")).unwrap_or_default()
}

/// Tells which version a target file has got and how its hook ended, as its machine tells it.
fn applied(Fact { op, applied, ver, .. }: &Fact) -> Option<String> {
    let Applied { file, found, hook } = applied.as_ref().filter(|_| *op == Op::LocalApplied)?;
    let did = match (ver, found) {
        (Some(ver), false) => format!("wrote {file} (v{ver})"),
        (Some(ver), true) => format!("found {file} to be right (v{ver})"),
        (None, _) => format!("removed {file}"),
    };
    Some(hook.as_ref().map_or_else(|| did.clone(), |hook| format!("{did}, {}", hook_told(hook))))
}

/// Tells how a hook ended, and how long it took.
pub fn hook_told(hook: &HookRun) -> String {
    let took = hook.took().map(|took| format!("{:.1} s", took.as_secs_f64()));
    match (&hook.failed, took) {
        (None, Some(took)) => format!("hook ok in {took}"),
        (None, None) => "hook ok".to_owned(),
        (Some(why), Some(took)) => format!("hook failed after {took}: {why}"),
        (Some(why), None) => format!("hook failed: {why}"),
    }
}

/// Tells what a fact says without the log: operation, secret and version.
pub fn did(fact: &Fact) -> String {
    let Fact { op, path, ver, seq, .. } = fact;
    let verb = match op {
        Op::Read | Op::Deliver | Op::LocalRead => "read",
        Op::Put | Op::LocalPut => "wrote",
        Op::LocalPatch => "patched",
        Op::Rewrap => "re-encrypted",
        Op::Delete | Op::LocalDelete => "deleted",
        Op::Undelete | Op::LocalUndelete => "undeleted",
        Op::Destroy | Op::LocalDestroy => "destroyed",
        Op::Forget | Op::LocalForget => "dropped",
        Op::MetaSet | Op::LocalMetaSet => "set the metadata of",
        Op::LocalMetadata => "saw the metadata of",
        Op::LocalList => "listed",
        Op::LocalSubkeys => "saw the keys of",
        Op::LocalApplied => "wrote a file with",
        Op::Log => "read the log",
        Op::Follow => "followed the log",
        Op::AuditRead => "read the audit log",
        Op::AuditLeaves => "checked the audit log",
        Op::Targets => "asked how all machines stand",
        Op::Report => "reported how it stands",
        Op::BlobPut => "brought ciphertext",
        Op::Genesis => "made the vault",
        Op::Heal => "gave lost data back",
        Op::Clone => "used its keys from two places",
        Op::Join => "asked to join",
        Op::Stranger => "asked with a key of no machine",
        Op::Request => "made a request",
        Op::Restored => "showed that the server was set back",
        other => other.as_str(),
    };
    let mut text = verb.to_owned();
    if let Some(path) = path {
        text.push_str(&format!(" {path}"));
    }
    if let Some(ver) = ver.filter(|ver| *ver > 0) {
        text.push_str(&format!(" v{ver}"));
    }
    // An act whose entry this agent does not hold.
    if let (None, Some(seq)) = (path, seq) {
        text.push_str(&format!(" (entry {seq})"));
    }
    text
}
