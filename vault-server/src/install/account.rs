//! The server's user on this host: found, or made by the system's own programs.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use host::hint::hinted;
use host::systemd::failed;
use host::term::Term;

use super::unit::USER;

/// Returns user and group of the host's server by number, making both if they are not there.
///
/// # Errors
/// If they cannot be made.
pub fn account(home: &Path, term: &Term) -> Result<(u32, u32)> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let line = format!("u {USER} - \"Vault server\" {}", home.display());
    let home = home.display().to_string();
    let useradd = "--system --user-group --no-create-home --shell /usr/sbin/nologin --home-dir";
    let ways = [
        ("systemd-sysusers", vec!["--inline", &line]),
        ("useradd", useradd.split(' ').chain([home.as_str(), USER]).collect()),
    ];
    let mut why = String::from("there is neither `systemd-sysusers` nor `useradd`");
    for (program, arguments) in ways {
        match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => match find() {
                Some(found) => {
                    term.say(format!("made user `{USER}`"));
                    return Ok(found);
                }
                None => why = format!("`{program}` has made none"),
            },
            Ok(output) => why = failed(program, &output).to_string(),
            Err(fault) if fault.kind() == ErrorKind::NotFound => {}
            Err(fault) => why = format!("cannot run `{program}`: {fault}"),
        }
    }
    let way = format!("make a system user `{USER}`, and try again");
    Err(hinted(format!("cannot make user `{USER}`: {why}"), way))
}

fn find() -> Option<(u32, u32)> {
    host::account::user(USER).map(|user| (user.uid, user.gid))
}
