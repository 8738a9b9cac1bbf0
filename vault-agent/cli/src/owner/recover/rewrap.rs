//! Re-encrypting what the kit opens to those who read it now: this host could read nothing before.

use anyhow::{Result, bail};
use shared::blob::{self, Blob, Expected, Place, Sealed};
use shared::limits;
use shared::log::{Op, Put, State, readers_hash, recipients};
use shared::path::SecretPath;

use super::{entry, records};
use crate::context::Global;
use crate::owner::signing::kit::Kit;
use host::hint::Failure;
use host::progress::Progress;
use machine::remote::{Client, RemoteError};

/// Bytes of the blobs of one entry, at most: below what the server parks for a machine.
const BYTES: u64 = 16 << 20;
/// Versions of one entry, at most.
const VERSIONS: usize = limits::OPS / 4;
/// Times in a row that an entry is made anew because others wrote meanwhile.
const TRIES: usize = 8;

/// A version that does not open, and why.
type Closed = (SecretPath, u64, String);

/// Re-encrypts every version that is kept; returns the state after it, and what did not open.
pub(super) async fn all(
    client: &Client,
    mut state: State,
    kit: &Kit,
    global: &Global,
) -> Result<(State, Vec<Closed>)> {
    let (mut closed, mut tries, mut done) = (Vec::new(), 0, 0);
    let mut progress = Progress::start(&global.term, 0);
    while tries < TRIES {
        let due: Vec<(SecretPath, u64)> = due(&state)
            .filter(|(path, ver)| !closed.iter().any(|(p, v, _)| (p, v) == (path, ver)))
            .collect();
        if due.is_empty() {
            progress.end();
            return Ok((state, closed));
        }
        progress.at(done, done + due.len(), "re-encrypted");
        let known = closed.len();
        let ops = batch(client, &state, kit, due, &mut closed).await?;
        let count = ops.len();
        if count > 0 && append(client, &state, kit, ops, global).await? {
            (done, tries) = (done + count, 0);
        } else if closed.len() > known {
            tries = 0;
        } else {
            tries += 1;
        }
        state = records::read(client, state.vault()).await?;
    }
    bail!(
        Failure::remote("the log moves on faster than it can be signed for")
            .hint("run the same command again when fewer changes are being made")
    )
}

/// Returns the versions that are not encrypted to today's readers, the newest of each secret first.
fn due(state: &State) -> impl Iterator<Item = (SecretPath, u64)> {
    state.stale().chain(state.stale_before()).map(|(path, ver)| (path.clone(), ver))
}

/// Opens some versions with the kit, and parks them for today's readers on the server.
async fn batch(
    client: &Client,
    state: &State,
    kit: &Kit,
    due: Vec<(SecretPath, u64)>,
    closed: &mut Vec<Closed>,
) -> Result<Vec<Op>> {
    let (mut ops, mut size) = (Vec::new(), 0);
    for (path, ver) in due.into_iter().take(VERSIONS) {
        let sealed = match one(client, state, kit, &path, ver).await {
            Ok(sealed) => sealed,
            Err(Closing::Version(why)) => {
                closed.push((path, ver, why));
                continue;
            }
            Err(Closing::Server(fault)) => return Err(records::failed(&fault).into()),
        };
        let Sealed { bytes, id, commit } = sealed;
        size += bytes.len() as u64;
        let readers = readers_hash(state, &path);
        let put = Put { path, ver, blob: id, size: bytes.len() as u64, commit, readers };
        client.put_blob(id, bytes).await.map_err(|fault| records::failed(&fault))?;
        ops.push(Op::Rewrap(put));
        if size >= BYTES {
            break;
        }
    }
    Ok(ops)
}

/// Why a version is not re-encrypted.
enum Closing {
    /// It is gone, or does not open.
    Version(String),
    /// The server does not answer as it should.
    Server(RemoteError),
}

async fn one(
    client: &Client,
    state: &State,
    kit: &Kit,
    path: &SecretPath,
    ver: u64,
) -> Result<Sealed, Closing> {
    let version = state.secret(path).and_then(|secret| secret.version(ver));
    let version = version.ok_or_else(|| Closing::Version("it is gone".to_owned()))?;
    let bytes = client.blob(version.blob).await.map_err(|fault| match fault {
        RemoteError::Refused(error) => Closing::Version(error.to_string()),
        other => Closing::Server(other),
    })?;
    let readers = blob::stanzas(&bytes);
    let (vault, position) = (state.vault(), readers.saturating_sub(1));
    let place = Place { vault: &vault, path, ver };
    let (blob, size, commit) = (version.blob, version.size, version.commit);
    let expected = Expected { place, blob, size, commit, readers, position };
    let opened = blob::open(&kit.recovery, &expected, &Blob::new(bytes));
    let sealed = opened.and_then(|it| blob::reseal(place, &it, &recipients(state, path)));
    sealed.map_err(|error| Closing::Version(error.to_string()))
}

/// Signs as root, and appends; tells whether the log had not moved on.
async fn append(
    client: &Client,
    state: &State,
    kit: &Kit,
    ops: Vec<Op>,
    global: &Global,
) -> Result<bool> {
    let body = entry::body(&entry::after(state, ops, global))?;
    match entry::send(client, state, kit, body, None).await {
        Ok(()) => Ok(true),
        Err(RemoteError::Conflict(_)) => Ok(false),
        Err(fault) => Err(records::failed(&fault).into()),
    }
}
