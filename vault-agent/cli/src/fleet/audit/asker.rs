//! Who asked: the machine that a record names, or whose the key is that it names instead. Which
//! records there are lives in `query`.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use shared::audit::Record;

use crate::client::{Client, Error};
use machine::local::{MACHINES, MachineRow, Machines};

/// The keys of the vault's machines, asked for when the first record names a key.
pub struct Askers<'a> {
    client: &'a Client,
    names: OnceCell<BTreeMap<String, String>>,
}

impl<'a> Askers<'a> {
    /// Knows nobody yet.
    pub fn new(client: &'a Client) -> Self {
        Self { client, names: OnceCell::new() }
    }

    /// Returns who asked, `-` if that is not known: a machine's name, `NAME (removed)`, or the
    /// start of a key that never was a machine's.
    pub fn name(&self, record: &Record) -> Result<String, Error> {
        Ok(match (&record.fact.machine, &record.fact.key) {
            (Some(machine), _) => machine.to_string(),
            (None, Some(key)) => match self.names()?.get(key.as_str()) {
                Some(name) => name.clone(),
                None => format!("key {}", key.as_str().chars().take(8).collect::<String>()),
            },
            (None, None) => "-".to_owned(),
        })
    }

    fn names(&self) -> Result<&BTreeMap<String, String>, Error> {
        if let Some(names) = self.names.get() {
            return Ok(names);
        }
        let all: Machines = self.client.get(MACHINES, &[])?;
        let names = all.machines.iter().map(|machine| (machine.sign.to_string(), name(machine)));
        Ok(self.names.get_or_init(|| names.collect()))
    }
}

fn name(machine: &MachineRow) -> String {
    let MachineRow { name, active, .. } = machine;
    if *active { name.to_string() } else { format!("{name} (removed)") }
}
