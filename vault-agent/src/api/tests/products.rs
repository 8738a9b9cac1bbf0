//! Products with a provider for Vault, by the requests that they are known to make, in their order,
//! from a container and with a token for one folder: what is documented in `guide/containers.md`.

use serde_json::Value;

use super::World;

const DATA: &str = r#"{"data":{"DB_PASSWORD":"hunter2","PORT":5432,"nested":{"a":[1]}}}"#;

/// A container with a token.
struct Container {
    world: World,
    token: String,
}

impl Container {
    /// One that may read `secret/apps/`, in which there is `secret/apps/prod`; the machine also has
    /// `secret/other`.
    async fn new(folder: &str) -> Self {
        let world = World::on_bridge().await;
        let host = world.between(["127.0.0.1:54321", "127.0.0.1:1"]);
        for name in ["apps/prod", "other"] {
            host.is(&format!("POST /v1/secret/data/{name}"), DATA, 200, "{}").await;
        }
        let token = world.limited_token(folder).await;
        Self { world, token }
    }

    /// Sends a GET with what every such product sends, and more; checks the status and returns the
    /// body.
    async fn get(&self, path: &str, more: &[(&str, &str)], expected: u16) -> Value {
        let usual = [("host", "host.docker.internal:8200"), ("x-vault-token", &*self.token)];
        let headers = [&usual[..], more].concat();
        let answer = self.world.answer("GET", path, &headers, "").await;
        // Some compare the whole of it.
        assert_eq!(answer.headers()["content-type"], "application/json", "{path}");
        let (status, text) = super::world::read(answer).await;
        assert_eq!(status, expected, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// What fetch of Node adds.
const FETCH: [(&str, &str); 5] = [
    ("accept", "*/*"),
    ("accept-language", "*"),
    ("sec-fetch-mode", "cors"),
    ("user-agent", "node"),
    ("accept-encoding", "gzip, deflate"),
];

/// Dokploy 0.30, `packages/server/src/utils/vault/hashicorp.ts`: "Test Connection", the names for
/// its editor, and a deployment of `${{vault.NAME.apps/prod:DB_PASSWORD}}`.
#[tokio::test]
async fn dokploy_tests_lists_and_deploys() {
    let whole = Container::new("secret/").await;
    whole.get("/v1/auth/token/lookup-self", &FETCH, 200).await;
    let names = whole.get("/v1/secret/metadata?list=true", &FETCH, 200).await;
    assert_eq!(names["data"]["keys"], serde_json::json!(["apps/", "other"]));
    let names = whole.get("/v1/secret/metadata/apps?list=true", &FETCH, 200).await;
    assert_eq!(names["data"]["keys"], serde_json::json!(["prod"]));
    let namespace = [&FETCH[..], &[("x-vault-namespace", "admin")]].concat();
    let read = whole.get("/v1/secret/data/apps/prod", &namespace, 200).await;
    assert_eq!(read["data"]["data"]["DB_PASSWORD"], "hunter2");

    // With a token for less a deployment works, and the editor offers no names.
    let narrow = Container::new("secret/apps/").await;
    narrow.get("/v1/auth/token/lookup-self", &FETCH, 200).await;
    narrow.get("/v1/secret/metadata?list=true", &FETCH, 403).await;
    let read = narrow.get("/v1/secret/data/apps/prod", &FETCH, 200).await;
    assert_eq!(read["data"]["data"]["DB_PASSWORD"], "hunter2");
    narrow.get("/v1/secret/data/other", &FETCH, 403).await;
    narrow.get("/v1/secret/data/apps/none", &FETCH, 404).await;
}

/// OpenClaw's bundled plugin `vault`, `extensions/vault/vault-secret-ref-resolver.js`: a read for
/// each id, in which the field must be text; `lookup-self` where all were refused with 403.
#[tokio::test]
async fn openclaw_resolves_its_references() {
    let container = Container::new("secret/apps/").await;
    let read = container.get("/v1/secret/data/apps/prod", &FETCH, 200).await;
    assert!(read["data"]["data"]["DB_PASSWORD"].is_string(), "{read}");
    let refused = container.get("/v1/secret/data/other", &FETCH, 403).await;
    assert_eq!(refused["errors"], serde_json::json!(["permission denied"]));
    container.get("/v1/auth/token/lookup-self", &FETCH, 200).await;
    container.get("/v1/secret/data/apps/none", &FETCH, 404).await;
    let ended = Container { token: "vltp.ended".to_owned(), ..container };
    ended.get("/v1/secret/data/apps/prod", &FETCH, 403).await;
    ended.get("/v1/auth/token/lookup-self", &FETCH, 403).await;
}

/// Hermes Agent with the plugin `hermes-vault-secret-source` 0.1, which calls
/// `is_authenticated()` and `read_secret_version()` of hvac.
#[tokio::test]
async fn hermes_reads_one_secret_at_its_start() {
    let container = Container::new("secret/apps/").await;
    let hvac = [
        ("accept-encoding", "gzip, deflate"),
        ("accept", "*/*"),
        ("connection", "keep-alive"),
        ("x-vault-request", "true"),
    ];
    container.get("/v1/auth/token/lookup-self", &hvac, 200).await;
    let read = container.get("/v1/secret/data/apps/prod", &hvac, 200).await;
    // Text and numbers become variables; the rest is left out with a warning.
    assert_eq!(read["data"]["data"]["DB_PASSWORD"], "hunter2");
    assert_eq!(read["data"]["data"]["PORT"], 5432);
    let none = container.get("/v1/secret/data/apps/none", &hvac, 404).await;
    assert_eq!(none, serde_json::json!({"errors": []}));
}
