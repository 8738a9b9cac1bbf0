//! The signing of an owner's act: the agent prepares, the bodies are checked here, a person is
//! shown in plain words what will be signed and says yes, the key is unlocked, each entry is
//! signed and submitted. When the log has moved on meanwhile, all but the question is repeated.

use anyhow::{Result, bail};
use shared::log::Op;
use shared::signed::VaultId;
use shared::time::Time;

use super::admin::{AdminFile, AdminKey};
use super::check::{Asked, Checked, check};
use super::passphrase::Source;
use super::words;
use host::hint::{Exit, Failure};
use host::term::Term;
use machine::local::{PrepareRequest, Prepared, SubmitRequest, Submitted};

/// Times that an act is prepared anew because others wrote meanwhile.
const TRIES: usize = 8;

/// The agent that prepares and submits; nothing it says is believed unchecked.
pub trait Agent {
    /// Builds the entries to sign.
    ///
    /// # Errors
    /// If a rule forbids the operations, or the agent does not answer.
    fn prepare(&self, request: &PrepareRequest) -> Result<Prepared>;

    /// Sends one signed entry to the server.
    ///
    /// # Errors
    /// If a rule forbids it, or nobody knows what became of it.
    fn submit(&self, request: &SubmitRequest) -> Result<Sent>;
}

/// What became of a signed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the log.
    Done(Submitted),
    /// The log moved on; the entry is void.
    Moved,
}

/// An owner's act.
#[derive(Debug)]
pub struct Act<'a> {
    /// The vault of this machine.
    pub vault: VaultId,
    /// The admin who signs.
    pub admin: &'a AdminFile,
    /// Where his passphrase comes from.
    pub passphrase: &'a Source,
    /// What is to be done.
    pub ops: Vec<Op>,
    /// What is to be done instead once `ops` are in the log and only re-encryptions are left:
    /// operations that change nothing any more, but make the same re-encryptions necessary; none,
    /// where these are all that are due in the vault.
    pub again: Vec<Op>,
    /// Whether the person has said yes already.
    pub yes: bool,
}

/// Carries out an act; `None` when the person says no.
///
/// # Errors
/// If the agent prepares anything but what was asked for, nobody can be asked, the key does not
/// unlock, or the entry is refused.
pub fn carry_out(
    act: &Act<'_>,
    agent: &dyn Agent,
    term: &Term,
    now: impl Fn() -> Time,
) -> Result<Option<Submitted>> {
    let mut ops = act.ops.clone();
    let mut key: Option<AdminKey> = None;
    let mut first: Option<Submitted> = None;
    for _ in 0..TRIES {
        let checked = prepare(act, &ops, agent, key.is_none().then_some(term), &now)?;
        let key = match &mut key {
            Some(key) => key,
            none => {
                if !agreed(act, &checked, term)? {
                    return Ok(None);
                }
                none.insert(act.admin.unlock(act.passphrase, act.vault)?)
            }
        };
        let (sent, whole) = submit(checked, key, agent)?;
        first = first.or(sent);
        match first {
            Some(done) if whole => return Ok(Some(done)),
            // What was asked for is in the log; what is left are re-encryptions.
            Some(_) => ops.clone_from(&act.again),
            None => {}
        }
    }
    bail!(
        Failure {
            exit: Exit::REMOTE,
            ..Failure::local("the log moves on faster than it can be signed for")
        }
        .hint("try again when fewer changes are being made")
    )
}

/// Has the agent prepare, and checks that it prepared just that.
fn prepare(
    act: &Act<'_>,
    ops: &[Op],
    agent: &dyn Agent,
    warn: Option<&Term>,
    now: &impl Fn() -> Time,
) -> Result<Vec<Checked>> {
    let by = shared::name::Actor::Admin(act.admin.name.clone());
    let request = PrepareRequest { ops: ops.to_vec(), actor: by.clone() };
    let prepared = agent.prepare(&request)?;
    let bodies = prepared.bodies.into_iter().map(|body| body.0).collect();
    let asked = Asked { vault: act.vault, by: &by, ops, now: now() };
    let checked = check(&asked, bodies).map_err(|fault| {
        let hint = fault.hint();
        Failure::local(format!("the agent did not prepare what was asked for: {fault}")).hint(hint)
    })?;
    if let (Some(term), false) = (warn, prepared.unreadable.is_empty()) {
        term.say("this machine cannot read, and so does not re-encrypt:");
        for version in &prepared.unreadable {
            term.say(format!("  {} version {}", version.path, version.ver));
        }
    }
    Ok(checked)
}

/// Shows what will be signed and asks.
fn agreed(act: &Act<'_>, checked: &[Checked], term: &Term) -> Result<bool> {
    term.say(format!("`{}` signs for vault {}:", act.admin.name, act.vault.short()));
    for line in words::act(checked) {
        term.say(format!("  {line}"));
    }
    if act.yes {
        return Ok(true);
    }
    if !term.in_is_tty {
        bail!(
            Failure::local("there is no terminal to agree at")
                .hint("pass `--yes` in scripts; nothing was signed")
        );
    }
    term.say("Sign this? [y/N]");
    let answer = term.read_line()?.unwrap_or_default();
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes" | "j" | "ja");
    if !yes {
        term.say("nothing was signed");
    }
    Ok(yes)
}

/// Signs and submits entry by entry; tells what became of the first, and whether all went in.
fn submit(
    checked: Vec<Checked>,
    key: &AdminKey,
    agent: &dyn Agent,
) -> Result<(Option<Submitted>, bool)> {
    let mut first = None;
    for one in checked {
        let envelope = key.sign_entry(one.body);
        match agent.submit(&SubmitRequest { envelope })? {
            Sent::Done(done) => {
                first.get_or_insert(done);
            }
            Sent::Moved => return Ok((first, false)),
        }
    }
    Ok((first, true))
}

#[cfg(test)]
mod tests;
