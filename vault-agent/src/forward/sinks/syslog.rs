//! Syslog (RFC 5424): to the host's daemon and by UDP (RFC 5426) a datagram each, by TCP counted
//! (RFC 6587, section 3.4.1).

use std::fmt::Write as _;
use std::io::{Error, ErrorKind};
use std::path::Path;

use machine::config::{Syslog, SyslogAddress};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, lookup_host};

use crate::forward::event::{Event, Message, Teller};
use crate::forward::fault::Fault;

/// The longest message: what receivers take, in a datagram too.
const LONGEST: usize = 8_192;
/// Names our data for itself: a number that is reserved for no enterprise (RFC 5612).
const DATA: &str = "vault@32473";
/// The longest value in it.
const VALUE: usize = 400;

/// A connection, where there is one.
#[derive(Debug, Default)]
pub struct Connection {
    tcp: Option<TcpStream>,
}

impl Connection {
    /// Sends a message.
    pub async fn send(
        &mut self,
        syslog: &Syslog,
        message: &Message,
        teller: &Teller,
    ) -> Result<(), Fault> {
        let line = line(syslog.facility, message, teller);
        match &syslog.address {
            SyslogAddress::Unix(socket) => {
                let sender = UnixDatagram::unbound().map_err(|why| fault(&why))?;
                let sent = sender.send_to(line.as_bytes(), socket).await;
                sent.map(drop).map_err(|why| at_socket(socket, &why))
            }
            SyslogAddress::Udp(host) => udp(host, line.as_bytes()).await,
            SyslogAddress::Tcp(host) => self.tcp(host, &line).await,
        }
    }

    async fn tcp(&mut self, host: &str, line: &str) -> Result<(), Fault> {
        let mut stream = match self.tcp.take().filter(is_open) {
            Some(stream) => stream,
            None => TcpStream::connect(host).await.map_err(|why| fault(&why))?,
        };
        let frame = format!("{} {line}", line.len());
        stream.write_all(frame.as_bytes()).await.map_err(|why| fault(&why))?;
        self.tcp = Some(stream);
        Ok(())
    }
}

/// Tells whether the other side has not closed the connection: it says nothing else.
fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    read.is_err_and(|why| why.kind() == ErrorKind::WouldBlock)
}

async fn udp(host: &str, line: &[u8]) -> Result<(), Fault> {
    let mut found = lookup_host(host).await.map_err(|why| fault(&why))?;
    let address = found.next().ok_or_else(|| Fault::new("the name of its host has no address"))?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let sender = UdpSocket::bind(any).await.map_err(|why| fault(&why))?;
    sender.send_to(line, address).await.map(drop).map_err(|why| fault(&why))
}

/// Looks whether the host's own daemon is there; of others it shows only when they are told.
pub fn ready(syslog: &Syslog) -> Result<(), Fault> {
    let SyslogAddress::Unix(socket) = &syslog.address else { return Ok(()) };
    let connected = UnixDatagram::unbound().and_then(|sender| sender.connect(socket));
    connected.map_err(|why| at_socket(socket, &why))
}

fn at_socket(socket: &Path, why: &Error) -> Fault {
    match why.kind() {
        ErrorKind::NotFound => Fault::new(format!(
            "no syslog daemon listens at `{}`: is one installed?",
            socket.display()
        )),
        _ => fault(why),
    }
}

fn fault(why: &Error) -> Fault {
    Fault::new(format!("syslog does not take it: {}", why.kind()))
}

fn line(facility: u8, message: &Message, teller: &Teller) -> String {
    let priority = u16::from(facility) * 8 + u16::from(message.severity().number());
    let (time, from, word) = (message.time, &teller.from, message.word());
    let pid = std::process::id();
    let mut line = format!("<{priority}>1 {time} {from} vault-agent {pid} {word} [{DATA}");
    let mut datum = |name: &str, value: &str| {
        let _ = write!(line, " {name}=\"{}\"", escaped(value));
    };
    datum("id", &message.id);
    datum("vault", &teller.vault);
    if let Event::Begins(alarm) | Event::Ends(alarm) = &message.event {
        let is_over = matches!(message.event, Event::Ends(_));
        datum("state", if is_over { "ends" } else { "begins" });
        datum("code", &alarm.code);
        for (name, value) in
            [("machine", &alarm.machine), ("target", &alarm.target), ("secret", &alarm.secret)]
        {
            if let Some(value) = value {
                datum(name, value);
            }
        }
        if let Some(since) = alarm.since {
            datum("since", &since.to_string());
        }
    }
    line.push_str("] ");
    // One line: receivers split at line ends, whatever the frame says.
    match &message.event {
        Event::Record(_) => line.push_str(&message.text(teller)),
        _ => line.push_str(
            &format!("{}: {}", message.title(teller), message.text(teller)).replace('\n', "; "),
        ),
    }
    cut(line)
}

fn cut(mut line: String) -> String {
    if line.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST));
    }
    line
}

/// Escapes a value (RFC 5424, section 6.3.3).
fn escaped(value: &str) -> String {
    let cut: String = value.chars().take(VALUE).collect();
    cut.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use shared::time::Time;

    use super::*;

    #[test]
    fn a_line_is_as_the_standard_says() {
        let alarm = crate::forward::event::Alarm {
            code: "hook_failed".to_owned(),
            machine: Some("vps".to_owned()),
            target: Some("/a]\"\\b".to_owned()),
            secret: None,
            text: "hook failed".to_owned(),
            since: Some(Time::from_micros(1_000_000)),
            todo: "look".to_owned(),
        };
        let message = Message {
            id: "x".into(),
            time: Time::from_micros(2_500_000),
            event: Event::Begins(alarm),
        };
        let teller = Teller { vault: "home".into(), from: "rtx1080".into() };
        let pid = std::process::id();
        let expected = format!(
            "<28>1 1970-01-01T00:00:02.5Z rtx1080 vault-agent {pid} alarm [vault@32473 id=\"x\" \
             vault=\"home\" state=\"begins\" code=\"hook_failed\" machine=\"vps\" \
             target=\"/a\\]\\\"\\\\b\" since=\"1970-01-01T00:00:01Z\"] vault home: hook_failed on \
             vps: vps /a]\"\\b: hook failed; since 1970-01-01T00:00:01Z; hint: look; told by rtx1080"
        );
        assert_eq!(line(3, &message, &teller), expected);
        assert_eq!(cut("ü".repeat(5_000)).len(), LONGEST);
    }
}
