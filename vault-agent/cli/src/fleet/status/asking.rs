//! A remark above the status: hosts that ask to join wait for an owner, and nothing is wrong.

use crate::client::Client;
use crate::context::Global;
use crate::owner::machine::requests;
use machine::local::Status;

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
    let names: Vec<&str> = asking.iter().map(|it| it.line.name.as_str()).collect();
    global.term.say_hinted(
        format!("waiting to join: {}", names.join(", ")),
        "`vault machine approve` shows their words, `vault machine approve NAME` adds one",
    );
}
