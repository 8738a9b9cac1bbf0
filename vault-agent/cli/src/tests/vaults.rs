//! What any Vault has: `read`, `write`, `list`, `delete`, `secrets`, `token`, `status` of another
//! one, requests shown.

use super::{APP, World, envelope, transcript};

const MOUNTS: &str = concat!(
    r#"{"secret/":{"accessor":"kv_1","config":{"default_lease_ttl":0,"force_no_cache":false,"#,
    r#""max_lease_ttl":3600},"description":"","external_entropy_access":false,"local":false,"#,
    r#""options":{"version":"2"},"seal_wrap":false,"type":"kv","uuid":"u"},"sys/":{"#,
    r#""accessor":"system_1","config":{"default_lease_ttl":0,"force_no_cache":false,"#,
    r#""max_lease_ttl":0},"description":"system endpoints","local":true,"options":null,"#,
    r#""type":"system","uuid":"v"}}"#,
);
const AUTH: &str = concat!(
    r#"{"request_id":"r","lease_id":"","renewable":false,"lease_duration":0,"data":null,"#,
    r#""wrap_info":null,"warnings":["a warning"],"auth":{"client_token":"vlt.x","#,
    r#""accessor":"acc","policies":["token"],"token_policies":["token"],"metadata":{"b":"2","#,
    r#""a":"1"},"lease_duration":5400,"renewable":false,"entity_id":"","#,
    r#""token_type":"service","orphan":true,"mfa_requirement":null,"num_uses":0}}"#,
);
const LOOKUP: &str = concat!(
    r#"{"accessor":"acc","creation_ttl":5400,"display_name":"ci","#,
    r#""expire_time":"2026-11-24T00:00:00Z","id":"","meta":{"paths":["secret/app/"],"#,
    r#""capabilities":["read"]},"policies":["token"],"ttl":3600}"#,
);
const SEAL: &str = concat!(
    r#"{"type":"shamir","initialized":true,"sealed":false,"t":1,"n":1,"progress":0,"#,
    r#""nonce":"","version":"1.18.0","build_date":"2026-01-01T00:00:00Z","migration":false,"#,
    r#""cluster_name":"c","cluster_id":"i","recovery_seal":false,"storage_type":"file"}"#,
);
const LEADER: &str = concat!(
    r#"{"ha_enabled":false,"is_self":false,"active_time":"0001-01-01T00:00:00Z","#,
    r#""leader_address":"","leader_cluster_address":"","performance_standby":false,"#,
    r#""performance_standby_last_remote_wal":0}"#,
);

