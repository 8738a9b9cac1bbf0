//! Asking a server to let this host in, and waiting until an admin has. The server is a stranger
//! meanwhile, as this host is to it: what it says decides only what is asked next.

use std::mem;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use shared::error::{Code, Error};
use shared::keys::SignKey;
use shared::token::{Line as _, MachineLine};
use shared::wire::v1::join::{JoinReply, JoinRequest};

use super::proof;
use super::wanted::Wanted;
use host::clock;
use host::hint::Failure;
use host::shown::Shown;
use host::term::Term;
use machine::identity::Pins;
use machine::remote::{RemoteError, Unproven, connect_to_any};

/// The pause after an answer, so that a place among strangers is free for others; longer, once
/// nobody seems to sit at the other screen.
const PAUSE: Duration = Duration::from_secs(4);
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// For how long somebody seems to.
const SOON: Duration = Duration::from_mins(15);
/// The longest pause that a server gets by asking for it.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What a host asks.
pub(super) struct Request<'a> {
    /// Where the server may be.
    pub(super) addresses: &'a [String],
    /// The vault that is meant.
    pub(super) vault: Wanted,
    /// This host's signing key.
    pub(super) key: &'a SignKey,
    /// Its line.
    pub(super) line: &'a MachineLine,
    /// Where its keys are.
    pub(super) state: &'a Path,
}

/// What came of asking once.
enum Turn {
    /// This host is a machine now, as a server has proved.
    Joined(Box<Pins>),
    /// It waits for an admin.
    Waits,
    /// Nobody let it in, for now: why, and the pause that the server asks for.
    Not(String, Duration),
}

