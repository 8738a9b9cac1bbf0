//! What is tried against every lie and every attack: sync, `kv get`, `kv put`, `machine add`,
//! `machine remove`, and that no target differs by a byte.

use std::thread;

use tests::{Host, Ran};

/// What reads give: the content that the host had before.
pub const VALUE: &str = "one";
/// The secret of the target.
pub const SECRET: &str = "secret/jjeco/a";
/// A secret that no target holds.
const OTHER: &str = "secret/jjeco/other";

/// The three acts that write, by name.
const WRITES: [&str; 3] = ["kv put", "machine add", "machine remove"];

/// How the three acts that write must end.
#[derive(Clone, Copy)]
pub enum End {
    /// They are done.
    Done,
    /// They are refused, with this text in the error.
    Refused(&'static str),
}

/// Looks the target's secret up: gives what was there before, or says `why` not.
pub fn get(name: &str, host: &Host, why: Option<&str>) {
    let Ran { code, out, err } = host.vault(&["kv", "get", "-field=K", SECRET]);
    let text = format!("{name}: `kv get` ended with {code}:\n{out}\n{err}");
    match why {
        None => assert!(code == 0 && out.trim_end() == VALUE, "{text}"),
        Some(why) => assert!(code != 0 && err.contains(why), "{why} expected; {text}"),
    }
}

/// Does the three acts that write, side by side: each may have to wait for an answer that never
/// comes.
pub fn writes(host: &Host, line: &str, spare: &str) -> [Ran; 3] {
    let put: &[&str] = &["kv", "put", OTHER, "K=two"];
    let add: &[&str] = &["machine", "add", line, "--read", "secret/jjeco/", "--yes"];
    let remove: &[&str] = &["machine", "remove", spare, "--yes"];
    thread::scope(|scope| {
        let acts = [put, add, remove].map(|act| scope.spawn(move || host.vault(act)));
        acts.map(|act| act.join().unwrap())
    })
}

/// Checks how the three acts have ended.
pub fn check(name: &str, ran: [Ran; 3], ends: [End; 3]) {
    for ((act, Ran { code, out, err }), end) in WRITES.iter().zip(ran).zip(ends) {
        let text = format!("{name}: `{act}` ended with {code}:\n{out}\n{err}");
        match end {
            End::Done => assert_eq!(code, 0, "{text}"),
            End::Refused(why) => assert!(code != 0 && err.contains(why), "{why} expected; {text}"),
        }
    }
}
