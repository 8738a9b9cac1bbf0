//! A server that a host asks to join, and that lies: the host knows twelve words and nothing else.
//! Whatever is said to it, it ends with why, and keeps nothing but its own keys.

use std::process::Stdio;

use shared::hash::Hash;
use shared::keys::SignKey;
use shared::signed::VaultId;
use shared::wire::v1::join::{JoinList, JoinReply, Waiting};
use shared::wire::v1::log::Frame;
use shared::words::VaultWords;
use tests::{Host, Port, World, bins, files_below, find_line, watch};

use crate::scene::harvest;
use crate::server::{Asked, Evil, Reply, Told, json, line, now, refusal};

/// What such a server says, and how the host ends.
pub struct Lie {
    /// Its name in the book.
    pub name: &'static str,
    /// What the host says.
    says: &'static str,
    tell: fn(&Truth) -> Told,
}

impl Lie {
    /// Returns its row of the book's table.
    pub fn row(&self) -> String {
        format!("| {} | {} |", self.name, self.says)
    }
}

/// A vault to which the host was added, and another one.
struct Truth {
    told: Told,
    other: Told,
}

/// Says that the host is a machine.
fn joined(_: &mut Told, asked: &Asked<'_>) -> Option<Reply> {
    (asked.what == "POST /v1/join").then(|| json(200, &JoinReply { joined: true, left: 0 }))
}

/// Says that the host's name is another machine's.
fn taken(_: &mut Told, asked: &Asked<'_>) -> Option<Reply> {
    (asked.what == "POST /v1/join").then(|| refusal(422, "E_EXISTS"))
}

/// Lists one line as waiting, which lies among the blobs, under a hash that none has.
fn exchanged(told: &mut Told, asked: &Asked<'_>) -> Option<Reply> {
    let line = String::from_utf8(told.blobs.get(&Hash::ZERO)?.clone()).unwrap();
    let waiting = vec![Waiting { line, addr: "10.8.0.7".parse().unwrap(), at: now() }];
    (asked.what == "GET /v1/join").then(|| json(200, &JoinList { waiting }))
}

impl Truth {
    /// The truth, as soon as the host asks.
    fn told(&self) -> Told {
        Told { answer: joined, ..self.told.clone() }
    }
}

pub const LIES: &[Lie] = &[
    Lie {
        name: "a host's new server keeps another vault",
        says: "E_BADSIG: the server keeps the vault",
        tell: |truth| Told { answer: joined, ..truth.other.clone() },
    },
    Lie {
        name: "a host's new server is not listed in the log that it shows",
        says: "E_SERVER_PIN: this server's key is not listed",
        tell: |truth| Told { tls: SignKey::generate().into(), ..truth.told() },
    },
    Lie {
        name: "a host is let in by a log that lacks it",
        says: "E_JOIN_SUBSTITUTED: no machine there has this host's signing key",
        tell: |truth| {
            let mut told = truth.told();
            told.log.pop();
            told
        },
    },
    Lie {
        name: "a bit of an entry is flipped for a host that joins",
        says: "E_BADSIG",
        tell: |truth| {
            let mut told = truth.told();
            let last = told.last();
            told.log[last].body[40] ^= 1;
            told
        },
    },
    Lie {
        name: "a log without a beginning is shown to a host that joins",
        says: "E_PARSE: the server's log has no beginning",
        tell: |truth| {
            let stream = |_: &Told, frames: Vec<Frame>| {
                let is_kept = |frame: &&Frame| !matches!(frame, Frame::Genesis(_));
                frames.iter().filter(is_kept).map(line).collect()
            };
            Told { stream, ..truth.told() }
        },
    },
    Lie {
        name: "heads are signed by another key for a host that joins",
        says: "E_BADSIG",
        tell: |truth| Told { key: SignKey::generate().into(), ..truth.told() },
    },
    Lie {
        name: "a host that was added is told that nobody has",
        says: "nobody approved this host within 2 s",
        tell: |truth| {
            let answer = |_: &mut Told, asked: &Asked<'_>| {
                let reply = JoinReply { joined: false, left: u64::MAX };
                (asked.what == "POST /v1/join").then(|| json(200, &reply))
            };
            Told { answer, ..truth.told.clone() }
        },
    },
    Lie {
        name: "a host that joins is told that its name is taken",
        says: "says: E_EXISTS: machine `vps` is in the vault already",
        tell: |truth| Told { answer: taken, ..truth.told.clone() },
    },
    Lie {
        name: "a request to join is refused in words that steer a terminal",
        says: "E_KEY",
        tell: |truth| {
            let answer = |_: &mut Told, asked: &Asked<'_>| {
                let (status, body) = refusal(422, "E_KEY");
                let body = String::from_utf8(body).unwrap();
                let body = body.replace("the server", "\\u001b[2J\\n\\u202ethe server");
                (asked.what == "POST /v1/join").then(|| (status, body.into_bytes()))
            };
            Told { answer, ..truth.told.clone() }
        },
    },
];

