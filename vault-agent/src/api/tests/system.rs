//! What clients ask before and beside secrets.

use super::World;

#[tokio::test]
async fn nothing_is_sealed() {
    let w = World::new().await;
    w.are(
        r##"
            GET /v1/sys/health => 200 {"initialized":true,"sealed":false,"standby":false,
                "performance_standby":false,"replication_performance_mode":"disabled",
                "replication_dr_mode":"disabled","version":"*"}
            GET /v1/sys/health? => 200 {"sealed":false}
            GET /v1/sys/health?standbyok=true&sealedcode=200 => 200 {"sealed":false}
            HEAD /v1/sys/health => 200 *
            POST /v1/sys/health => 405 []
            GET /v1/sys/health?activecode=299 => 299 {"sealed":false}
            GET /v1/sys/health?activecode=x => 400 []
            GET /v1/sys/seal-status => 200 {"sealed":false,"initialized":true,"t":1,"n":1,
                "progress":0,"type":"shamir","storage_type":"*","cluster_name":"home",
                "cluster_id":"*-*"}
            GET /v1/sys/leader => 200 {"ha_enabled":false,"is_self":false,"leader_address":""}
            GET /v1/sys/init => 200 {"initialized":true}
        "##,
    )
    .await;
}

#[tokio::test]
async fn mounts_are_told_as_clients_want_them() {
    let w = World::new().await;
    let mount = concat!(
        r#"{"type":"kv","options":{"version":"2"},"accessor":"kv_*","uuid":"*","#,
        r#""description":"","local":false,"seal_wrap":false,"external_entropy_access":false,"#,
        r#""config":{"default_lease_ttl":0,"force_no_cache":false,"max_lease_ttl":0}}"#,
    );
    w.are(&format!(
        r##"
            GET /v1/sys/mounts => 200 {{"secret/":{mount},"data":{{"secret/":{mount}}}}}
            GET /v1/sys/mounts/secret => 200 {{"data":{mount}}}
            GET /v1/sys/mounts/secret/ => 200 {{"data":{mount}}}
            GET /v1/sys/mounts/none => 400 "*"
            GET /v1/sys/internal/ui/mounts => 200 {{"data":{{"secret":{{"secret/":{mount}}},
                "auth":{{"token/":"?"}}}}}}
            GET /v1/sys/internal/ui/mounts/secret => 200 {{"data":{{"path":"secret/","type":"kv",
                "options":{{"version":"2"}}}}}}
            GET /v1/sys/internal/ui/mounts/secret/ => 200 {{"data":{{"path":"secret/"}}}}
            GET /v1/sys/internal/ui/mounts/secret/app/db => 200 {{"data":{{"path":"secret/"}}}}
            GET /v1/sys/internal/ui/mounts/other/x => 403 "preflight capability check returned
                403, please ensure client's policies grant access to path \"other/x/\""
        "##
    ))
    .await;
}

#[tokio::test]
async fn mounts_are_made() {
    let w = World::new().await;
    w.are(
        r##"
            GET /v1/team/data/x => 404 "no handler for route \"team/data/x\". route entry not found."
            POST /v1/sys/mounts/team {"type":"kv","options":{"version":"2"}} => 204
            POST /v1/team/data/x {"data":{"k":1}} => 200 {"data":{"version":1}}
            GET /v1/sys/internal/ui/mounts/team/x => 200 {"data":{"path":"team/"}}
            POST /v1/sys/mounts/team {"type":"kv"} => 400 "path is already in use at team/"
            POST /v1/sys/mounts/v1 {"type":"kv","options":{"version":"1"}} => 400 "*"
            POST /v1/sys/mounts/pki {"type":"pki"} => 400 "*"
            POST /v1/sys/mounts/sys {"type":"kv"} => 400 "*"
            POST /v1/sys/mounts/described {"type":"kv","description":"ours"} => 400 "*"
            POST /v1/sys/mounts/team/tune {"description":"ours"} => 400 "*"
            POST /v1/sys/mounts/team/tune {"options":{"version":"2"}} => 204
            POST /v1/sys/mounts/none/tune {"options":{"version":"2"}} => 400 "*"
            GET /v1/sys/mounts/team/tune => 200 {"data":{"options":{"version":"2"}}}
            DELETE /v1/sys/mounts/team => 204
            GET /v1/team/metadata/x => 404 "no handler for route \"team/metadata/x\". route entry not found."
            POST /v1/team/data/x {"data":{"k":1}} => 404 "no handler for route
                \"team/data/x\". route entry not found."
            GET /v1/sys/mounts/team => 400 "No secret engine mount at team/"
            GET /v1/sys/internal/ui/mounts/team/x => 403 "*"
            POST /v1/sys/mounts/team {"type":"kv"} => 204
            POST /v1/team/data/x {"data":{"k":1}} => 200 {"data":{"version":2}}
            DELETE /v1/sys/mounts/none => 204
        "##,
    )
    .await;
}

