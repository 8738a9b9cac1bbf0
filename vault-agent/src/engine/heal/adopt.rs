//! Giving the vault to a server that was made anew: the first records, as far as this machine is in
//! them (design/trust, *Life cycle*, adopt). The rest is `heal`'s, and an owner resumes it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use host::hint::Failure;
use host::store::checkpoint;
use shared::error::Code;
use shared::hash::Hash;
use shared::keys::VerifyKey;
use shared::log;
use shared::signed::Envelope;
use shared::wire::v1::log::{AdoptRequest, Before};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::engine::parts::Parts;
use crate::engine::reach::addresses;
use crate::state;
use machine::local::Trust;
use machine::remote::{Client, ConnectError, RemoteError, connect};

/// Most bytes of records in the one request.
const MOST: usize = 5 << 20;
/// How long a server that the new one is to follow has to show that it is alive.
const ALIVE: Duration = Duration::from_secs(3);

/// Hands the vault to the server that this host vouches for; one that has it already is asked for
/// nothing.
///
/// # Errors
/// If nobody vouches for one, it does not answer, or holds something else; or if a server of the
/// vault still answers, as there would be two.
pub(in crate::engine) async fn adopt(parts: &Parts, claim: Hash) -> Result<()> {
    let trusted = parts.ledger.read().trusted.clone();
    let Some(trust) = trusted else {
        bail!(Failure::local("no new server is vouched for on this host"))
    };
    let client = reach(parts, &trust).await?;
    refuse_while_alive(parts, &trust).await?;
    let Records { genesis, before, entries } = records(parts).await?;
    let size = before.as_ref().map_or(0, |before| before.state.len());
    match client.adopt(&AdoptRequest { claim, genesis, entries, before }).await {
        Ok(()) => {}
        Err(RemoteError::Refused(why)) if why.code == Code::Claim => {
            let why =
                "the server does not take the vault: its setup line was used, or is another's";
            bail!(
                Failure::remote(why).hint(
                    "`vault-server init --adopt`, run again on its host, prints another line"
                )
            )
        }
        Err(RemoteError::Status { status: 413, .. }) => {
            let way = format!(
                "set `body_bytes` under `[limits]` in its server.toml to {} or more, restart it, and \
                 run this again",
                size.saturating_mul(2)
            );
            bail!(Failure::remote("the server takes no request as large as the vault").hint(way))
        }
        Err(why) => return Err(why).context("the server does not take the vault"),
    }
    parts.link.nudge();
    Ok(())
}

/// Refuses while a server answers with a key that the log lists, and which is not the new one's.
async fn refuse_while_alive(parts: &Parts, trust: &Trust) -> Result<()> {
    let listed = parts.ledger.read().state.server().to_vec();
    let keys: Vec<VerifyKey> = listed.into_iter().filter(|key| *key != trust.server).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut tries = JoinSet::new();
    for address in addresses(parts) {
        let (keys, own) = (keys.clone(), parts.own.clone());
        tries.spawn(async move { connect(&address, &keys, &own.keys.sign).await });
    }
    let answers = async {
        while let Some(tried) = tries.join_next().await {
            if let Ok(Ok(client)) = tried {
                return Some(client);
            }
        }
        None
    };
    let Ok(Some(client)) = timeout(ALIVE, answers).await else { return Ok(()) };
    let text = format!("the vault's server still answers at `{}`", client.address());
    let way = "stop the other server, and run the same command again";
    bail!(Failure::remote(host::shown::Shown::text(text)).hint(way))
}

async fn reach(parts: &Parts, trust: &Trust) -> Result<Client> {
    let mut failed = Vec::new();
    for address in &trust.addresses {
        match connect(address, std::slice::from_ref(&trust.server), &parts.own.keys.sign).await {
            Ok(client) => return Ok(client),
            Err(why) => failed.push(why),
        }
    }
    let why = host::shown::Shown::lines(ConnectError::list(&failed).lines());
    bail!(Failure::remote(why).hint("start `vault-server run` there, and open its port"))
}

/// The first records of a vault.
struct Records {
    genesis: Envelope,
    /// What a checkpoint stands for.
    before: Option<Before>,
    entries: Vec<Envelope>,
}

/// Reads the own log from where it begins to the entry that adds this machine.
async fn records(parts: &Parts) -> Result<Records> {
    let end = parts.ledger.read().state.seq();
    let begun = parts.store.read(|conn| {
        let begins = checkpoint::dropped(conn)?;
        Ok((
            state::log::entry(conn, 0)?,
            checkpoint::owners(conn, begins)?,
            checkpoint::start(conn),
        ))
    });
    let (genesis, owners, begin) = begun.await?;
    let genesis = genesis.context("this machine has no log yet")?;
    let begin = begin?;
    let before = begin.as_ref().map(|state| {
        let rows = state.rows().map(|row| String::from_utf8_lossy(&row).into_owned());
        Before { owners, state: rows.collect() }
    });
    let mut state = begin.map_or_else(|| log::start(&genesis), Ok)?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let own = parts.own.keys.sign.verify_key();
    for seq in state.seq() + 1..=end {
        let entry = parts.store.read(move |conn| state::log::entry(conn, seq)).await?;
        let entry =
            entry.with_context(|| format!("entry {seq} is missing in this machine's log"))?;
        bytes += entry.body.len();
        log::apply(&mut state, &entry).map_err(shared::error::Error::from)?;
        entries.push(entry);
        if state.machine_by_key(own.as_bytes()).is_some() {
            return Ok(Records { genesis, before, entries });
        }
        if bytes > MOST {
            break;
        }
    }
    bail!(
        Failure::local("the log is long before it adds this machine")
            .hint("run this on an older machine of the vault that has an admin key")
    )
}
