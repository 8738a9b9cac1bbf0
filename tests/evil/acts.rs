//! What is tried against every lie and every attack: sync, `kv get`, `kv put`, `machine add`,
//! `machine remove`, and that no target differs by a byte.

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
    let text = format!("{name}: `kv get` ends with {code}:\n{out}\n{err}");
    match why {
        None => assert!(code == 0 && out.trim_end() == VALUE, "{text}"),
        Some(why) => assert!(code != 0 && err.contains(why), "{why} expected; {text}"),
    }
}

/// Does the three acts that write, one after another: each may have to wait for an answer that
/// never comes, and an agent writes one thing at a time.
pub fn writes(host: &Host, line: &str, spare: &str) -> [Ran; 3] {
    let put: &[&str] = &["kv", "put", OTHER, "K=two"];
    let add: &[&str] = &["machine", "add", line, "--read", "secret/jjeco/", "--yes"];
    let remove: &[&str] = &["machine", "remove", spare, "--yes"];
    [put, add, remove].map(|act| host.vault(act))
}

/// Returns what has ended otherwise than it should.
pub fn unexpected(ran: [Ran; 3], ends: [End; 3]) -> Vec<String> {
    let faults = WRITES.iter().zip(ran).zip(ends).filter_map(|((act, ran), end)| {
        let Ran { code, out, err } = ran;
        let (is_right, wanted) = match end {
            End::Done => (code == 0, "done"),
            End::Refused(why) => (code != 0 && err.contains(why), why),
        };
        (!is_right).then(|| format!("`{act}` is not {wanted:?} but {code}:\n{out}\n{err}"))
    });
    faults.collect()
}
