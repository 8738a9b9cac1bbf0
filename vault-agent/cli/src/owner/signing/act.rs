//! The signing of an owner's act: the agent prepares, the bodies are checked here, a person is
//! shown in plain words what will be signed and says yes, the key is unlocked, each entry is
//! signed and submitted. When the log has moved on meanwhile, all but the question is repeated;
//! when somebody has changed the very thing, the person looks at it again and is asked again.

use anyhow::{Context as _, Result, bail};
use shared::error::Code;
use shared::keys::SignKey;
use shared::log::{Entry, Op};
use shared::name::Actor;
use shared::signed::Envelope;

use super::admin::AdminFile;
use super::check::{Checked, check};
use super::signer::{Opened, Signer};
use super::words;
use crate::client::{Client, Error};
use crate::context::Global;
use crate::owner::owning::{Signing, passphrase};
use host::hint::{Failure, hinted, parsed};
use host::progress::Progress;
use machine::identity::Pins;
use machine::local::{
    MACHINES, Machines, PREPARE, PrepareRequest, Prepared, SUBMIT, SubmitRequest, Submitted,
};

/// Times in a row that an act is prepared anew because others wrote meanwhile.
const TRIES: usize = 8;

/// Times that a person looks again because somebody has changed what they were shown.
const LOOKS: usize = 4;

/// Status of a submission that came too late.
const CONFLICT: u16 = 409;

/// What became of an act.
#[derive(Debug, PartialEq, Eq)]
pub enum Signed {
    /// It is in the log, as the entry named.
    Done(Submitted),
    /// The person said no.
    Declined,
    /// There was nothing to change.
    Needless,
}

/// What the agent makes of an act.
pub enum Preparing {
    /// Entries to sign; none, if no operation was asked for and no re-encryption is due.
    Ready(Prepared),
    /// Somebody has changed what the act replaces (`E_MOVED`).
    Moved,
}

/// The agent that prepares and submits; nothing it says is believed unchecked.
pub trait Agent {
    /// Lists the machines as they are now.
    fn machines(&self) -> Result<Machines>;

    /// Builds the entries to sign.
    fn prepare(&self, request: &PrepareRequest) -> Result<Preparing>;

    /// Sends one signed entry to the server; `None` if the log moved on, and the entry is void.
    fn submit(&self, request: &SubmitRequest) -> Result<Option<Submitted>>;
}

impl Agent for Client {
    fn machines(&self) -> Result<Machines> {
        Ok(self.get(MACHINES, &[])?)
    }

    fn prepare(&self, request: &PrepareRequest) -> Result<Preparing> {
        match self.post(PREPARE, request) {
            Ok(prepared) => Ok(Preparing::Ready(prepared)),
            Err(Error::Refused(refusal)) if refusal.is(Code::Moved) => Ok(Preparing::Moved),
            Err(Error::Refused(refusal)) if refusal.is(Code::UnknownActor) => {
                Err(no_actor(&request.actor).into())
            }
            Err(fault) => Err(fault.into()),
        }
    }

    fn submit(&self, request: &SubmitRequest) -> Result<Option<Submitted>> {
        match self.post(SUBMIT, request) {
            Ok(done) => Ok(Some(done)),
            Err(Error::Refused(refusal)) if refusal.status == CONFLICT => Ok(None),
            Err(Error::Refused(refusal)) if refusal.is(Code::BadSig) => {
                Err(replaced(&request.envelope.by).into())
            }
            Err(fault) => Err(fault.into()),
        }
    }
}

/// An owner at this machine.
pub struct Owner<'a, A = Client> {
    global: &'a Global,
    pub pins: Pins,
    signer: Signer,
    yes: bool,
    /// Whether earlier versions are re-encrypted, too.
    history: bool,
    /// Whether all of an act has to go by one entry.
    at_once: bool,
    agent: A,
}

impl<'a> Owner<'a> {
    /// Finds pins and admin file; opens nothing yet.
    pub fn at(global: &'a Global, signing: &Signing) -> Result<Self> {
        let pins = pins(global)?;
        let wanted = signing.admin.as_ref().map(|name| parsed(name.parse())).transpose()?;
        let file = AdminFile::find(&global.paths()?, wanted.as_ref())?;
        let signer = Signer::Admin(file, passphrase(signing.passphrase_file.clone(), global));
        Self::new(global, pins, signer, signing.yes)
    }

