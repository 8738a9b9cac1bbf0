//! Metadata, settings, limits, lists.

use super::World;

#[tokio::test]
async fn metadata_has_every_field() {
    let w = World::new().await;
    w.is("GET /v1/secret/metadata/m", "", 404, r#"{"errors":[]}"#).await;
    w.is("POST /v1/secret/data/m", r#"{"data":{}}"#, 200, "{}").await;
    w.is("GET /v1/secret/metadata/m", "", 200, r#"{"data":{"cas_required":false,"created_time":"*Z","current_version":1,"custom_metadata":null,
        "delete_version_after":"0s","max_versions":0,"oldest_version":0,"updated_time":"*Z",
        "versions":{"1":{"created_time":"*Z","deletion_time":"","destroyed":false}}}}"#).await;
    w.is("PUT /v1/secret/metadata/m", r#"{"max_versions":"3","cas_required":false,"delete_version_after":"90m","custom_metadata":{"owner":"jonas","n":1}}"#, 204, "").await;
    w.is("GET /v1/secret/metadata/m", "", 200, r#"{"data":{"max_versions":3,"delete_version_after":"1h30m0s","custom_metadata":{"n":"1","owner":"jonas"}}}"#).await;
    w.is(
        "GET /v1/secret/data/m",
        "",
        200,
        r#"{"data":{"metadata":{"custom_metadata":{"n":"1","owner":"jonas"}}}}"#,
    )
    .await;
    w.is("POST /v1/secret/metadata/m", r#"{"max_versions":5}"#, 204, "").await;
    w.is("GET /v1/secret/metadata/m", "", 200, r#"{"data":{"max_versions":5,"delete_version_after":"1h30m0s","custom_metadata":{"n":"1","owner":"jonas"}}}"#).await;
    for bad in [
        r#"{"max_versions":"x"}"#,
        r#"{"max_versions":-1}"#,
        r#"{"cas_required":"maybe"}"#,
        r#"{"delete_version_after":"1y"}"#,
        r#"{"custom_metadata":"x"}"#,
    ] {
        w.is("POST /v1/secret/metadata/m", bad, 400, r#"{"errors":["*"]}"#).await;
    }
}

#[tokio::test]
async fn metadata_alone_makes_a_secret_without_versions() {
    let w = World::new().await;
    w.is("POST /v1/secret/metadata/only", r#"{"custom_metadata":{"a":"b"}}"#, 204, "").await;
    w.is(
        "GET /v1/secret/metadata/only",
        "",
        200,
        r#"{"data":{"current_version":0,"versions":{}}}"#,
    )
    .await;
    w.is("GET /v1/secret/data/only", "", 404, r#"{"errors":[]}"#).await;
    w.is("LIST /v1/secret/metadata", "", 200, r#"{"data":{"keys":["only"]}}"#).await;
    w.is(
        "POST /v1/secret/data/only",
        r#"{"data":{},"options":{"cas":0}}"#,
        200,
        r#"{"data":{"version":1,"custom_metadata":{"a":"b"}}}"#,
    )
    .await;
}

#[tokio::test]
async fn metadata_is_patched_key_by_key() {
    let w = World::new().await;
    w.is("PATCH /v1/secret/metadata/p", r#"{"max_versions":1}"#, 404, "").await;
    w.is(
        "POST /v1/secret/metadata/p",
        r#"{"max_versions":7,"custom_metadata":{"a":"1","b":"2"}}"#,
        204,
        "",
    )
    .await;
    w.is("PATCH /v1/secret/metadata/p", r#"{"custom_metadata":{"a":null,"c":"3"}}"#, 204, "").await;
    w.is(
        "GET /v1/secret/metadata/p",
        "",
        200,
        r#"{"data":{"max_versions":7,"custom_metadata":{"b":"2","c":"3"}}}"#,
    )
    .await;
    w.is("PATCH /v1/secret/metadata/p", r#"{"custom_metadata":null,"max_versions":null}"#, 204, "")
        .await;
    w.is(
        "GET /v1/secret/metadata/p",
        "",
        200,
        r#"{"data":{"max_versions":0,"custom_metadata":null}}"#,
    )
    .await;
    let (status, _) =
        w.with("content-type", "application/json", "PATCH /v1/secret/metadata/p", "{}").await;
    assert_eq!(status, 415);
}

#[tokio::test]
async fn custom_metadata_has_vaults_limits() {
    let w = World::new().await;
    let put = "POST /v1/secret/metadata/l";
    let many: Vec<String> = (0..65).map(|n| format!(r#""k{n}":"v""#)).collect();
    for (custom, text) in [
        (format!("{{{}}}", many.join(",")), "payload must contain at most 64 keys, provided 65"),
        (r#"{"":"v"}"#.to_owned(), r#"length of key \"\" is 0 but must be 0 < len(key) <= 128"#),
        (
            r#"{"k":""}"#.to_owned(),
            r#"length of value for key \"k\" is 0 but must be 0 < len(value) <= 512"#,
        ),
        (r#"{"k":"a\u0007"}"#.to_owned(), r#"value for key \"k\" contains unprintable characters"#),
        (
            format!(r#"{{"k":"{}"}}"#, "x".repeat(513)),
            r#"length of value for key \"k\" is 513 but must be 0 < len(value) <= 512"#,
        ),
    ] {
        let expected = format!(
            r#"{{"errors":["1 error occurred:\n\t* custom_metadata validation failed: {text}\n\n"]}}"#
        );
        w.is(put, &format!(r#"{{"custom_metadata":{custom}}}"#), 400, &expected).await;
    }
    w.is(put, r#"{"custom_metadata":{"k":["x"]}}"#, 400, r#"{"errors":["*"]}"#).await;
    let (key, value) = ("k".repeat(128), "é".repeat(256));
    w.is(put, &format!(r#"{{"custom_metadata":{{"{key}":"{value}"}}}}"#), 204, "").await;
}

#[tokio::test]
async fn old_versions_go_past_the_limit() {
    let w = World::new().await;
    for _ in 0..10 {
        w.is("POST /v1/secret/data/v", r#"{"data":{}}"#, 200, "{}").await;
    }
    w.is(
        "GET /v1/secret/metadata/v",
        "",
        200,
        r#"{"data":{"oldest_version":0,"current_version":10}}"#,
    )
    .await;
    w.is("POST /v1/secret/data/v", r#"{"data":{}}"#, 200, "{}").await;
    w.is(
        "GET /v1/secret/metadata/v",
        "",
        200,
        r#"{"data":{"oldest_version":2,"current_version":11}}"#,
    )
    .await;
    w.is("GET /v1/secret/data/v?version=1", "", 404, r#"{"errors":[]}"#).await;
    // The larger of both settings counts, and prunes at the next write.
    w.is("POST /v1/secret/metadata/v", r#"{"max_versions":2}"#, 204, "").await;
    w.is("POST /v1/secret/config", r#"{"max_versions":4}"#, 204, "").await;
    w.is("GET /v1/secret/metadata/v", "", 200, r#"{"data":{"oldest_version":2}}"#).await;
    w.is("POST /v1/secret/data/v", r#"{"data":{}}"#, 200, "{}").await;
    w.is(
        "GET /v1/secret/metadata/v",
        "",
        200,
        r#"{"data":{"oldest_version":9,"current_version":12}}"#,
    )
    .await;
}

#[tokio::test]
async fn mounts_have_settings() {
    let w = World::new().await;
    w.is(
        "GET /v1/secret/config",
        "",
        200,
        r#"{"data":{"max_versions":0,"cas_required":false,"delete_version_after":"0s"}}"#,
    )
    .await;
    w.is("POST /v1/secret/config", r#"{"max_versions":"5","delete_version_after":3600}"#, 204, "")
        .await;
    w.is("PUT /v1/secret/config", "", 204, "").await;
    w.is(
        "GET /v1/secret/config",
        "",
        200,
        r#"{"data":{"max_versions":5,"cas_required":false,"delete_version_after":"1h0m0s"}}"#,
    )
    .await;
    w.is("POST /v1/secret/config", r#"{"max_versions":0,"delete_version_after":0}"#, 204, "").await;
    w.is(
        "GET /v1/secret/config",
        "",
        200,
        r#"{"data":{"max_versions":0,"delete_version_after":"0s"}}"#,
    )
    .await;
    w.is(
        "DELETE /v1/secret/config",
        "",
        405,
        r#"{"errors":["1 error occurred:\n\t* unsupported operation\n\n"]}"#,
    )
    .await;
}

#[tokio::test]
async fn names_are_listed_by_every_way_of_asking() {
    let w = World::new().await;
    for root in ["LIST /v1/secret/metadata", "GET /v1/secret/metadata/?list=true"] {
        w.is(root, "", 404, r#"{"errors":[]}"#).await;
    }
    for path in ["b", "a", "a/x", "a/y/z", "a-b", "a0", "ü"] {
        w.is(&format!("POST /v1/secret/data/{path}"), r#"{"data":{}}"#, 200, "{}").await;
    }
    w.is("DELETE /v1/secret/data/b", "", 204, "").await;
    let keys = r#"{"data":{"keys":["a","a-b","a/","a0","b","ü"]}}"#;
    for root in [
        "LIST /v1/secret/metadata",
        "LIST /v1/secret/metadata/",
        "GET /v1/secret/metadata?list=true",
        "GET /v1/secret/metadata/?list=true",
        "GET /v1/secret/metadata?list=1",
        "GET /v1/secret/metadata?list=True",
        "GET /v1/secret/metadata?foo=bar&list=t",
    ] {
        w.is(root, "", 200, keys).await;
    }
    w.is("LIST /v1/secret/metadata/a", "", 200, r#"{"data":{"keys":["x","y/"]}}"#).await;
    w.is("LIST /v1/secret/metadata/a/y/", "", 200, r#"{"data":{"keys":["z"]}}"#).await;
    w.is("LIST /v1/secret/metadata/b", "", 404, r#"{"errors":[]}"#).await;
    w.is("LIST /v1/secret/metadata/none", "", 404, r#"{"errors":[]}"#).await;
    w.is("GET /v1/secret/metadata?list=perhaps", "", 400, r#"{"errors":[]}"#).await;
    w.is("GET /v1/secret/metadata/a?list=false", "", 200, r#"{"data":{"current_version":1}}"#)
        .await;
}
