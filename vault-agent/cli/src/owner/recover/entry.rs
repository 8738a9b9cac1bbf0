//! The entry by which root makes this host a machine, and somebody an admin.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use shared::audit::AuditHead;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::log::{Entry, Machine, NewMachine, Number, Op, Resume, State, recipients};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::text::Text;
use shared::token::MachineLine;
use shared::wire::v1::log::AppendRequest;

use super::begun::Recovering;
use super::records;
use crate::context::Global;
use crate::owner::resume;
use crate::owner::signing::check::Checked;
use crate::owner::signing::kit::Kit;
use crate::owner::signing::words;
use host::hint::{Failure, hinted};
use machine::identity::MachineKeys;
use machine::local::{MachineRow, Machines};
use machine::remote::{Client, ConnectError, RemoteError, connect};

/// Times that the entry is made anew because others wrote meanwhile.
const TRIES: usize = 8;

/// Why an earlier machine of this name goes.
const REASON: &str = "lost: its name was taken over by a recovery";

/// How the caller wants it.
pub(super) struct Wish<'a> {
    /// Where the server is.
    pub(super) server: &'a str,
    /// Whether it is signed without asking.
    pub(super) yes: bool,
    /// Where the one-time code of a restored server is.
    pub(super) code: resume::Args,
}

/// Tells whether both keys of the kit hold.
pub(super) fn holds(kit: &Kit, state: &State) -> bool {
    let recovery = "secret/any".parse().ok().and_then(|any| recipients(state, &any).pop());
    state.key(&Actor::Root) == Some(&kit.root.verify_key())
        && recovery == Some(kit.recovery.recipient())
}

/// Adds both, unless they are in the log by an earlier attempt; a server that was restored is
/// resumed by the same entry. Returns the state after it, or nothing if the person said no.
pub(super) async fn add(
    wish: &Wish<'_>,
    mut state: State,
    kit: &Kit,
    keys: &MachineKeys,
    begun: &Recovering,
    global: &Global,
) -> Result<Option<State>> {
    let own = keys.line(begun.machine.clone())?;
    let (mut agreed, mut code) = (None, None);
    for _ in 0..TRIES {
        if state.machine_by_key(own.sign.as_bytes()).is_some() {
            return Ok(Some(state));
        }
        let resumed = code.map(|_| resumed(&state));
        let ops: Vec<Op> = resumed.into_iter().chain(ops(&state, &own, begun)?).collect();
        let entry = after(&state, ops.clone(), global);
        let body = body(&entry)?;
        let checked = [Checked { entry, body }];
        // Others may have changed what it would do.
        let is_agreed = wish.yes || agreed.as_ref() == Some(&ops);
        if !shown(&checked, &state, is_agreed, global)? {
            return Ok(None);
        }
        agreed = Some(ops);
        let [Checked { body, .. }] = checked;
        // The server lets nobody stay for long who is no machine, and a person may have thought.
        let client = connect(wish.server, state.server(), &kit.root).await.map_err(unreached)?;
        match send(&client, &state, kit, body, code).await {
            Ok(()) | Err(RemoteError::Conflict(_)) => {}
            Err(fault) if fault.is_restored() && code.is_none() => {
                code = Some(ask(wish, &state, global)?);
                continue;
            }
            Err(fault) => return Err(records::failed(&fault).into()),
        }
        state = records::read(&client, state.vault()).await?;
    }
    bail!(Failure::remote("the log moves on faster than it can be signed for"))
}

/// Tells why no server was reached.
#[expect(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
pub(super) fn unreached(fault: ConnectError) -> Failure {
    Failure::remote(fault.to_string()).hint("start `vault-server run` there, and open its port")
}

/// Returns root's entry that follows the state.
pub(super) fn after(state: &State, ops: Vec<Op>, global: &Global) -> Entry {
    let time = global.now().max(state.time());
    Entry { seq: state.seq() + 1, prev: state.head(), time, by: Actor::Root, ops }
}

/// Returns the bytes of an entry that are signed.
pub(super) fn body(entry: &Entry) -> Result<Vec<u8>> {
    serde_json::to_vec(entry).context("writing an entry as JSON")
}

