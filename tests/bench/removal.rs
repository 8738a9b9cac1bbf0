//! A host goes that read hundreds of secrets: how long `vault machine remove` takes, from the call
//! to its end, when every secret is re-encrypted.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tests::{Host, World, watch};

use crate::latency;
use crate::table::Row;

const SECRETS: usize = 500;
/// Times that a host comes and goes.
const ROUNDS: usize = 5;
const AIM: Duration = Duration::from_secs(2);

pub fn figures() -> Vec<Row> {
    let world = World::new(tests::bins!());
    let owner = world.owner("rtx1080");
    let _others = ["nas", "thinkpad"].map(|name| world.machine(&owner, name, &["*"]));
    let mut socket = UnixStream::connect(owner.state().join("agent.sock")).unwrap();
    for n in 0..SECRETS {
        let path = format!("/v1/secret/data/app/{n}");
        let body = format!(r#"{{"data":{{"API_KEY":"sk-{n:032}"}}}}"#);
        latency::request(&mut socket, "POST", &path, &body);
    }
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let vps = world.machine(&owner, &format!("vps-{round}"), &["secret/app/"]);
        let last = format!("secret/app/{}", SECRETS - 1);
        watch::poll("it reads the last", || {
            (vps.vault(&["kv", "get", &last]).code == 0).then_some(())
        });
        times.push(time(&owner, &["machine", "remove", &vps.name, "--yes"]));
    }
    // Opening the admin's key by its passphrase is as slow as it is meant to be.
    let key = ["--sleeps", "--sleeps=false"].repeat(ROUNDS);
    let key = key.iter().map(|sleeps| time(&owner, &["machine", "set", "nas", sleeps, "--yes"]));
    let mut key: Vec<_> = key.collect();
    let [whole, key] = [&mut times, &mut key].map(|times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    vec![
        Row::at_most("remove a host that read 500 secrets, 4 readers", whole, AIM),
        Row::shown("  an owner's act without any, as it opens the key", format!("{key:.1?}")),
    ]
}

fn time(owner: &Host, args: &[&str]) -> Duration {
    let begun = Instant::now();
    let _ = owner.vault(args).ok();
    begun.elapsed()
}
