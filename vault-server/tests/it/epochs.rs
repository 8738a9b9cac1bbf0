//! A database that is set back more than once: what of an epoch that is gone whole still counts.

use hyper::StatusCode;
use shared::head::SignedHead;
use shared::log::apply;

use crate::client::Client;
use crate::restart::copy;
use crate::restored::{Back, lose, resuming};
use crate::world::Running;

#[tokio::test]
async fn heads_of_an_epoch_that_was_lost_whole_are_given_up_too() {
    let mut lost = lose(Back::Everything).await;
    // The same copy is put back twice: the second time all that came after the resumption is lost.
    lost.world.server.stop().await;
    let again = lost.world.dir.path().join("again");
    copy(&lost.world.config.data, &again);
    lost.world.server = Running::start(lost.world.config.clone()).await;
    let client = lost.first().await;
    let shown =
        async |client: &Client, head: &SignedHead| client.showing(head).get("/v1/log").await.0;
    assert_eq!(shown(&client, &lost.world.newest()).await, StatusCode::OK);
    let entry = lost.resume(&client, "me").await;
    assert_eq!(resuming(&client, &entry, lost.code()).await.0, 201);
    let mut state = lost.past();
    apply(&mut state, &entry).unwrap();
    lost.world.state = state;
    lost.world.write(&client, "secret/a", "soon lost").await;
    let head = lost.world.newest();
    drop(client);
    lost.world.server.stop().await;
    lost.world.config.data = again;
    lost.world.server = Running::start(lost.world.config.clone()).await;

    let client = lost.first().await;
    assert!(!lost.is_restored().await);
    assert_eq!(shown(&client, &head).await, StatusCode::OK);
    assert!(lost.is_restored().await);
    let entry = lost.resume(&client, "me").await;
    assert_eq!(resuming(&client, &entry, lost.code()).await.0, 201);
    // A machine that has not gone over yet still shows it.
    assert_eq!(shown(&client, &head).await, StatusCode::OK);
    assert!(!lost.is_restored().await);
    lost.kill().await;
    let client = lost.first().await;
    assert_eq!(shown(&client, &head).await, StatusCode::OK);
    assert!(!lost.is_restored().await);
}
