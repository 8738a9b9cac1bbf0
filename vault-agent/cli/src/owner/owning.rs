//! What owner commands share: who signs, lists of access, and finding a machine. Signing itself
//! lives in `signing`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use shared::grant::{Grant, Grants};
use shared::name::Name;
use shared::path::{SecretPath, demand_nfc};

use crate::client::Error;
use crate::context::Global;
use crate::owner::signing::passphrase::Source;
use host::hint::Failure;
use machine::config::Config;
use machine::identity::Pins;
use machine::local::{MachineRow, Machines, PATHS, SERVER, ServerView};

/// Who signs, and whether they are asked.
#[derive(Debug, Default, clap::Args)]
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
#[derive(Debug, clap::Args)]
pub struct Lists {
    /// Let it read what this prefix covers: `*`, a path, or a path and `/`; repeatable
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    pub read: Vec<String>,

    /// Let it write what this prefix covers; repeatable
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    pub write: Vec<String>,
}

impl Lists {
    /// Reads both lists, and says which prefixes cover nothing yet.
    ///
    /// # Errors
    /// Names the first prefix that breaks the grammar, or covers nothing where something else was
    /// meant: a folder without its `/`.
    pub fn parsed(&self, global: &Global) -> Result<(Grants, Grants)> {
        let (read, write) = (grants(&self.read)?, grants(&self.write)?);
        let all: BTreeSet<&Grant> = read.as_slice().iter().chain(write.as_slice()).collect();
        let all = all.into_iter().filter(|it| !is_reserved(it)).collect::<Vec<_>>();
        if all.is_empty() {
            return Ok((read, write));
        }
        let paths: Vec<SecretPath> = match global.client()?.get(PATHS, &[]) {
            Ok(paths) => paths,
            Err(Error::Refused(refusal)) if refusal.status == NO_ROUTE => return Ok((read, write)),
            Err(fault) => return Err(fault.into()),
        };
        for prefix in all {
            if paths.iter().any(|path| prefix.covers(path)) {
                continue;
            }
            let folder = format!("{prefix}/");
            match paths.iter().filter(|path| path.as_str().starts_with(&folder)).count() {
                0 => global.term.say(format!("there is nothing at `{prefix}` yet")),
                count => {
                    let secrets = if count == 1 { "secret" } else { "secrets" };
                    let text = format!(
                        "there is no secret `{prefix}`; the folder is `{folder}`, with {count} \
                         {secrets}"
                    );
                    return Err(Failure::local(text)
                        .hint("a folder has `/` at its end: all that is below it")
                        .into());
                }
            }
        }
        Ok((read, write))
    }
}

/// Tells whether a prefix is for more than secrets: for everything, or for what the vault keeps of
/// itself.
fn is_reserved(prefix: &Grant) -> bool {
    prefix.as_str() == "*" || prefix.as_str().starts_with("sys/")
}

/// Reads a list of prefixes.
fn grants(list: &[String]) -> Result<Grants, Failure> {
    // An empty text is an empty list, said out loud.
    let list: Vec<&String> = list.iter().filter(|prefix| !prefix.is_empty()).collect();
    // It would be a letter of a name, and so cover next to nothing.
    if let Some(starred) = list.iter().find(|prefix| prefix.len() > 1 && prefix.contains('*')) {
        let text = format!("`{starred}`: `*` stands alone, for everything");
        let hint = match starred.strip_suffix('*').filter(|it| it.ends_with('/')) {
            Some(folder) if !folder.contains('*') => {
                format!("`{folder}` is all that is below that folder")
            }
            Some(_) | None => "a folder with `/` at its end is all that is below it".to_owned(),
        };
        return Err(Failure::local(text).hint(hint));
    }
    let parsed = list.iter().try_for_each(|prefix| demand_nfc(prefix));
    parsed.and_then(|()| Grants::parse(&list)).map_err(|fault| {
        Failure::local(fault.to_string()).hint(
            "write `*`, a path such as secret/app/db, or a folder with `/` at its end such as \
             secret/app/",
        )
    })
}

/// Returns where passphrases come from: the flag's file, the environment's, or the terminal.
pub fn passphrase(flag: Option<PathBuf>, global: &Global) -> Source {
    let file = flag.or_else(|| global.env("VAULT_PASSPHRASE_FILE").map(PathBuf::from));
    file.map_or(Source::Terminal, Source::File)
}

/// Status of a route that an agent does not know.
const NO_ROUTE: u16 = 404;

/// Returns where machines find the server: as owners have said in the log, else as this machine is
/// configured, else as it has pinned.
pub fn server_addresses(global: &Global, pins: &Pins) -> Result<Vec<String>> {
    let listed = match global.client()?.get::<ServerView>(SERVER, &[]) {
        Ok(view) => view.addresses,
        Err(Error::Refused(refusal)) if refusal.status == NO_ROUTE => Vec::new(),
        Err(fault) => return Err(fault.into()),
    };
    if !listed.is_empty() {
        return Ok(listed.iter().map(ToString::to_string).collect());
    }
    let configured = Config::load_or_default(&global.paths()?.config)?.server;
    Ok(if configured.is_empty() { pins.addresses.clone() } else { configured })
}

/// Returns the active machine `name`, or says which there are.
pub fn active<'a>(machines: &'a Machines, name: &Name) -> Result<&'a MachineRow, Failure> {
    let active = || machines.machines.iter().filter(|row| row.active);
    active().find(|row| row.name == *name).ok_or_else(|| {
        let names = active().map(|row| row.name.as_str()).collect::<Vec<_>>().join(", ");
        Failure::remote(format!("there is no machine `{name}`")).hint(format!("there are: {names}"))
    })
}