impl Request<'_> {
    /// Asks until an admin has approved and the server has proved itself; returns what to pin.
    ///
    /// # Errors
    /// If the server refuses, shows another vault or other keys, or nobody approves in time.
    pub(super) async fn wait(&self, patience: Duration, term: &Term) -> Result<Pins> {
        let begun = clock::since_boot();
        let (mut turn, mut told, mut waited) = (0, String::new(), false);
        loop {
            let (said, pause) = match self.ask(turn, waited).await? {
                Turn::Joined(pins) => return Ok(*pins),
                Turn::Waits => {
                    let (name, words) = (&self.line.name, self.line.words());
                    let said = format!(
                        "waiting with the words `{words}`\nhint: on an admin's host, `vault machine \
                         approve {name} --read PREFIX`"
                    );
                    // The first answer comes at once, the next ones are held.
                    (said, if mem::replace(&mut waited, true) { PAUSE } else { Duration::ZERO })
                }
                Turn::Not(why, pause) => (format!("{why}; trying again"), pause.max(PAUSE)),
            };
            // Each state once, however long it lasts.
            if said != told {
                term.say(Shown::lines(said.lines()));
                told = said;
            }
            let spent = clock::since_boot().saturating_sub(begun);
            let Some(left) = patience.checked_sub(spent).filter(|left| !left.is_zero()) else {
                bail!(expired(patience, waited));
            };
            let pause = if spent > SOON { pause.max(LONG_PAUSE) } else { pause };
            tokio::time::sleep(pause.min(left)).await;
            turn += 1;
        }
    }

    /// Asks once: one address after the other, until one takes the request, each of them first in
    /// its turn. One that refuses, or proves something else, may be anybody: the others are asked
    /// all the same.
    async fn ask(&self, turn: usize, waited: bool) -> Result<Turn> {
        let (mut why, mut others, mut refused) = (Vec::new(), 0, None);
        let mut pause = Duration::ZERO;
        for at in 0..self.addresses.len() {
            let address = &self.addresses[(turn + at) % self.addresses.len()];
            let (client, server) = match connect_to_any(address, self.key).await {
                Ok(connected) => connected,
                Err(fault) => {
                    why.push(fault.to_string());
                    continue;
                }
            };
            match client.join(&self.request()?).await {
                Ok(JoinReply { joined: true, .. }) => {
                    let (vault, line) = (self.vault, self.line);
                    match proof::pins(&client, &server, vault, line, self.addresses).await {
                        Ok(pins) => return Ok(Turn::Joined(Box::new(pins))),
                        Err(Unproven::Lost(fault)) => {
                            pause = pause.max(PAUSE);
                            why.push(format!("the connection to `{address}` broke: {fault}"));
                        }
                        Err(Unproven::Refused(error)) => {
                            refused = Some(unbelieved(address, &error));
                        }
                    }
                }
                Ok(JoinReply { joined: false, .. }) => return Ok(Turn::Waits),
                Err(RemoteError::Refused(error)) => {
                    refused = Some(self.refused(address, &error, waited));
                }
                Err(RemoteError::Status { status: 403, .. }) => {
                    others += 1;
                    why.push(format!("the server at `{address}` does not keep this vault"));
                }
                Err(fault) => {
                    pause = pause.max(fault.is_metered().unwrap_or(PAUSE));
                    why.push(format!("the server at `{address}` takes no request: {fault}"));
                }
            }
        }
        // One that may take it yet is asked again.
        if let Some(failure) = refused.filter(|_| pause.is_zero()) {
            bail!(failure);
        }
        let why = why.join("; ");
        if others == self.addresses.len() {
            bail!(Failure::remote(why).hint(
                "compare the words with those that `vault machine invite` shows on an admin's host"
            ));
        }
        Ok(Turn::Not(why, pause.clamp(PAUSE, LONGEST_PAUSE)))
    }

    fn request(&self) -> Result<JoinRequest> {
        Ok(JoinRequest { vault: self.vault.words(), line: self.line.to_line()? })
    }

    /// Says why a server takes no request. It has proven nothing: what it says is repeated as its
    /// word, and what follows from it is to be seen on an admin's host first.
    fn refused(&self, address: &str, error: &Error, waited: bool) -> Failure {
        let name = &self.line.name;
        let (text, hint) = match error.code {
            Code::Exists if waited => (
                format!("machine `{name}` is in the vault by now, with other keys"),
                format!(
                    "look at `vault machine list` on an admin's host: if `{name}` is another host, \
                     ask under another name with `--name NAME`; if it was added for this one, the \
                     line was exchanged on the way: remove that machine, ask again, and compare the \
                     six words"
                ),
            ),
            Code::Exists => (
                format!("machine `{name}` is in the vault already"),
                format!(
                    "if `vault machine list` on an admin's host shows it, choose another name with \
                     `--name NAME`, or have the old one removed with `vault machine remove {name}`"
                ),
            ),
            Code::Key => (
                "this host's keys were in the vault before".to_owned(),
                format!(
                    "if this host was removed from it, it comes back with new keys: move `{}` away, \
                     and run this again",
                    self.state.display()
                ),
            ),
            code => (error.detail.clone(), code.hint().to_owned()),
        };
        let code = error.code;
        Failure::remote(format!("the server at `{address}` says: {code}: {text}")).hint(hint)
    }
}

fn unbelieved(address: &str, error: &Error) -> Failure {
    let text = format!("the server at `{address}` is not believed: {error}");
    Failure::remote(text).hint(way_out(error.code))
}

/// Returns what to do where a server has shown something else than the vault that is meant.
fn way_out(code: Code) -> &'static str {
    match code {
        Code::JoinSubstituted => code.hint(),
        Code::ServerPin => {
            "somebody stands between this host and the server, or it is another one: check the \
             address"
        }
        _ => "check the address, and the vault's words; this host has pinned nothing",
    }
}

fn expired(patience: Duration, waited: bool) -> Failure {
    let time = clock::age(patience.as_secs());
    let text = match waited {
        true => format!("nobody approved this host within {time}: its request is dropped"),
        false => format!("no server took this host's request within {time}"),
    };
    Failure::remote(Shown::line(text)).hint("the same command asks again")
}
