//! The journal, as `journalctl` tells it: message by message, each by its unit or container.

use std::io::{self, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::content::{Budget, End};
use super::control::Control;
use super::found::Found;

/// How far back the journal is searched.
const SINCE: &str = "--since=-30d";
const FIELDS: &str =
    "--output-fields=MESSAGE,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT,SYSLOG_IDENTIFIER,CONTAINER_NAME";
/// Longer messages are searched in pieces.
const LONGEST: usize = 1 << 20;
/// How often it is looked whether to go on while `journalctl` says nothing.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A running `journalctl`, which ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Searches the journal; returns why before its end, if so.
///
/// # Errors
/// If there is no `journalctl`, or it fails.
pub(super) fn search(
    found: &mut Found,
    budget: &mut Budget,
    control: &Control,
) -> Result<Option<End>> {
    let mut command = Command::new("journalctl");
    command.args(["--output=json", "--no-pager", "--quiet", SINCE, FIELDS]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().context("`journalctl` cannot be run")?;
    let mut running = Running(child);
    let mut out = running.0.stdout.take().context("`journalctl` has no output")?;
    budget.files = budget.files.saturating_sub(1);
    let (mut buffer, mut used) = (zeroize::Zeroizing::new(vec![0; 2 * LONGEST]), 0);
    loop {
        if let Some(end) = budget.end(control) {
            return Ok(Some(end));
        }
        if !is_ready(&out)? {
            continue;
        }
        let most = (used + LONGEST).min(buffer.len());
        let read = out.read(&mut buffer[used..most])?;
        budget.bytes = budget.bytes.saturating_sub(read as u64);
        used += read;
        let done = match memchr_last(&buffer[..used]) {
            Some(end) => end + 1,
            None if read == 0 || used >= LONGEST => used,
            None => continue,
        };
        // The pieces of a line beyond all measure: a value across two of them is missed.
        for line in buffer[..done].split(|byte| *byte == b'\n') {
            message(found, line)?;
        }
        buffer.copy_within(done..used, 0);
        used -= done;
        if read == 0 {
            break;
        }
    }
    let ended = running.0.wait().context("`journalctl` does not end")?;
    anyhow::ensure!(ended.success(), "`journalctl` failed: {ended}");
    Ok(None)
}

fn is_ready(out: &ChildStdout) -> io::Result<bool> {
    let mut polled = [PollFd::new(out, PollFlags::IN)];
    match poll(&mut polled, Some(&LOOK)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(why) => Err(why.into()),
    }
}

fn memchr_last(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|byte| *byte == b'\n')
}

/// Searches one message; only where there is something is it looked whose it is.
fn message(found: &mut Found, line: &[u8]) -> io::Result<()> {
    if line.is_empty() || !found.is_in(line) {
        return Ok(());
    }
    let place = found.masked(&place(line));
    found.search(&place, line, false, None)
}

/// Names the container or the unit that a message is of.
fn place(line: &[u8]) -> String {
    let fields: Value = serde_json::from_slice(line).unwrap_or_default();
    let field = |name: &str| fields.get(name).and_then(Value::as_str);
    if let Some(name) = field("CONTAINER_NAME") {
        return format!("container {name}");
    }
    let unit = ["_SYSTEMD_USER_UNIT", "_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER"];
    let unit = unit.into_iter().find_map(field).unwrap_or("-");
    format!("journal unit {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_units_or_its_containers() {
        for (line, expected) in [
            (r#"{"MESSAGE":"x","_SYSTEMD_UNIT":"ghost.service"}"#, "journal unit ghost.service"),
            (r#"{"SYSLOG_IDENTIFIER":"cron"}"#, "journal unit cron"),
            (r#"{"CONTAINER_NAME":"web","_SYSTEMD_UNIT":"docker.service"}"#, "container web"),
            ("{", "journal unit -"),
        ] {
            assert_eq!(place(line.as_bytes()), expected);
        }
    }
}
