//! Hears of changes of secrets, on a thread of its own: from this machine's agent at once, from
//! another Vault by asking.

use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::environment::{Environment, Wanted};
use crate::client::{Client, Error};
use crate::print::exit;
use host::shown::Shown;
use machine::local::{self, Head};

/// How often a Vault that cannot be waited for is asked.
const PERIOD: Duration = Duration::from_secs(5);
/// How long to leave an API alone that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What is heard.
pub(super) enum Heard {
    /// The secrets are others now.
    Changed(Environment),
    /// The secrets cannot be read; the program keeps what it has.
    Trouble(Shown),
}

/// Starts to listen; what is sent differs from `known`, or from what was sent before.
pub(super) fn start(
    client: Client,
    wanted: Wanted,
    known: Environment,
) -> anyhow::Result<mpsc::Receiver<Heard>> {
    let (tell, heard) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || listen(&client, &wanted, known, &tell))
        .context("cannot start a thread")?;
    Ok(heard)
}

fn listen(client: &Client, wanted: &Wanted, mut known: Environment, tell: &mpsc::Sender<Heard>) {
    let mut seq = 0;
    let mut trouble = None;
    while !tell.is_closed() {
        if !has_changed(client, &mut seq) {
            continue;
        }
        let heard = match wanted.read(client, |_| Ok(())) {
            Ok(new) => {
                trouble = None;
                if new.variables == known.variables {
                    continue;
                }
                known = new.clone();
                Heard::Changed(new)
            }
            Err(why) => {
                let why = exit::shown(&why);
                if trouble.as_ref() == Some(&why) {
                    continue;
                }
                trouble = Some(why.clone());
                Heard::Trouble(why)
            }
        };
        if tell.blocking_send(heard).is_err() {
            return;
        }
    }
}

/// Waits a while; tells whether it is worth looking.
fn has_changed(client: &Client, seq: &mut u64) -> bool {
    let head = client.get::<Head>(local::WAIT, &[("after", seq.to_string())]);
    match head {
        Ok(head) => {
            let changed = head.seq > *seq;
            *seq = head.seq;
            changed
        }
        Err(Error::Refused(refusal)) if matches!(refusal.status, 403..=405) => {
            client.pause(PERIOD);
            true
        }
        Err(_) => {
            client.pause(PAUSE);
            // It may be another agent by then.
            *seq = 0;
            false
        }
    }
}