    /// Acts as root, by the recovery kit; `next` is root's key as soon as an entry says so.
    pub fn root(
        global: &'a Global,
        key: SignKey,
        next: Option<SignKey>,
        yes: bool,
    ) -> Result<Self> {
        let signer = Signer::Root { key: Box::new(key), next: next.map(Box::new) };
        Self::new(global, pins(global)?, signer, yes)
    }

    fn new(global: &'a Global, pins: Pins, signer: Signer, yes: bool) -> Result<Self> {
        let (history, at_once, agent) = (false, false, global.client()?);
        Ok(Self { signer, yes, history, at_once, agent, global, pins })
    }

    /// Has earlier versions that are kept re-encrypted, too.
    #[must_use]
    pub fn with_history(self) -> Self {
        Self { history: true, ..self }
    }

    /// Has an act refused that one entry cannot hold: once it is in the log, this machine's agent
    /// sends nothing any more.
    #[must_use]
    pub fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }
}

impl Owner<'_> {
    /// Leaves the agent's state to whoever opens it, until it is asked again.
    pub fn hang_up(&self) {
        self.agent.hang_up();
    }
}

impl<A: Agent> Owner<'_, A> {
    /// Carries out the operations that `plan` makes of the machines as they are now, after showing
    /// a person what they change; none, if there is nothing to change. If somebody changes that
    /// before it is signed, `plan` is asked, and with it the person, again.
    ///
    /// # Errors
    /// If the agent prepares anything but what was asked for, nobody can be asked, the key does
    /// not unlock, or the entry is refused; `E_MOVED` where nobody looks, with `--yes`.
    pub fn sign(&self, mut plan: impl FnMut(&Machines) -> Result<Vec<Op>>) -> Result<Signed> {
        let mut key = None;
        for _ in 0..LOOKS {
            let machines = self.agent.machines()?;
            let ops = plan(&machines)?;
            if ops.is_empty() {
                return Ok(Signed::Needless);
            }
            if let Some(signed) = self.carry_out(ops, None, &machines, &mut key)? {
                return Ok(signed);
            }
            if self.yes {
                break;
            }
            self.global.term.say("somebody has changed this meanwhile; now it is so:");
        }
        bail!(
            Failure::remote(format!("{}: {}", Code::Moved, Code::Moved.sentence()))
                .hint(Code::Moved.hint())
        )
    }

    /// Re-encrypts what earlier acts have left to be, after showing it to a person; nothing if all
    /// of it is done.
    ///
    /// # Errors
    /// As [`Owner::sign`].
    pub fn finish(&self) -> Result<Signed> {
        let machines = self.agent.machines()?;
        let signed = self.carry_out(Vec::new(), None, &machines, &mut None)?;
        Ok(signed.unwrap_or(Signed::Needless))
    }

    /// Signs the re-encryptions that an earlier act has left; `done` may be any entry after it.
    ///
    /// # Errors
    /// If the agent prepares anything else, or an entry is refused.
    pub fn re_encrypt(&self, done: Submitted) -> Result<()> {
        let machines = self.agent.machines()?;
        self.carry_out(Vec::new(), Some(done), &machines, &mut None).map(drop)
    }

    /// Returns who signs.
    pub fn by(&self) -> Actor {
        self.signer.by()
    }

    /// Carries out one entry that was built here: shows it, asks, signs, has it sent, and has what
    /// it leaves stale re-encrypted by further entries.
    ///
    /// # Errors
    /// If nobody can be asked, the key does not unlock, or the entry is refused.
    pub fn sign_entry(
        &self,
        entry: Entry,
        machines: &Machines,
        send: impl FnOnce(Envelope) -> Result<Submitted>,
    ) -> Result<Signed> {
        let body = serde_json::to_vec(&entry).context("writing an entry as JSON")?;
        let checked = [Checked { entry, body }];
        if !self.agreed(&checked, machines, false)? {
            return Ok(Signed::Declined);
        }
        let [checked] = checked;
        let mut key = self.signer.open(self.pins.vault)?;
        let done = send(key.sign(&checked))?;
        key.passed(&checked);
        let signed = self.carry_out(Vec::new(), Some(done), machines, &mut Some(key))?;
        Ok(signed.unwrap_or(Signed::Done(done)))
    }

    /// Carries out one entry that `build` makes of the log as it is: shows the first, asks, and
    /// signs. Where others wrote meanwhile it is made anew, and nobody is asked again: it says the
    /// same of another place.
    ///
    /// # Errors
    /// If nobody can be asked, the key does not unlock, or the entry is refused.
    pub fn sign_newest(
        &self,
        machines: &Machines,
        mut build: impl FnMut() -> Result<Entry>,
    ) -> Result<Signed> {
        let mut next = || {
            let entry = build()?;
            let body = serde_json::to_vec(&entry).context("writing an entry as JSON")?;
            Ok::<_, anyhow::Error>(Checked { entry, body })
        };
        let mut checked = next()?;
        if !self.agreed(std::slice::from_ref(&checked), machines, false)? {
            return Ok(Signed::Declined);
        }
        let mut key = self.signer.open(self.pins.vault)?;
        for _ in 0..TRIES {
            let envelope = key.sign(&checked);
            if let Some(done) = self.agent.submit(&SubmitRequest { envelope })? {
                key.passed(&checked);
                return Ok(Signed::Done(done));
            }
            checked = next()?;
        }
        Err(faster().into())
    }

    /// Has the operations prepared, agreed to, signed and submitted, again where others wrote
    /// meanwhile; `first` may be in the log already, and was agreed to. `None` if somebody has
    /// changed what they replace.
    fn carry_out(
        &self,
        ops: Vec<Op>,
        mut first: Option<Submitted>,
        machines: &Machines,
        key: &mut Option<Opened>,
    ) -> Result<Option<Signed>> {
        let signed = self.complete(ops, &mut first, machines, key);
        // Whoever reads of a fault must know that the act itself is done.
        signed.map_err(|fault| match first {
            Some(done) => {
                fault.context(format!("entry {} is in the log; re-encryptions are left", done.seq))
            }
            None => fault,
        })
    }

    fn complete(
        &self,
        mut due: Vec<Op>,
        first: &mut Option<Submitted>,
        machines: &Machines,
        key: &mut Option<Opened>,
    ) -> Result<Option<Signed>> {
        let (mut agreed, mut tries) = (first.is_some(), 0);
        let mut bar = Bar { progress: Progress::start(&self.global.term, 0), done: 0, all: 0 };
        while tries < TRIES {
            let Some(Act { checked, left, rewraps }) = self.prepare(&due, !agreed)? else {
                return Ok(None);
            };
            if first.is_none() && checked.is_empty() && !left {
                return Ok(Some(Signed::Needless));
            }
            if self.at_once && !due.is_empty() && (left || checked.len() > 1) {
                bail!(hinted(
                    format!("this host cannot re-encrypt {rewraps} versions to itself at once"),
                    "run this on another machine that has an admin key, with `--ssh` and \
                     `--history`; with `--newest` there are fewer, and earlier versions stay \
                     encrypted to keys that are wiped; nothing was signed"
                ));
            }
            bar.all = bar.done.saturating_add(rewraps);
            if !agreed && !self.agreed(&checked, machines, left)? {
                return Ok(Some(Signed::Declined));
            }
            agreed = true;
            let key = match &mut *key {
                Some(key) => key,
                none => none.insert(self.signer.open(self.pins.vault)?),
            };
            let (sent, whole) = self.submit(checked, key, first, &mut bar)?;
            tries = if sent { 0 } else { tries + 1 };
            match *first {
                Some(done) if whole && !left => return Ok(Some(Signed::Done(done))),
                // What was asked for is in the log; what is left are re-encryptions.
                Some(_) => due.clear(),
                None => {}
            }
        }
        Err(faster().into())
    }

    /// Has the agent prepare, and checks that it prepared just that; tells whether re-encryptions
    /// are left for later. `None` if somebody has changed what the operations replace.
    fn prepare(&self, ops: &[Op], warn: bool) -> Result<Option<Act>> {
        let (by, history) = (self.by(), self.history);
        let request = PrepareRequest { ops: ops.to_vec(), actor: by.clone(), history };
        let Preparing::Ready(prepared) = self.agent.prepare(&request)? else { return Ok(None) };
        let bodies: Vec<_> = prepared.bodies.into_iter().map(|body| body.0).collect();
        let checked = if ops.is_empty() && bodies.is_empty() {
            // The re-encryptions that were due are there.
            Vec::new()
        } else {
            check(self.pins.vault, &by, ops, self.global.now(), bodies)?
        };
        if warn && !prepared.unreadable.is_empty() {
            let term = &self.global.term;
            term.say("this machine cannot read, and so does not re-encrypt:");
            for version in &prepared.unreadable {
                term.say(format!("  {} version {}", version.path, version.ver));
            }
        }
        if warn && prepared.behind > 0 {
            self.global
                .term
                .say_hinted(words::behind(prepared.behind), "`--history` re-encrypts them, too");
        }
        let rewraps = usize::try_from(prepared.due).unwrap_or(usize::MAX);
        Ok(Some(Act { checked, left: prepared.left, rewraps }))
    }

    /// Shows what will be signed and asks.
    fn agreed(&self, checked: &[Checked], machines: &Machines, left: bool) -> Result<bool> {
        let (term, vault) = (&self.global.term, self.pins.vault.short());
        term.say(format!("`{}` signs for vault {vault}:", self.signer.name()));
        for line in words::act(checked, machines, left) {
            term.say(format!("  {line}"));
        }
        if self.yes {
            return Ok(true);
        }
        self.demand_person()?;
        term.say("Sign this? [y/N]");
        let answer = term.read_line()?.unwrap_or_default();
        let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes" | "j" | "ja");
        if !yes {
            term.say("nothing was signed");
        }
        Ok(yes)
    }

    /// Refuses where somebody has to agree and nobody can be asked.
    ///
    /// # Errors
    /// If there is no terminal, and no `--yes`.
    pub fn demand_person(&self) -> Result<()> {
        if self.yes || self.global.term.in_is_tty {
            return Ok(());
        }
        bail!(hinted(
            "there is no terminal to agree at",
            "pass `--yes` in scripts; nothing was signed"
        ))
    }

    /// Signs and submits entry by entry, and notes what became of the very first; tells whether any
    /// went in, and whether all did.
    fn submit(
        &self,
        checked: Vec<Checked>,
        key: &mut Opened,
        first: &mut Option<Submitted>,
        bar: &mut Bar<'_>,
    ) -> Result<(bool, bool)> {
        let mut any = false;
        for one in checked {
            let envelope = key.sign(&one);
            let Some(done) = self.agent.submit(&SubmitRequest { envelope })? else {
                return Ok((any, false));
            };
            any = true;
            first.get_or_insert(done);
            key.passed(&one);
            bar.add(&one);
        }
        Ok((any, true))
    }
}

