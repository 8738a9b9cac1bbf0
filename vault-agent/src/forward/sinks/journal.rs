//! The host's journal, by systemd's *Native Journal Protocol*: fields that `journalctl` filters by.

use std::io::{Error, ErrorKind};
use std::path::Path;

use tokio::net::UnixDatagram;

use crate::forward::event::{Event, Message, Teller};
use crate::forward::fault::Fault;

/// The kinds of messages, as `journalctl MESSAGE_ID=…` finds them.
const BEGINS: &str = "7e6f4a1d2b0c4f0f9a3c51d4e8b7a601";
const ENDS: &str = "7e6f4a1d2b0c4f0f9a3c51d4e8b7a602";
const RECORD: &str = "7e6f4a1d2b0c4f0f9a3c51d4e8b7a603";
const OTHER: &str = "7e6f4a1d2b0c4f0f9a3c51d4e8b7a604";

/// Sends a message.
pub async fn send(socket: &Path, message: &Message, teller: &Teller) -> Result<(), Fault> {
    let sender = UnixDatagram::unbound().map_err(|why| fault(socket, &why))?;
    let bytes = datagram(message, teller);
    sender.send_to(&bytes, socket).await.map(drop).map_err(|why| fault(socket, &why))
}

/// Looks whether the journal is there.
pub fn ready(socket: &Path) -> Result<(), Fault> {
    let connected = UnixDatagram::unbound().and_then(|sender| sender.connect(socket));
    connected.map_err(|why| fault(socket, &why))
}

fn fault(socket: &Path, why: &Error) -> Fault {
    match why.kind() {
        ErrorKind::NotFound => Fault::new(format!(
            "there is no journal at `{}`: does systemd-journald run here?",
            socket.display()
        )),
        kind => Fault::new(format!("the journal does not take it: {kind}")),
    }
}

fn datagram(message: &Message, teller: &Teller) -> Vec<u8> {
    let id = match message.event {
        Event::Begins(_) => BEGINS,
        Event::Ends(_) => ENDS,
        Event::Record(_) => RECORD,
        Event::Dropped(_) | Event::Gap(..) | Event::Test => OTHER,
    };
    let text = match message.event {
        Event::Record(_) => message.title(teller),
        _ => format!("{}\n{}", message.title(teller), message.text(teller)),
    };
    let mut out = Vec::new();
    field(&mut out, "MESSAGE", &text);
    field(&mut out, "MESSAGE_ID", id);
    field(&mut out, "PRIORITY", &message.severity().number().to_string());
    field(&mut out, "SYSLOG_IDENTIFIER", "vault-agent");
    field(&mut out, "VAULT_NAME", &teller.vault);
    field(&mut out, "VAULT_EVENT", message.word());
    field(&mut out, "VAULT_ID", &message.id);
    match &message.event {
        Event::Begins(alarm) | Event::Ends(alarm) => {
            let is_over = matches!(message.event, Event::Ends(_));
            field(&mut out, "VAULT_STATE", if is_over { "ends" } else { "begins" });
            let since = alarm.since.map(|at| at.to_string());
            for (name, value) in [
                ("VAULT_CODE", Some(&alarm.code)),
                ("VAULT_MACHINE", alarm.machine.as_ref()),
                ("VAULT_TARGET", alarm.target.as_ref()),
                ("VAULT_SECRET", alarm.secret.as_ref()),
                ("VAULT_SINCE", since.as_ref()),
                ("VAULT_TODO", Some(&alarm.todo)),
            ] {
                if let Some(value) = value {
                    field(&mut out, name, value);
                }
            }
        }
        Event::Record(text) => field(&mut out, "VAULT_RECORD", text),
        Event::Dropped(_) | Event::Gap(..) | Event::Test => {}
    }
    out
}

/// Writes a field, its length before it: nothing in it can begin another one.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_journal_that_is_not_there_is_missed_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let missing = ready(&socket).unwrap_err().text;
        assert!(missing.starts_with("there is no journal at `/"), "{missing}");
        let journal = UnixDatagram::bind(&socket).unwrap();
        ready(&socket).unwrap();
        assert!(journal.try_recv(&mut [0]).is_err(), "it heard something");
    }

    #[test]
    fn no_value_forges_a_field() {
        let mut out = Vec::new();
        field(&mut out, "MESSAGE", "a\nPRIORITY=0");
        assert_eq!(out, b"MESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n");
    }
}
