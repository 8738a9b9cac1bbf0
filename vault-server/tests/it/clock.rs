//! Entries by a wrong clock: a machine's are refused, an owner's are taken, and neither harms what
//! others hold.

use host::clock;
use hyper::StatusCode;
use shared::log::{MetaSet, Op};
use shared::name::Actor;
use shared::signed::Envelope;
use shared::time::Time;
use shared::wire::v1::HEAL;
use shared::wire::v1::error::ErrorBody;
use shared::wire::v1::log::HealRequest;

use crate::client::parse;
use crate::world::{Running, World, post, signed_at};

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

/// The time now by a clock that is so many seconds off.
fn off(seconds: i64) -> Time {
    let now = clock::now().as_micros();
    Time::from_micros(now.saturating_add_signed(seconds * 1_000_000))
}

fn by_first(world: &World, op: Op, time: Time) -> Envelope {
    signed_at(&world.state, &world.first.sign, &world.first.actor(), vec![op], time)
}

fn by_admin(world: &World, op: Op, time: Time) -> Envelope {
    let by = Actor::Admin("me".parse().unwrap());
    signed_at(&world.state, &world.admin, &by, vec![op], time)
}

#[tokio::test]
async fn a_machine_writes_by_the_servers_time_an_owner_by_any() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let far = |year: &str| -> Time { format!("{year}-01-01").parse().unwrap() };
    for (time, taken) in [
        (off(0), true),
        (off(-4 * MINUTE), true),
        (off(4 * MINUTE), true),
        (off(-6 * MINUTE), false),
        (off(6 * MINUTE), false),
        (off(-2 * DAY), false),
        (off(2 * DAY), false),
        (far("1970"), false),
        (far("2037"), false),
        (Time::from_micros(u64::MAX), false),
    ] {
        let (op, bytes) = world.put("secret/a", "one");
        let envelope = by_first(&world, op.clone(), time);
        if taken {
            world.append(&client, envelope, vec![bytes]).await;
            continue;
        }
        let (status, body) = post(&client, &envelope, vec![bytes.clone()]).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{time}");
        let ErrorBody { code, detail } = parse(&body);
        assert_eq!(code, "E_CLOCK");
        let expected = format!("`a` wrote at {time}, the server's clock says 2");
        assert!(detail.starts_with(&expected), "{detail}");
        // An owner's is taken, and nobody is kept from writing after it.
        world.append(&client, by_admin(&world, op, time), vec![bytes]).await;
        world.write(&client, "secret/b", "two").await;
    }
}

#[tokio::test]
async fn a_clock_two_days_back_deletes_nothing_for_others() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/a", "one").await;
    let path = "secret/a".parse().unwrap();
    let (max_versions, cas_required, custom) = (0, false, Default::default());
    let delete_after = DAY * 1_000_000;
    let settings = MetaSet { path, max_versions, cas_required, delete_after, custom };
    world.append(&client, world.by_first(vec![Op::MetaSet(settings)]), vec![]).await;
    world.write(&client, "secret/a", "two").await;

    let (op, bytes) = world.put("secret/a", "three");
    let (status, _) = post(&client, &by_first(&world, op, off(-2 * DAY)), vec![bytes]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let path = "secret/a".parse().unwrap();
    let (ver, version) = world.state.secret(&path).unwrap().current().unwrap();
    assert_eq!((ver, version.is_live(clock::now())), (2, true));
    // Once its clock is right the same machine goes on.
    world.write(&client, "secret/a", "three").await;
}

#[tokio::test]
async fn what_is_in_the_log_is_taken_whatever_its_time() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let old = world.dir.path().join("old");
    crate::restart::copy(&world.config.data, &old);
    let (op, bytes) = world.put("secret/a", "one");
    let entry = by_admin(&world, op, off(-9 * DAY));
    world.append(&client, entry.clone(), vec![bytes.clone()]).await;
    let again = post(&client, &entry, vec![bytes]).await;
    assert_eq!(again.0, StatusCode::CREATED, "the very same bytes again");
    drop(client);
    world.server.stop().await;
    // The head in its file tells that the database was set back.
    std::fs::copy(world.config.data.join("head"), old.join("head")).unwrap();
    world.config.data = old;
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    let request = HealRequest { entries: vec![entry], head: Some(world.newest()), code: None };
    let (status, body) = client.post(HEAL, &request).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
}