fn world() -> World {
    World::agent(&[
        ("GET /v1/secret/data/app", 200, &envelope(APP)),
        (
            "GET /v1/x?a=1&a=2&b=c%20d",
            200,
            &envelope(r#"{"ttl":5400,"big":12345678901234567890,"none":""}"#),
        ),
        ("GET /v1/empty", 404, r#"{"errors":[]}"#),
        ("GET /v1/x?list=true", 200, &envelope(r#"{"keys":["b","a/"]}"#)),
        ("PUT /v1/x", 204, ""),
        ("PUT /v1/auth/token/create", 200, AUTH),
        ("POST /v1/auth/token/create", 200, AUTH),
        ("DELETE /v1/x", 204, ""),
        ("DELETE /v1/denied", 403, r#"{"errors":["permission denied"]}"#),
        ("GET /v1/sys/mounts", 200, &envelope(MOUNTS)),
        ("POST /v1/sys/mounts/team", 204, ""),
        ("POST /v1/sys/mounts/team/tune", 204, ""),
        ("DELETE /v1/sys/mounts/team", 204, ""),
        ("GET /v1/auth/token/lookup-self", 200, &envelope(LOOKUP)),
        ("POST /v1/auth/token/lookup", 403, r#"{"errors":["bad token"]}"#),
        ("POST /v1/auth/token/lookup-accessor", 200, &envelope(LOOKUP)),
        ("GET /v1/auth/token/accessors?list=true", 200, &envelope(r#"{"keys":["acc"]}"#)),
        ("PUT /v1/auth/token/revoke", 204, ""),
        ("PUT /v1/auth/token/revoke-accessor", 204, ""),
        ("PUT /v1/auth/token/revoke-self", 204, ""),
        ("PUT /v1/auth/token/renew-self", 200, AUTH),
        ("GET /v1/sys/seal-status", 200, SEAL),
        ("GET /v1/sys/leader", 200, LEADER),
    ])
}

#[test]
fn any_path_is_read_and_written() {
    let world = world();
    let mut text = transcript(
        &world,
        &[
            "read secret/data/app",
            "read -format=json secret/data/app",
            "read -format=raw secret/data/app",
            "read -field=ttl /x/ a=1 a=2 b=c%d",
            "read x a=1 a=2 b=@/nope",
            "read empty",
            "list x",
            "list -format=json x",
            "list empty",
            "list -format=json empty",
            "write x a=1 b=2",
            "write x",
            "write -f x",
            "write auth/token/create path=secret/app/",
            "delete x",
            "delete denied",
        ],
    );
    let pairs = ["read", "x", "a=1", "a=2", "b=c d"];
    text.push_str(&world.run_args(&pairs).shown());
    text.push_str(&format!("--- requests\n{}\n", world.seen().join("\n")));
    insta::assert_snapshot!(text);
}

#[test]
fn mounts_are_listed_and_made() {
    let world = world();
    let mut text = transcript(
        &world,
        &[
            "secrets list",
            "secrets list -detailed",
            "secrets list -format=json",
            "secrets enable -path=team -description=ours kv",
            "secrets enable -version=1 -path=team kv",
            "secrets tune -description=x team/",
            "secrets disable team",
            "secrets enable other",
        ],
    );
    text.push_str(&world.seen().join("\n"));
    insta::assert_snapshot!(text);
}

#[test]
fn tokens_are_made_and_ended() {
    let world = world();
    let mut text = transcript(
        &world,
        &[
            "token create -path secret/app/ -ttl 24h -capability read",
            "token create -path=secret/app/ -path=x/ -capability=read,write -field=token",
            "token create -path secret/app/ -format=json",
            "token create",
            "token create -path=a -ttl=soon",
            "token list",
            "token list -format=json",
            "token lookup",
            "token lookup vlt.y",
            "token lookup -accessor acc -field=display_name",
            "token renew",
            "token revoke vltp.x",
            "token revoke web",
            "token revoke -accessor acc",
            "token revoke -self",
            "token revoke",
        ],
    );
    text.push_str(&world.seen().join("\n"));
    insta::assert_snapshot!(text);
}

#[test]
fn another_vault_tells_whether_it_is_sealed() {
    let lines = ["status", "status -format=json", "status -format=yaml", "status -field=version"];
    let mut text = transcript(&world().foreign(), &lines);
    let sealed = World::agent(&[
        ("GET /v1/sys/seal-status", 200, &SEAL.replace("\"sealed\":false", "\"sealed\":true")),
        ("GET /v1/sys/leader", 503, r#"{"errors":["Vault is sealed"]}"#),
    ]);
    text.push_str(&transcript(&sealed.foreign(), &["status"]));
    text.push_str(&transcript(&World::agent(&[]).foreign(), &["status"]));
    insta::assert_snapshot!(text);
}

#[test]
fn requests_are_shown_instead_of_made() {
    let world = world().env("VAULT_TOKEN", "s.hidden");
    let mut text = String::new();
    for line in [
        "kv get -output-curl-string secret/app",
        "kv put -output-curl-string secret/app a=it's",
        "kv patch -output-curl-string secret/app a=1",
        "kv list -output-curl-string secret",
        "kv delete -output-policy secret/app",
        "kv list -output-policy secret/x",
        "read -output-curl-string -header=a=b sys/mounts",
        "kv get -header=X-Vault-Token=x secret/app",
    ] {
        text.push_str(&transcript(&world, &[line]));
    }
    assert!(!text.contains("s.hidden"));
    assert_eq!(world.seen(), Vec::<String>::new());
    insta::assert_snapshot!(text);
}

#[test]
fn a_wrong_verb_of_kv_is_found() {
    insta::assert_snapshot!(transcript(
        &World::new(""),
        &["get secret/app", "put a b=c", "raed x"]
    ));
}
