//! Hosts that ask to join, as the server tells of them: each line is verified here, and is still
//! only a stranger's word.

use anyhow::Result;
use shared::text::Text;
use shared::time::Time;
use shared::token::{Line as _, MachineLine};

use crate::client::Client;
use host::term::Term;
use machine::local::{JOIN, JoinList, Waiting};

/// A host that asks.
#[derive(Debug)]
pub struct Request {
    /// Its line; the proof in it is right.
    pub line: MachineLine,
    /// Where it asks from, as the server says.
    pub addr: Text<64>,
    /// When it came, as the server says.
    pub at: Time,
}

/// Returns who asks, the oldest first. What the server calls a line and is none is named, and left
/// out.
///
/// # Errors
/// If no agent answers, or the server is away.
pub fn all(client: &Client, term: &Term) -> Result<Vec<Request>> {
    let JoinList { waiting } = client.get(JOIN, &[])?;
    let mut found: Vec<Request> = Vec::new();
    for Waiting { line, addr, at } in waiting {
        match MachineLine::from_line(&line) {
            // One that the server names twice asks once.
            Ok(line) if found.iter().any(|it| it.line == line) => {}
            Ok(line) => found.push(Request { line, addr, at }),
            Err(why) => term.say(format!("a request from {addr} is left out: {why}")),
        }
    }
    Ok(found)
}
