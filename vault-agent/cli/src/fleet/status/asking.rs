//! A remark above the status: hosts that ask to join wait for an owner, and nothing is wrong.

use crate::client::Client;
use crate::context::Global;
use crate::owner::machine::requests;
use machine::local::Status;

/// Most names that are shown: strangers choose them.
const NAMED: usize = 8;

/// Names them on a host with an admin key, where somebody can do something about it.
pub(super) fn remark(global: &Global, client: &Client, status: &Status) {
    if !status.online || !global.paths().is_ok_and(|paths| paths.admin().is_dir()) {
        return;
    }
    // A server that has gone since is the next status' to tell.
    let Ok(asking) = requests::all(client, &global.term) else { return };
    if asking.is_empty() {
        return;
    }
    let names: Vec<&str> = asking.iter().take(NAMED).map(|it| it.line.name.as_str()).collect();
    let more = match asking.len() - names.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    global.term.say_hinted(
        format!("waiting to join: {}{more}", names.join(", ")),
        "`vault machine approve` shows their words, `vault machine approve NAME` adds one",
    );
}