/// Founds a vault that holds one machine more, if there is a line; returns what its server holds.
fn founded(world: &mut World, line: Option<&str>) -> Told {
    let mut owner = world.owner("rtx1080");
    if let Some(line) = line {
        let _ = owner.vault(&["machine", "add", line, "--read", "*", "--yes"]).ok();
    }
    owner.stop();
    assert!(world.server.take().unwrap().stop());
    harvest(world)
}

fn ask(host: &Host, address: &str, vault: VaultId) -> tests::Ran {
    let words = VaultWords::of(&vault).to_string();
    let args = ["join", "--wait", address, "--vault", &words, "--name", "vps", "--timeout", "2s"];
    host.agent_command(&args)
}

#[test]
fn a_host_that_joins_believes_no_server_that_lies() {
    let (mut world, mut elsewhere) = (World::new(bins!()), World::new(bins!()));
    let host = world.host("vps");
    let made = host.agent_command(&["init", "--name", "vps"]).ok();
    let told = founded(&mut world, Some(&find_line(&made, "VLTM1-")));
    let truth = Truth { told, other: founded(&mut elsewhere, None) };
    let vault = truth.told.vault;
    let mut wrong = String::new();
    for Lie { name, says, tell } in LIES {
        let _server = Evil::start(world.address(), tell(&truth));
        let ran = ask(&host, world.address(), vault);
        let files = files_below(&host.state());
        let is_right = ran.code == 2 && ran.err.contains(says) && files.len() == 2;
        if !is_right || ran.err.contains(['\u{1b}', '\u{202e}']) {
            wrong += &format!("{name}: {}\n{}\n{files:?}\n", ran.code, ran.err);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // The same host believes the true one.
    let _server = Evil::start(world.address(), truth.told());
    let ran = ask(&host, world.address(), vault);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("it reads *, and writes nothing"), "{}", ran.err);
}

#[test]
fn a_line_that_the_server_has_exchanged_is_not_signed() {
    let mut world = World::new(bins!());
    let host = world.host("vps");
    let made = host.agent_command(&["init", "--name", "vps"]).ok();
    let words = made.lines().find_map(|line| line.strip_prefix("words: ")).unwrap();
    let mut owner = world.owner("rtx1080");
    let thief = world.host("thief").agent_command(&["init", "--name", "vps"]).ok();
    owner.stop();
    assert!(world.server.take().unwrap().stop());
    let mut told = Told { answer: exchanged, ..harvest(&world) };
    let before = told.last();
    told.blobs.insert(Hash::ZERO, find_line(&thief, "VLTM1-").into_bytes());
    let server = Evil::start(world.address(), told);
    owner.start();
    let approve = |more: &[&str]| {
        owner.vault(&[&["machine", "approve", "vps", "--read", "*", "--yes"], more].concat())
    };
    let ran = approve(&["--words", words]);
    assert!(ran.code == 2 && ran.err.contains("not with those"), "{}", ran.err);
    assert_eq!(approve(&[]).code, 1, "nor without words");
    assert_eq!(server.told().last(), before, "nothing is signed");
    // What the eye would have seen at the other end.
    let list = owner.vault(&["machine", "approve"]).ok();
    assert!(list.contains("vps") && !list.contains(words), "{list}");
}

#[test]
fn a_server_that_refuses_a_host_or_lies_to_it_keeps_it_from_no_other() {
    for answer in [taken as fn(&mut Told, &Asked<'_>) -> Option<Reply>, joined] {
        kept_from_no_other(answer);
    }
}

fn kept_from_no_other(answer: fn(&mut Told, &Asked<'_>) -> Option<Reply>) {
    let (world, mut elsewhere) = (World::new(bins!()), World::new(bins!()));
    let (owner, host) = (world.owner("rtx1080"), world.host("vps"));
    let (port, told) = (Port::reserve(), Told { answer, ..founded(&mut elsewhere, None) });
    let evil = port.address().to_string();
    let _server = Evil::start(&evil, told);
    let vault = owner.vault(&["machine", "invite", "vps", "-format=json"]).ok();
    let vault: serde_json::Value = serde_json::from_str(&vault).unwrap();
    let mut command = host.command(host.bins.agent);
    command.args(["join", "--wait", &evil, world.address(), "--name", "vps", "--vault"]);
    let asking = command.arg(vault["words"].as_str().unwrap()).stderr(Stdio::piped()).spawn();
    let words = watch::poll("the host asks", || {
        let list = owner.vault(&["machine", "approve", "-format=json"]).ok();
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        list[0]["words"].as_str().map(str::to_owned)
    });
    let _ = owner.vault(&["machine", "approve", "vps", "--words", &words, "--yes"]).ok();
    let ended = asking.unwrap().wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