/// Says that others write too often.
fn faster() -> Failure {
    Failure::remote("the log moves on faster than it can be signed for")
        .hint("try again when fewer changes are being made")
}

/// Says that somebody is no owner, or none any more.
fn no_actor(by: &Actor) -> Failure {
    let name = by.to_string();
    let name = name.strip_prefix("admin:").unwrap_or(&name);
    Failure::remote(format!("{}: `{name}` is no admin of this vault", Code::UnknownActor)).hint(
        format!(
            "`vault admin list` names the admins; `vault admin add {name} --kit -` appoints one, \
             by the recovery kit"
        ),
    )
}

/// Says that the key which has signed is not the one that the vault lists.
fn replaced(by: &Actor) -> Failure {
    let name = by.to_string();
    let Some(name) = name.strip_prefix("admin:") else {
        return Failure::remote(format!("{}: the kit's root key is not the vault's", Code::BadSig))
            .hint("it was replaced: look for the newest kit");
    };
    Failure::remote(format!("{}: `{name}`' key here was replaced", Code::BadSig)).hint(format!(
        "sign on the host that has the new one, and delete the old file here; `vault admin list` \
         says since when; if both are lost, `vault recovery admin {name} --instead-of {name} \
         --kit -` makes a key here"
    ))
}

/// Returns what this host trusts of its vault.
fn pins(global: &Global) -> Result<Pins> {
    let paths = global.paths()?;
    Pins::load(&paths)?.ok_or_else(|| {
        hinted(
            format!("this host belongs to no vault (`{}`)", paths.state.display()),
            "make one with `vault setup`, or name the state with `--state DIR`",
        )
    })
}

/// An act that was prepared and checked.
struct Act {
    checked: Vec<Checked>,
    /// Whether re-encryptions are left for later.
    left: bool,
    /// How many re-encryptions are due in all.
    rewraps: usize,
}

/// How far the re-encryptions of an act are.
struct Bar<'a> {
    progress: Progress<'a>,
    done: usize,
    all: usize,
}

impl Bar<'_> {
    /// Counts what an entry re-encrypts; a line is shown while there is more than one entry to go.
    fn add(&mut self, one: &Checked) {
        let rewraps = one.entry.ops.iter().filter(|op| matches!(op, Op::Rewrap(_))).count();
        self.done += rewraps;
        if self.done < self.all {
            self.progress.at(self.done, self.all, "re-encrypted");
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.progress.clear();
    }
}

#[cfg(test)]
mod tests;