/// Signs as root, and sends an entry whose blobs are there.
pub(super) async fn send(
    client: &Client,
    state: &State,
    kit: &Kit,
    body: Vec<u8>,
    code: Option<Hash>,
) -> Result<(), RemoteError> {
    let purpose = Purpose::Entry(state.vault());
    let envelope = Envelope::sign_body(&kit.root, Actor::Root, purpose, body);
    let request = AppendRequest { envelope, blobs: Vec::new(), code };
    let request = serde_json::to_vec(&request);
    let request = request.map_err(|why| RemoteError::Protocol(why.to_string()))?;
    client.append(Bytes::from(request), None).await.map(drop)
}

/// Returns what lets a restored server go on from where its log ends. Nobody is left who could
/// vouch for any of its audit records.
fn resumed(state: &State) -> Op {
    let AuditHead { n: audit_n, hash: audit_head } = AuditHead::EMPTY;
    Op::Resume(Resume { seq: state.seq(), head: state.head(), audit_n, audit_head })
}

/// Says what it means to resume the server, and returns the one-time code of its host.
fn ask(wish: &Wish<'_>, state: &State, global: &Global) -> Result<Hash> {
    global.term.say_hinted(
        format!(
            "the server was restored from a copy: its log ends at entry {} of {}; what came after \
             it is lost",
            state.seq(),
            state.time()
        ),
        "if a machine of the vault is left, stop here: `vault heal` there gives it back, and `vault \
         resume --kit -` lets the server go on",
    );
    resume::code(global, &wish.code)
}

fn ops(state: &State, own: &MachineLine, begun: &Recovering) -> Result<Vec<Op>> {
    let Recovering { admin, admin_key, .. } = begun;
    let mut ops = Vec::new();
    if state.admins().get(admin) != Some(admin_key) {
        if state.admins().contains_key(admin) {
            ops.push(Op::AdminRemove { name: admin.clone() });
        }
        ops.push(Op::AdminAdd { name: admin.clone(), key: admin_key.clone() });
    }
    if let Some((number, _)) = state.machine(&own.name) {
        ops.push(Op::MachineRemove { number, reason: Text::lossy(REASON) });
    }
    let all = Grants::parse(&["*"])?;
    let MachineLine { name, recipient, sign, proof } = own.clone();
    let (number, read, write) = (state.due_machine(), all.clone(), all);
    ops.push(Op::MachineAdd(NewMachine { name, number, recipient, sign, proof, read, write }));
    Ok(ops)
}

/// Shows what will be signed, and asks.
fn shown(checked: &[Checked], state: &State, agreed: bool, global: &Global) -> Result<bool> {
    let term = &global.term;
    let (name, vault) = (state.name(), state.vault().short());
    term.say(format!("`root` signs for vault {name} ({vault}):"));
    for line in words::act(checked, &machines(state), true) {
        term.say(format!("  {line}"));
    }
    if agreed {
        return Ok(true);
    }
    if !term.in_is_tty {
        bail!(hinted(
            "there is no terminal to agree at",
            "pass `--yes` in scripts; nothing was signed"
        ));
    }
    term.say("Sign this? [y/N]");
    let answer = term.read_line()?.unwrap_or_default();
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes" | "j" | "ja");
    if !yes {
        term.say("nothing was signed");
    }
    Ok(yes)
}

/// Returns the machines as those commands know them that look at the present state.
fn machines(state: &State) -> Machines {
    let row = |(number, machine): (&Number, &Machine)| MachineRow {
        name: machine.name.clone(),
        number: *number,
        active: machine.active,
        sleeps: machine.sleeps,
        sign: machine.sign.clone(),
        read: machine.read.clone(),
        write: machine.write.clone(),
        seen_at: None,
        agent: None,
    };
    let machines = state.machines().iter().map(row).collect();
    let (next, server) = (state.due_machine(), state.server().to_vec());
    Machines { machines, next, own: None, server, checkpoint: state.checkpoint() }
}
