//! Making the server of this host: its port, its data, and the setup line, which goes from its
//! program's output into a private file and nowhere else.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use shared::token::{Line as _, SetupLine};
use zeroize::Zeroizing;

use super::journal::Begun;
use super::places::Server;
use host::hint::{hinted, parsed};
use host::shown::Shown;
use host::term::Term;
use machine::paths::Paths;

/// The usual port, and how many above it are tried.
const USUAL: u16 = 8443;
const TRIED: u16 = 100;

/// How often a server is made anew that another run has made meanwhile.
const TRIES: u32 = 3;

/// Returns the port that was asked for, else the usual one or the next that is free.
///
/// # Errors
/// If the one asked for is taken, or none is free.
pub fn port(wanted: Option<u16>) -> Result<u16> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    match wanted {
        None => (USUAL..USUAL + TRIED).find(|port| free(*port).is_ok()).ok_or_else(|| {
            let text = format!("no port from {USUAL} to {} is free", USUAL + TRIED - 1);
            hinted(text, "name a free one with `--port N`")
        }),
        Some(port) => match free(port) {
            Ok(_) => Ok(port),
            Err(why) => bail!(hinted(
                format!("port {port} cannot be used: {why}"),
                format!("`ss -ltnp 'sport = {port}'` names who has it; or leave `--port` out"),
            )),
        },
    }
}

/// Makes the server, or takes the one that an earlier run has made; returns its setup line.
///
/// # Errors
/// If `vault-server init` fails, with what it said.
pub fn make(server: &Server, mut begun: Begun, paths: &Paths, term: &Term) -> Result<SetupLine> {
    if let Some(line) = begun.line {
        return Ok(line);
    }
    begun.store(paths)?;
    let printed = init(server, &begun)?;
    let text = std::str::from_utf8(&printed).context("reading the setup line")?;
    let line = parsed(SetupLine::from_line(text))?;
    begun.line = Some(line.clone());
    begun.store(paths)?;
    let (data, config) = (server.data.display(), server.config.display());
    term.say(format!("server   made in `{data}`, configured by `{config}`"));
    Ok(line)
}

/// Runs `vault-server init` and returns what it prints. A server without a setup line in our hands
/// is removed before; also one that an interrupted run is still making.
fn init(server: &Server, begun: &Begun) -> Result<Zeroizing<Vec<u8>>> {
    let mut tries = 0;
    loop {
        if server.is_there() {
            server.discard()?;
        }
        let mut init = server.command("init");
        init.arg("--listen").arg(format!("0.0.0.0:{}", begun.port));
        for address in &begun.addresses {
            init.arg("--address").arg(address);
        }
        let output = init.stdin(Stdio::null()).output().context("starting `vault-server init`")?;
        if output.status.success() {
            return Ok(Zeroizing::new(output.stdout));
        }
        tries += 1;
        if tries == TRIES {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(hinted(
                Shown::text(format!("`vault-server init` failed: {}", said.trim())),
                "nothing else was made; once that is mended, run the same line again",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_refused_or_passed_over() {
        let taken = TcpListener::bind("0.0.0.0:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let fault = port(Some(number)).unwrap_err();
        assert!(fault.to_string().starts_with(&format!("port {number} cannot be used")), "{fault}");
        // Whether the usual one is free is this machine's affair; a free one is found.
        let usual = TcpListener::bind((Ipv4Addr::UNSPECIFIED, USUAL));
        let found = port(None).unwrap();
        assert_ne!(found, USUAL, "it is taken, by this test or by others");
        drop(usual);
        drop(taken);
        assert_eq!(port(Some(number)).unwrap(), number);
    }
}
