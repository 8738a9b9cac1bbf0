//! What the server says of shares and of its room, in the status.

use shared::log::Number;
use shared::time::Time;
use shared::wire::v1::health::Room;
use shared::wire::v1::shares::{NearShare, OverShare, Share, SharesReply};

use super::world::{World, name};
use machine::local;

#[tokio::test]
async fn who_was_over_a_share_is_named_once_and_accused_of_nothing() {
    let world = World::new().await;
    let _vps = world.machine("vps", &["*"], &[]).await;
    let home = world.machine("home", &["*"], &[]).await;
    let (vps, now) = (world.number("vps"), host::clock::now());
    let long_ago = Time::from_micros(now.as_micros() - 2 * 86_400_000_000);
    let over = |machine: Number, share, last| OverShare { machine, share, count: 812, last };
    let audit = over(vps, Share::Audit, now);
    let over = vec![audit, audit, over(vps, Share::Log, long_ago), over(99, Share::Blobs, now)];
    let until = now.plus(7_200_000_000);
    let near = |machine: Number, share| NearShare { machine, share, used_percent: 93, until };
    let log = near(vps, Share::Log);
    let near = vec![log, log, near(99, Share::Audit)];
    let room = Some(Room::of(90, 10));
    world.server.data().reported.shares =
        SharesReply { over, near, room, ..SharesReply::default() };
    let status = home.engine.fleet().await.unwrap();
    let (machine, share, used_percent) = (name("vps"), Share::Log, 93);
    assert_eq!(status.near, [local::NearShare { machine, share, used_percent, until }]);
    let (machine, share, count, last) = (name("vps"), Share::Audit, 812, now);
    assert_eq!(status.over, [local::OverShare { machine, share, count, last }]);
    assert_eq!((status.room, status.alarms), (room, vec![]));
}
