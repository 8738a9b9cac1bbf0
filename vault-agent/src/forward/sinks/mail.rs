//! Mail, by the host's `sendmail`: it reads the message and its receivers on standard input.

use std::io::{Error, ErrorKind};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machine::config::Mail;
use rustix::fs::Access;
use rustix::process::{Pid, Signal, kill_process_group};
use shared::text::visible;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use crate::forward::event::{Message, Teller};
use crate::forward::fault::Fault;

/// How much of what it says is told.
const SAID: u64 = 200;
/// How long it is listened to after its end: what it has left running may keep its output open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes of text in one encoded word: encoded it is 75 long at most (RFC 2047, section 2).
const WORD: usize = 45;

/// Sends a message.
pub async fn send(mail: &Mail, message: &Message, teller: &Teller) -> Result<(), Fault> {
    let program = mail.sendmail.display();
    let mut command = Command::new(&mail.sendmail);
    // Lines of a single dot are text.
    command.args(["-t", "-i"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.current_dir("/").env_clear().kill_on_drop(true).process_group(0);
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut child = command.spawn().map_err(|why| not_started(mail, &why))?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(id.and_then(Pid::from_raw));
    let (input, output) = (child.stdin.take(), child.stderr.take());
    let text = text(mail, message, teller);
    let write = async {
        if let Some(mut input) = input {
            // One that ends early says why by its exit.
            let _ = input.write_all(text.as_bytes()).await;
        }
    };
    let mut said = Vec::new();
    let mut read = Box::pin(async {
        if let Some(output) = output {
            let mut start = output.take(SAID);
            let _ = start.read_to_end(&mut said).await;
            // It must not fail because nobody listens to the rest.
            let _ = tokio::io::copy(&mut start.into_inner(), &mut tokio::io::sink()).await;
        }
    });
    let mut is_read = false;
    let mut ended = Box::pin(async { tokio::join!(write, child.wait()).1 });
    let ended = loop {
        tokio::select! {
            ended = &mut ended => break ended,
            () = &mut read, if !is_read => is_read = true,
        }
    };
    group.0 = None;
    if is_read {
        drop(read);
    } else {
        let _ = timeout(LAST_WORDS, read).await;
    }
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let said = visible(String::from_utf8_lossy(&said).trim(), &[]);
            let said = if said.is_empty() { said } else { format!(": {said}") };
            Err(Fault::new(format!("`{program}` ended with {status}{said}")))
        }
        Err(why) => Err(Fault::new(format!("`{program}` cannot be waited for: {}", why.kind()))),
    }
}

/// Looks whether the program is there, and may be run.
pub fn ready(mail: &Mail) -> Result<(), Fault> {
    let found = rustix::fs::access(&mail.sendmail, Access::EXEC_OK);
    found.map_err(|why| not_started(mail, &why.into()))
}

fn not_started(mail: &Mail, why: &Error) -> Fault {
    let program = mail.sendmail.display();
    match why.kind() {
        ErrorKind::NotFound => Fault::new(format!(
            "`{program}` is not installed: install a mail program such as msmtp-mta, or name one \
             with `sendmail = \"…\"`"
        )),
        kind => Fault::new(format!("`{program}` does not start: {kind}")),
    }
}

/// The programs that it has started; dropping it ends them, as nobody waits any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // What has ended meanwhile is no fault.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Writes headers and body. Nothing in a header is text of others but the encoded subject.
fn text(mail: &Mail, message: &Message, teller: &Teller) -> String {
    let from = mail.from.as_ref().map(|from| format!("From: {from}\n")).unwrap_or_default();
    let subject = header(&message.title(teller));
    let body = STANDARD.encode(format!("{}\n", message.text(teller)).replace('\n', "\r\n"));
    let lines: Vec<&str> =
        (0..body.len()).step_by(76).map(|at| &body[at..body.len().min(at + 76)]).collect();
    format!(
        "{from}To: {to}\nSubject: {subject}\nMessage-ID: <{id}@{host}.vault-agent>\n\
         Auto-Submitted: auto-generated\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n{lines}\n",
        to = mail.to.join(",\n "),
        id = message.id,
        host = teller.from,
        lines = lines.join("\n"),
    )
}

/// Writes a text as the value of a header: plain ASCII as it is, all else as encoded words (RFC
/// 2047), in one line or folded ones.
pub fn header(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if text.len() <= 200 && text.chars().all(is_plain) && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() && words.len() < 12 {
        let (word, more) = rest.split_at(rest.floor_char_boundary(WORD));
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
        rest = more;
    }
    words.join("\n ")
}

#[cfg(test)]
mod tests {
    use shared::time::Time;

    use super::*;
    use crate::forward::event::Event;

    #[test]
    fn headers_hold_one_line_of_ascii() {
        assert_eq!(header("vault home: lags on vps"), "vault home: lags on vps");
        assert_eq!(header("schön"), "=?utf-8?B?c2Now7Zu?=");
        let forged = header("x\nBcc: a@b");
        assert!(!forged.contains("Bcc") && forged.starts_with("=?utf-8?B?"), "{forged}");
        for line in header(&"ü".repeat(100)).lines() {
            assert!(line.len() <= 76 && line.is_ascii(), "{line}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_missed_before_there_is_mail() {
        let of =
            |sendmail: &str| ready(&Mail { to: vec![], from: None, sendmail: sendmail.into() });
        of("/bin/sh").unwrap();
        let missing = of("/nowhere/sendmail").unwrap_err().text;
        assert!(missing.starts_with("`/nowhere/sendmail` is not installed: "), "{missing}");
        let barred = of("/etc/passwd").unwrap_err().text;
        assert_eq!(barred, "`/etc/passwd` does not start: permission denied");
    }

    #[test]
    fn a_mail_is_what_mail_programs_take() {
        let mail = Mail {
            to: vec!["root".into(), "a@b.example".into()],
            from: Some("vault@b.example".into()),
            sendmail: "/usr/sbin/sendmail".into(),
        };
        let message = Message { id: "x".into(), time: Time::from_micros(1), event: Event::Test };
        let teller = Teller { vault: "home".into(), from: "vps".into() };
        let text = text(&mail, &message, &teller);
        let (head, body) = text.split_once("\n\n").unwrap();
        assert_eq!(
            head,
            "From: vault@b.example\nTo: root,\n a@b.example\nSubject: vault home: test from vps\n\
             Message-ID: <x@vps.vault-agent>\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64"
        );
        let body = STANDARD.decode(body.replace('\n', "")).unwrap();
        assert_eq!(body, b"this is a test: nothing is wrong\r\ntold by vps\r\n");
    }
}
