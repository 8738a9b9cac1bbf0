//! Checkpoints: the state that an owner vouches for is handed out, and the entries before it go
//! once nobody needs them; also if the server ends in between.

use hyper::StatusCode;
use rusqlite::Connection;
use shared::error::Code;
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::log::{Checkpoint, Op, Owners, State, StateReader, apply, start};
use shared::signed::Envelope;
use shared::wire::v1::checkpoint::Vouched;
use shared::wire::v1::log::Frame;
use shared::wire::v1::{CHECKPOINT, REPORT};

use crate::client::{Client, parse, refused};
use crate::world::{Machine, World, post, signed};

/// Folds what the server shows to a machine that knows the vault's id alone.
pub async fn shown(client: &Client) -> (Vouched, State) {
    let (status, body) = client.get(CHECKPOINT).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let end = body.iter().position(|byte| *byte == b'\n').unwrap();
    let vouched: Vouched = parse(&body[..end]);
    let mut owners = Owners::of(&start(&vouched.genesis).unwrap());
    vouched.owners.iter().for_each(|entry| owners.follow(entry).unwrap());
    let mut reader = StateReader::new(owners.vouched(&vouched.entry).unwrap());
    reader.take(&body[end + 1..]).unwrap();
    (vouched, reader.finish().unwrap())
}

/// Appends a checkpoint of what the log folds to.
pub async fn compact(world: &mut World, client: &Client) -> Checkpoint {
    let named = world.state.summed();
    world.append(client, world.by_admin(vec![Op::Checkpoint(named)]), vec![]).await;
    named
}

/// Says by the `n`th report of a machine that it has everything.
pub async fn report(world: &World, client: &Client, machine: &Machine, n: u64) {
    let record = world.report(machine, &world.seen(machine, n));
    let (status, body) = client.post(REPORT, &record).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
}

/// Starts the server anew, which looks at once what may go, and waits until it has begun.
async fn begins_later(world: &mut World) -> Client {
    world.restart().await;
    let client = world.client(&world.first).await;
    while client.get("/v1/log?after=0").await.0 != StatusCode::GONE {
        tokio::task::yield_now().await;
    }
    client
}

/// Waits until so many entries are left, the genesis among them.
async fn left(world: &World, expected: u64) {
    let conn = Connection::open(world.config.data.join("vault.db")).unwrap();
    let count = || {
        let count = conn.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, i64>(0));
        count.unwrap().unsigned_abs()
    };
    while count() != expected {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn entries_go_once_every_machine_that_is_awake_is_past_them() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    assert_eq!(refused(client.get(CHECKPOINT).await), (404, "no_checkpoint".to_owned()));
    let vps = world.add(&client, "vps", &["secret/"]).await;
    let sleeper = world.add(&client, "sleeper", &[]).await;
    let number = world.number(&sleeper);
    let set = Op::MachineSet { number, sleeps: true, was: world.state.was_machine(number) };
    world.append(&client, world.by_admin(vec![set]), vec![]).await;
    for n in 0..3 {
        world.write(&client, "secret/a", &n.to_string()).await;
    }
    let named = compact(&mut world, &client).await;
    let (vouched, mut state) = shown(&client).await;
    assert_eq!((state.seq(), vouched.owners.len()), (named.seq, 0));
    apply(&mut state, &vouched.entry).unwrap();
    assert!(state == world.state);
    // One that is awake has not said that it is past them.
    report(&world, &client, &world.first, 1).await;
    world.restart().await;
    let client = world.client(&world.first).await;
    assert_eq!(client.page(0).await.len() as u64, named.seq + 4, "genesis, entries, two heads");
    let remote = world.client(&vps).await;
    report(&world, &remote, &vps, 1).await;
    let client = begins_later(&mut world).await;
    left(&world, 2).await;
    for after in [0, 1, named.seq - 1] {
        let log = format!("/v1/log?after={after}");
        assert_eq!(refused(client.get(&log).await), (410, "compacted".to_owned()), "{after}");
        let follow = format!("{log}&follow=true");
        assert_eq!(refused(client.get(&follow).await), (410, "compacted".to_owned()));
    }
    let page = client.page(named.seq).await;
    let [Frame::Head(_), Frame::Entry { envelope, .. }, Frame::Head(_)] = &page[..] else {
        panic!("{page:?}")
    };
    assert_eq!(*envelope, vouched.entry);
    // It goes on, now and after another start.
    world.write(&client, "secret/a", "more").await;
    world.restart().await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/b", "still").await;
    let (_, mut state) = shown(&client).await;
    for frame in client.page(named.seq).await {
        if let Frame::Entry { envelope, .. } = frame {
            apply(&mut state, &envelope).unwrap();
        }
    }
    assert!(state == world.state);
    // A report from before the checkpoint, as of one that was asleep, is no lie, and lacks nothing.
    let old = world.heads[1];
    let mut seen = world.seen(&sleeper, 1);
    (seen.seq, seen.head, seen.server_sig) = (old.seq, old.head, old.sig);
    let asleep = world.client(&sleeper).await.showing(&old);
    let (status, body) = asleep.post(REPORT, &world.report(&sleeper, &seen)).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    assert_eq!(asleep.get("/v1/log?after=2").await.0, StatusCode::GONE);
    world.write(&client, "secret/c", "not set back").await;
}

#[tokio::test]
async fn a_state_that_the_log_does_not_lead_to_is_refused() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let good = world.state.summed();
    for lie in [Checkpoint { state: Hash::ZERO, ..good }, Checkpoint { size: 9, ..good }] {
        let answer = post(&client, &world.by_admin(vec![Op::Checkpoint(lie)]), vec![]).await;
        assert_eq!(refused(answer), (422, Code::Checkpoint.as_str().to_owned()));
    }
    let answer = post(&client, &world.by_first(vec![Op::Checkpoint(good)]), vec![]).await;
    assert_eq!(refused(answer), (422, Code::Denied.as_str().to_owned()));
    compact(&mut world, &client).await;
    // Another one takes its place; what it stands for goes to its end with later starts.
    world.write(&client, "secret/a", "1").await;
    let newer = compact(&mut world, &client).await;
    assert_eq!(shown(&client).await.1.seq(), newer.seq);
}

fn by(world: &World, key: &SignKey, who: &str, op: Op) -> Envelope {
    signed(&world.state, key, &who.parse().unwrap(), vec![op])
}

#[tokio::test]
async fn who_the_owners_are_can_be_told_when_their_entries_are_gone() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let eva = SignKey::generate();
    let add = Op::AdminAdd { name: "eva".parse().unwrap(), key: eva.verify_key() };
    let entry = by(&world, &world.root, "root", add);
    world.append(&client, entry, vec![]).await;
    let (put, bytes) = world.put("secret/a", "by root");
    let entry = by(&world, &world.root, "root", put);
    world.append(&client, entry, vec![bytes]).await;
    let named = world.state.summed();
    let entry = by(&world, &eva, "admin:eva", Op::Checkpoint(named));
    world.append(&client, entry, vec![]).await;
    report(&world, &client, &world.first, 1).await;
    let client = begins_later(&mut world).await;
    // The genesis, what root changed of the owners, and the checkpoint.
    left(&world, 3).await;
    let (vouched, state) = shown(&client).await;
    assert_eq!((vouched.owners.len(), state.seq()), (1, named.seq));
}
