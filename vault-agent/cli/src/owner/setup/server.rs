//! Making the server of this host: its data, and the setup line, which goes from its program's
//! output into a private file and nowhere else.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use shared::token::{Line as _, SetupLine};
use zeroize::Zeroizing;

use super::journal::Begun;
use super::listening::Listening;
use super::places::Server;
use host::hint::{hinted, parsed};
use host::shown::Shown;
use host::term::Term;
use machine::paths::Paths;

/// How often a server is made anew that another run has made meanwhile.
const TRIES: u32 = 3;

/// Makes the server, or takes the one that an earlier run has made, and has it listen where it is
/// to listen now; returns its setup line.
///
/// # Errors
/// If `vault-server init` fails, with what it said.
pub fn make(
    server: &Server,
    listening: &Listening,
    mut begun: Begun,
    paths: &Paths,
    term: &Term,
) -> Result<SetupLine> {
    begun.port = listening.at.port();
    begun.addresses = listening.addresses();
    if let Some(line) = &mut begun.line {
        line.addresses.clone_from(&begun.addresses);
    }
    begun.store(paths)?;
    let line = match begun.line.clone() {
        Some(line) => line,
        None => {
            let printed = init(server, listening)?;
            let text = std::str::from_utf8(&printed).context("reading the setup line")?;
            let line = parsed(SetupLine::from_line(text))?;
            begun.line = Some(line.clone());
            begun.store(paths)?;
            let (data, config) = (server.data.display(), server.config.display());
            term.say(format!("server   made in `{data}`, configured by `{config}`"));
            line
        }
    };
    server.configure(listening.at, &begun.addresses)?;
    Ok(line)
}

/// Runs `vault-server init` and returns what it prints. A server without a setup line in our hands
/// is removed before; also one that an interrupted run is still making.
fn init(server: &Server, listening: &Listening) -> Result<Zeroizing<Vec<u8>>> {
    let mut tries = 0;
    loop {
        if server.is_there() {
            server.discard()?;
        }
        let mut init = server.command("init");
        init.arg("--listen").arg(listening.at.to_string());
        for address in &listening.addresses {
            init.arg("--address").arg(&address.at);
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
