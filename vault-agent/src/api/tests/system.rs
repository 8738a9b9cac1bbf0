//! What clients ask before and beside secrets.

use super::World;

#[tokio::test]
async fn nothing_is_sealed() {
    let w = World::new().await;
    let health = r#"{"initialized":true,"sealed":false,"standby":false,"performance_standby":false,"replication_performance_mode":"disabled","replication_dr_mode":"disabled","version":"*"}"#;
    for path in
        ["/v1/sys/health", "/v1/sys/health?", "/v1/sys/health?standbyok=true&sealedcode=200"]
    {
        w.is(&format!("GET {path}"), "", 200, health).await;
        w.is(&format!("HEAD {path}"), "", 200, "*").await;
    }
    w.is("GET /v1/sys/seal-status", "", 200, r#"{"sealed":false,"initialized":true,"t":1,"n":1,"progress":0,"type":"shamir","storage_type":"*","cluster_name":"*"}"#).await;
    w.is(
        "GET /v1/sys/leader",
        "",
        200,
        r#"{"ha_enabled":false,"is_self":false,"leader_address":""}"#,
    )
    .await;
    w.is("GET /v1/sys/init", "", 200, r#"{"initialized":true}"#).await;
    w.is("POST /v1/sys/health", "", 405, r#"{"errors":["*"]}"#).await;
}

#[tokio::test]
async fn mounts_are_told_as_clients_want_them() {
    let w = World::new().await;
    let mount = r#"{"type":"kv","options":{"version":"2"},"accessor":"kv_*","uuid":"*","description":"","local":false,"seal_wrap":false,"external_entropy_access":false,
        "config":{"default_lease_ttl":0,"force_no_cache":false,"max_lease_ttl":0}}"#;
    w.is(
        "GET /v1/sys/mounts",
        "",
        200,
        &format!(r#"{{"secret/":{mount},"data":{{"secret/":{mount}}}}}"#),
    )
    .await;
    w.is("GET /v1/sys/mounts/secret", "", 200, &format!(r#"{{"data":{mount}}}"#)).await;
    w.is("GET /v1/sys/mounts/secret/", "", 200, &format!(r#"{{"data":{mount}}}"#)).await;
    w.is("GET /v1/sys/mounts/none", "", 400, r#"{"errors":["*"]}"#).await;
    w.is(
        "GET /v1/sys/internal/ui/mounts",
        "",
        200,
        &format!(r#"{{"data":{{"secret":{{"secret/":{mount}}},"auth":{{"token/":"?"}}}}}}"#),
    )
    .await;
    for path in ["secret", "secret/", "secret/app/db", "secret/data/x"] {
        let path = format!("GET /v1/sys/internal/ui/mounts/{path}");
        w.is(
            &path,
            "",
            200,
            r#"{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}"#,
        )
        .await;
    }
    w.is("GET /v1/sys/internal/ui/mounts/other/x", "", 403, r#"{"errors":["preflight capability check returned 403, please ensure client's policies grant access to path \"other/x/\""]}"#).await;
}

#[tokio::test]
async fn mounts_are_made() {
    let w = World::new().await;
    w.is(
        "GET /v1/team/data/x",
        "",
        404,
        r#"{"errors":["no handler for route \"team/data/x\". route entry not found."]}"#,
    )
    .await;
    w.is("POST /v1/sys/mounts/team", r#"{"type":"kv","options":{"version":"2"}}"#, 204, "").await;
    w.is("POST /v1/team/data/x", r#"{"data":{"k":1}}"#, 200, r#"{"data":{"version":1}}"#).await;
    w.is("GET /v1/sys/internal/ui/mounts/team/x", "", 200, r#"{"data":{"path":"team/"}}"#).await;
    w.is(
        "POST /v1/sys/mounts/team",
        r#"{"type":"kv"}"#,
        400,
        r#"{"errors":["path is already in use at team/"]}"#,
    )
    .await;
    w.is(
        "POST /v1/sys/mounts/v1",
        r#"{"type":"kv","options":{"version":"1"}}"#,
        400,
        r#"{"errors":["*"]}"#,
    )
    .await;
    w.is("POST /v1/sys/mounts/pki", r#"{"type":"pki"}"#, 400, r#"{"errors":["*"]}"#).await;
    w.is("POST /v1/sys/mounts/sys", r#"{"type":"kv"}"#, 400, r#"{"errors":["*"]}"#).await;
    w.is("POST /v1/sys/mounts/team/tune", r#"{"options":{"version":"2"}}"#, 204, "").await;
    w.is(
        "POST /v1/sys/mounts/none/tune",
        r#"{"options":{"version":"2"}}"#,
        400,
        r#"{"errors":["*"]}"#,
    )
    .await;
    w.is("GET /v1/sys/mounts/team/tune", "", 200, r#"{"data":{"options":{"version":"2"}}}"#).await;
    w.is("DELETE /v1/sys/mounts/team", "", 405, r#"{"errors":["*"]}"#).await;
}

#[tokio::test]
async fn other_paths_say_what_they_are_not() {
    let w = World::new().await;
    let invalid = |verb: &str| {
        format!(
            r#"{{"data":null,"warnings":["Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. If using the Vault CLI, use 'vault kv {verb}' for this operation."]}}"#
        )
    };
    w.is("GET /v1/secret/foo/x", "", 404, &invalid("get")).await;
    w.is("POST /v1/secret/foo", "", 404, &invalid("put")).await;
    w.is("DELETE /v1/secret/foo", "", 404, &invalid("delete")).await;
    w.is("LIST /v1/secret/foo", "", 404, &invalid("list")).await;
    w.is("LIST /v1/secret/", "", 404, &invalid("list")).await;
    let root = r#"{"data":null,"warnings":["Non-listing operations on the root of a K/V v2 mount are not supported."]}"#;
    for path in ["/v1/secret", "/v1/secret/", "/v1/secret/metadata", "/v1/secret/data/"] {
        w.is(&format!("GET {path}"), "", 404, root).await;
    }
    let method = r#"{"errors":["1 error occurred:\n\t* unsupported operation\n\n"]}"#;
    for request in [
        "LIST /v1/secret/data/x",
        "GET /v1/secret/delete/x",
        "DELETE /v1/secret/subkeys/x",
        "OPTIONS /v1/secret/data/x",
        "POST /v1/sys/mounts",
        "DELETE /v1/agent/status",
    ] {
        w.is(request, "", 405, method).await;
    }
    for path in ["/v1/sys/nothing", "/v1/auth/userpass/login/x", "/v1/agent/none"] {
        w.is(
            &format!("GET {path}"),
            "",
            404,
            r#"{"errors":["1 error occurred:\n\t* unsupported path\n\n"]}"#,
        )
        .await;
    }
    for path in ["/", "/v1", "/v2/x"] {
        w.is(&format!("GET {path}"), "", 404, r#"{"errors":[]}"#).await;
    }
}

#[tokio::test]
async fn every_caller_learns_who_he_is() {
    let w = World::new().await;
    let own = r#"{"data":{"accessor":"","creation_time":0,"creation_ttl":0,"display_name":"machine-here","entity_id":"","explicit_max_ttl":0,"id":"","num_uses":0,"orphan":true,"path":"*","policies":["machine"],"ttl":0}}"#;
    w.is("GET /v1/auth/token/lookup-self", "", 200, own).await;
    let (status, text) = w.with("x-vault-token", "any", "GET /v1/auth/token/lookup-self", "").await;
    assert!(status == 200 && text.contains(r#""id":"any""#), "{text}");
    for verb in ["POST", "PUT"] {
        w.is(
            &format!("{verb} /v1/auth/token/renew-self"),
            r#"{"increment":0}"#,
            200,
            r#"{"data":null,"auth":{"renewable":false,"lease_duration":0,"client_token":""}}"#,
        )
        .await;
    }
    w.is("POST /v1/sys/capabilities-self", r#"{"paths":["secret/data/x","nowhere/x"]}"#, 200, r#"{"secret/data/x":["create","delete","patch","read","update"],"nowhere/x":["deny"],"data":{"nowhere/x":["deny"]}}"#).await;
    w.is(
        "POST /v1/sys/capabilities-self",
        r#"{"path":"secret/metadata/"}"#,
        200,
        r#"{"capabilities":["list"],"data":{"secret/metadata/":["list"]}}"#,
    )
    .await;
    w.is("POST /v1/sys/capabilities-self", "{}", 400, r#"{"errors":["paths must be supplied"]}"#)
        .await;
}

#[tokio::test]
async fn the_fleet_is_told() {
    let w = World::new().await;
    w.is(
        "GET /v1/agent/status",
        "",
        200,
        r#"{"machine":"here","online":true,"alarms":[],"seq":1}"#,
    )
    .await;
    w.is("GET /v1/agent/machines", "", 200, r#"{"machines":[{"name":"here","active":true,"incarnation":1,"sign":"*","read":["*"],"write":["*"],"seen_at":"?","agent":"?"}],"server":["*"]}"#).await;
}