#[tokio::test]
async fn other_paths_say_what_they_are_not() {
    let w = World::new().await;
    let invalid = concat!(
        r#"{"data":null,"warnings":["Invalid path for a versioned K/V secrets engine. "#,
        "See the API docs for the appropriate API endpoints to use. ",
        "If using the Vault CLI, use 'vault kv ",
    );
    let root = r#"{"data":null,"warnings":["Non-listing operations on the root of a K/V v2 mount are not supported."]}"#;
    w.are(&format!(
        r##"
            GET /v1/secret/foo/x => 404 {invalid}get' for this operation."]}}
            POST /v1/secret/foo => 404 {invalid}put' for this operation."]}}
            DELETE /v1/secret/foo => 404 {invalid}delete' for this operation."]}}
            LIST /v1/secret/foo => 404 {invalid}list' for this operation."]}}
            LIST /v1/secret/ => 404 {invalid}list' for this operation."]}}
            GET /v1/secret => 404 {invalid}get' for this operation."]}}
            GET /v1/secret/ => 404 {invalid}get' for this operation."]}}
            GET /v1/secret/metadata => 404 {root}
            GET /v1/secret/metadata/ => 404 []
            GET /v1/secret/data => 404 {root}
            GET /v1/secret/data/ => 404 {invalid}get' for this operation."]}}
            POST /v1/secret/data {{}} => 404 {root}
            LIST /v1/secret/data/x => 404 {invalid}list' for this operation."]}}
            LIST /v1/secret/subkeys/x => 405 "1 error occurred:\n\t* unsupported operation\n\n"
            BREW /v1/secret/data/x => 405 []
            GET /v1/secret/delete/x => 405 "1 error occurred:\n\t* unsupported operation\n\n"
            DELETE /v1/secret/subkeys/x => 405 "1 error occurred:\n\t* unsupported operation\n\n"
            OPTIONS /v1/secret/data/x => 405 "1 error occurred:\n\t* unsupported operation\n\n"
            POST /v1/sys/mounts => 405 "1 error occurred:\n\t* unsupported operation\n\n"
            DELETE /v1/agent/status => 405 "1 error occurred:\n\t* unsupported operation\n\n"
            GET /v1/sys/nothing => 404 "1 error occurred:\n\t* unsupported path\n\n"
            GET /v1/auth/token/none => 404 "1 error occurred:\n\t* unsupported path\n\n"
            GET /v1/auth/token/renew-self => 405 "1 error occurred:\n\t* unsupported operation\n\n"
            GET /v1/auth/userpass/login/x => 404 "no handler for route
                \"auth/userpass/login/x\". route entry not found."
            GET /v1/ => 404 "no handler for route \"\". route entry not found."
            LIST /v1/none => 404 "no handler for route \"none/\". route entry not found."
            GET /v1/agent/none => 404 "1 error occurred:\n\t* unsupported path\n\n"
            GET / => 404 []
            GET /v1 => 307 *
            GET /v2/x => 404 []
        "##
    ))
    .await;
}

#[tokio::test]
async fn every_caller_learns_who_he_is() {
    let w = World::new().await;
    w.are(
        r##"
            GET /v1/auth/token/lookup-self => 200 {"data":{"accessor":"","creation_time":"?",
                "creation_ttl":0,"display_name":"machine-here","entity_id":"",
                "explicit_max_ttl":0,"id":"","num_uses":0,"orphan":true,"path":"*",
                "policies":["machine"],"ttl":0}}
            POST /v1/auth/token/renew-self {"increment":0} => 200 {"data":null,
                "auth":{"renewable":false,"lease_duration":0,"client_token":""}}
            PUT /v1/auth/token/renew-self => 200 {"auth":{"renewable":false}}
            POST /v1/sys/capabilities-self {"paths":["secret/data/x","nowhere/x"]}
                => 200 {"secret/data/x":["create","delete","patch","read","update"],
                "nowhere/x":["deny"],"data":{"nowhere/x":["deny"]}}
            POST /v1/sys/capabilities-self {"path":"secret/metadata/"}
                => 200 {"capabilities":["list"],"data":{"secret/metadata/":["list"]}}
            POST /v1/sys/capabilities-self {} => 400 "paths must be supplied"
        "##,
    )
    .await;
    let lookup = "GET /v1/auth/token/lookup-self";
    let (status, text) = w.with("x-vault-token", "any", lookup, "").await;
    assert!(status == 200 && text.contains(r#""id":"any""#), "{text}");
}

#[tokio::test]
async fn the_fleet_is_told() {
    let w = World::new().await;
    w.are(
        r##"
            GET /v1/agent/status => 200 {"machine":"here","online":true,"alarms":[],"seq":1}
            GET /v1/agent/machines => 200 {"machines":[{"name":"here","number":1,"active":true,
                "sleeps":false,"sign":"*","read":["*"],"write":["*"],"seen_at":"?","agent":"?"}],
                "next":2,"own":1,"server":["*"]}
        "##,
    )
    .await;
}
