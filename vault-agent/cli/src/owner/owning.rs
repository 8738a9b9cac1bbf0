//! What owner commands share: the machine's pins, the admin's file, the agent behind the client.

use std::path::PathBuf;

use anyhow::{Result, bail};
use shared::grant::Grants;
use shared::log::Op;
use shared::name::Name;
use shared::path::demand_nfc;

use crate::client::{Client, Error};
use crate::context::Global;
use crate::owner::signing::act::{Act, Agent, Sent, carry_out};
use crate::owner::signing::admin::AdminFile;
use crate::owner::signing::passphrase::Source;
use host::hint::Failure;
use host::hint::parsed;
use machine::identity::Pins;
use machine::local::{
    MACHINES, MachineRow, Machines, PREPARE, PrepareRequest, Prepared, SUBMIT, SubmitRequest,
    Submitted,
};
use machine::paths::Paths;

/// Status of a submission that came too late.
const CONFLICT: u16 = 409;

/// Who signs, and whether he is asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Signing {
    /// Sign as this admin, if this machine holds several keys
    #[arg(long, value_name = "NAME")]
    pub admin: Option<String>,

    /// Read the passphrase of the admin key from the first line of a file [env:
    /// VAULT_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,

    /// Sign without asking
    #[arg(long, short)]
    pub yes: bool,
}

/// Access lists on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Lists {
    /// Let it read what this prefix covers: `*`, a path, or a path and `/`; repeatable
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    pub read: Vec<String>,

    /// Let it write what this prefix covers; repeatable
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    pub write: Vec<String>,
}

impl Lists {
    /// Reads both lists.
    ///
    /// # Errors
    /// Names the first prefix that breaks the grammar.
    pub fn parsed(&self) -> Result<(Grants, Grants), Failure> {
        let read = |list: &[String]| {
            // An empty text is an empty list, said out loud.
            let list: Vec<&String> = list.iter().filter(|prefix| !prefix.is_empty()).collect();
            let parsed = list.iter().try_for_each(|prefix| demand_nfc(prefix));
            parsed.and_then(|()| Grants::parse(&list)).map_err(|fault| {
                Failure::local(fault.to_string()).hint(
                    "write `*`, a path such as secret/app/db, or a folder with `/` at its end such \
                     as secret/app/",
                )
            })
        };
        Ok((read(&self.read)?, read(&self.write)?))
    }

    /// Tells whether neither list holds anything.
    #[must_use]
    pub fn are_empty(&self) -> bool {
        self.read.iter().chain(&self.write).all(String::is_empty)
    }
}

/// Returns where this machine's state is.
///
/// # Errors
/// If nothing tells where it is.
pub fn paths(global: &Global) -> Result<Paths> {
    global.paths()
}

/// Returns where passphrases come from.
#[must_use]
pub fn passphrase(flag: Option<PathBuf>, global: &Global) -> Source {
    Source::new(flag.or_else(|| global.env("VAULT_PASSPHRASE_FILE").map(PathBuf::from)))
}

/// An owner at this machine.
pub struct Owner<'a> {
    global: &'a Global,
    /// The machine's pins.
    pub pins: Pins,
    admin: AdminFile,
    passphrase: Source,
    yes: bool,
    client: Client,
}

impl<'a> Owner<'a> {
    /// Finds pins and admin file; opens nothing yet.
    ///
    /// # Errors
    /// If this host belongs to no vault or holds no admin key.
    pub fn at(global: &'a Global, signing: &Signing) -> Result<Self> {
        let paths = paths(global)?;
        let Some(pins) = Pins::load(&paths)? else {
            bail!(
                Failure::local(format!(
                    "this host belongs to no vault (`{}`)",
                    paths.state.display()
                ))
                .hint("make one with `vault init`, or name the state with `--state DIR`")
            );
        };
        let wanted: Option<Name> =
            signing.admin.as_ref().map(|name| parsed(name.parse())).transpose()?;
        Ok(Self {
            admin: AdminFile::find(&paths, wanted.as_ref())?,
            passphrase: passphrase(signing.passphrase_file.clone(), global),
            yes: signing.yes,
            client: global.client()?,
            global,
            pins,
        })
    }

    /// Asks the agent for all machines.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn machines(&self) -> Result<Machines> {
        Ok(self.client.get(MACHINES, &[])?)
    }

    /// Carries out `ops`; `None` if the person says no.
    ///
    /// # Errors
    /// See [`carry_out`].
    pub fn sign(&self, ops: Vec<Op>, again: Vec<Op>) -> Result<Option<Submitted>> {
        let act = Act {
            vault: self.pins.vault,
            admin: &self.admin,
            passphrase: &self.passphrase,
            ops,
            again,
            yes: self.yes,
        };
        carry_out(&act, self, &self.global.term, || self.global.now())
    }
}

impl Agent for Owner<'_> {
    fn prepare(&self, request: &PrepareRequest) -> Result<Prepared> {
        Ok(self.client.post(PREPARE, request)?)
    }

    fn submit(&self, request: &SubmitRequest) -> Result<Sent> {
        match self.client.post(SUBMIT, request) {
            Ok(done) => Ok(Sent::Done(done)),
            Err(Error::Refused(refusal)) if refusal.status == CONFLICT => Ok(Sent::Moved),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// Returns the active machine `name`.
#[must_use]
pub fn active<'a>(machines: &'a Machines, name: &Name) -> Option<&'a MachineRow> {
    machines.machines.iter().find(|row| row.active && row.name == *name)
}

/// Says that there is no such machine, and which there are.
#[must_use]
pub fn no_machine(machines: &Machines, name: &Name) -> Failure {
    let names = machines.machines.iter().filter(|row| row.active).map(|row| row.name.as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    Failure::remote(format!("there is no machine `{name}`")).hint(format!("there are: {names}"))
}
