//! Owners on connections by their own keys: the log is theirs, and nothing else.

use hyper::StatusCode;
use shared::keys::SignKey;
use shared::log::Op;
use shared::name::Actor;

use crate::client::{Client, refused};
use crate::world::{World, post, signed};

#[tokio::test]
async fn an_owners_own_key_is_for_the_log_alone() {
    let mut world = World::new().await;
    let first = world.client(&world.first).await;
    let blob = format!("/v1/blob/{}", world.write(&first, "secret/a", "1").await);
    let root = Client::connect(world.server.addr, &world.server_key, &world.root).await;
    let admin = Client::connect(world.server.addr, &world.server_key, &world.admin).await;
    let (op, bytes) = world.put("secret/a", "2");
    let machines = world.by_first(vec![op]);
    for owner in [&root, &admin] {
        assert!(owner.get("/v1/log").await.0.is_success());
        for path in [
            "/v1/log?follow=true",
            "/v1/join",
            "/v1/targets",
            "/v1/audit",
            "/v1/audit/leaves",
            "/v1/shares",
            &blob,
        ] {
            assert_eq!(refused(owner.get(path).await), (403, "forbidden".to_owned()), "{path}");
        }
        let carried = post(owner, &machines, vec![bytes.clone()]).await;
        assert_eq!(refused(carried).1, "E_ACTOR");
    }

    let (name, key) = ("me".parse().unwrap(), SignKey::generate().verify_key());
    let ops = vec![Op::AdminRemove { name }, Op::AdminAdd { name: "you".parse().unwrap(), key }];
    let entry = signed(&world.state, &world.root, &Actor::Root, ops);
    world.append(&root, entry.clone(), vec![]).await;
    assert_eq!(post(&root, &entry, vec![]).await.0, StatusCode::CREATED, "sent again");
    let out = refused(admin.get("/v1/log").await);
    assert_eq!(out, (403, "forbidden".to_owned()), "an admin no more");
}
