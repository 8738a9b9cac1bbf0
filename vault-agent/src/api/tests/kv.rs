//! Versions: reading, writing, check-and-set, patches, deletion.

use super::World;

const CAS: &str = "check-and-set parameter did not match the current version";

#[tokio::test]
async fn a_version_is_written_and_read() {
    let w = World::new().await;
    w.is("GET /v1/secret/data/a/b", "", 404, r#"{"errors":[]}"#).await;
    let written = r#"{"request_id":"*","lease_id":"","renewable":false,"lease_duration":0,"wrap_info":null,"warnings":null,"auth":null,"mount_type":"kv",
        "data":{"created_time":"*","custom_metadata":null,"deletion_time":"","destroyed":false,"version":1}}"#;
    w.is("POST /v1/secret/data/a/b", r#"{"data":{"k":"v","n":{"x":[1]}}}"#, 200, written).await;
    w.is("GET /v1/secret/data/a/b", "", 200, r#"{"data":{"data":{"k":"v","n":{"x":[1]}},"metadata":{"version":1,"deletion_time":"","destroyed":false,"custom_metadata":null}}}"#).await;
    w.is(
        "PUT /v1/secret/data/a/b",
        r#"{"data":{"k":"w"},"options":{}}"#,
        200,
        r#"{"data":{"version":2}}"#,
    )
    .await;
    w.is(
        "GET /v1/secret/data/a/b?version=1",
        "",
        200,
        r#"{"data":{"data":{"k":"v"},"metadata":{"version":1}}}"#,
    )
    .await;
    w.is("GET /v1/secret/data/a/b?version=0", "", 200, r#"{"data":{"data":{"k":"w"}}}"#).await;
    w.is("GET /v1/secret/data/a/b?version=2&foo=bar", "", 200, r#"{"data":{"data":{"k":"w"}}}"#)
        .await;
    w.is("GET /v1/secret/data/a/b?", "", 200, r#"{"data":{"data":{"k":"w"}}}"#).await;
    w.is("GET /v1/secret/data/a/b?version=3", "", 404, r#"{"errors":[]}"#).await;
    w.is("GET /v1/secret/data/a/b?version=abc", "", 400, r#"{"errors":["*"]}"#).await;
    w.is(
        "GET /v1/secret/data/a/b/",
        "",
        404,
        r#"{"errors":["1 error occurred:\n\t* unsupported path\n\n"]}"#,
    )
    .await;
    w.is("HEAD /v1/secret/data/a/b", "", 405, "*").await;
}

#[tokio::test]
async fn bodies_that_are_no_put_are_refused() {
    let w = World::new().await;
    let path = "POST /v1/secret/data/x";
    w.is(path, "", 400, r#"{"errors":["no data provided"]}"#).await;
    w.is(path, "{}", 400, r#"{"errors":["no data provided"]}"#).await;
    w.is(path, r#"{"foo":1}"#, 400, r#"{"errors":["no data provided"]}"#).await;
    w.is(path, r#"{"data":"text"}"#, 400, r#"{"errors":["*"]}"#).await;
    w.is(path, r#"{"data":[1]}"#, 400, r#"{"errors":["*"]}"#).await;
    w.is(
        path,
        r#"[{"data":{}}]"#,
        400,
        r#"{"errors":["error parsing JSON: the body is not an object"]}"#,
    )
    .await;
    w.is(path, r#"{"data":{"#, 400, r#"{"errors":["*"]}"#).await;
    w.is(path, r#"{"data":{"$serde_json::private::Number":"1"}}"#, 400, r#"{"errors":["*"]}"#)
        .await;
    w.is(path, r#"{"data":{},"options":7}"#, 400, r#"{"errors":["*"]}"#).await;
    w.is(
        "POST /v1/secret/data/x/",
        r#"{"data":{}}"#,
        400,
        r#"{"errors":["cannot write to a path ending in '/'"]}"#,
    )
    .await;
    w.is(
        "POST /v1/secret/data/",
        r#"{"data":{}}"#,
        400,
        r#"{"errors":["cannot write to a path ending in '/'"]}"#,
    )
    .await;
    w.is("POST /v1/secret/data/a%00b", r#"{"data":{}}"#, 400, r#"{"errors":["*"]}"#).await;
    w.is("POST /v1/secret/data/1/2/3/4/5/6/7/8", r#"{"data":{}}"#, 400, r#"{"errors":["*"]}"#)
        .await;
    w.is(path, r#"{"data":null}"#, 200, r#"{"data":{"version":1}}"#).await;
    w.is("GET /v1/secret/data/x", "", 200, r#"{"data":{"data":{}}}"#).await;
    let large = format!(r#"{{"data":{{"k":"{}"}}}}"#, "x".repeat(800 << 10));
    w.is(path, &large, 413, r#"{"errors":["content of 819208 bytes is too large, 768 KiB at most\nhint: keep the file elsewhere and its key here"]}"#).await;
}

#[tokio::test]
async fn values_come_back_as_they_went() {
    let w = World::new().await;
    let data = r#"{"":"","big":12345678901234567890123456789,"deep":{"a":[{"b":null}]},"e":1e+400,"float":1.0,"neg":-0.5,"ü \"'\n$KEY":"😀\u0000\t"}"#;
    w.is("POST /v1/secret/data/odd", &format!(r#"{{"data":{data}}}"#), 200, "{}").await;
    let (_, text) = w.text("GET /v1/secret/data/odd", "").await;
    assert!(text.contains(&format!(r#""data":{{"data":{data},"metadata":"#)), "{text}");
    for size in [64 << 10, 512 << 10] {
        let value = "é".repeat(size / 2);
        w.is("POST /v1/secret/data/large", &format!(r#"{{"data":{{"v":"{value}"}}}}"#), 200, "{}")
            .await;
        w.is(
            "GET /v1/secret/data/large",
            "",
            200,
            &format!(r#"{{"data":{{"data":{{"v":"{value}"}}}}}}"#),
        )
        .await;
    }
}

#[tokio::test]
async fn check_and_set_counts_as_vault_does() {
    let w = World::new().await;
    let mismatch = &format!(r#"{{"errors":["{CAS}"]}}"#);
    let put = "POST /v1/secret/data/c";
    w.is(put, r#"{"data":{},"options":{"cas":1}}"#, 400, mismatch).await;
    w.is(
        put,
        r#"{"data":{},"options":{"cas":"x"}}"#,
        400,
        r#"{"errors":["error parsing check-and-set parameter"]}"#,
    )
    .await;
    w.is(put, r#"{"data":{},"options":{"cas":-1}}"#, 400, mismatch).await;
    w.is(put, r#"{"data":{},"options":{"cas":0}}"#, 200, r#"{"data":{"version":1}}"#).await;
    w.is(put, r#"{"data":{},"options":{"cas":0}}"#, 400, mismatch).await;
    w.is(put, r#"{"data":{},"options":{"cas":"1"}}"#, 200, r#"{"data":{"version":2}}"#).await;
    w.is(put, r#"{"data":{}}"#, 200, r#"{"data":{"version":3}}"#).await;
    w.is("DELETE /v1/secret/data/c", "", 204, "").await;
    w.is(put, r#"{"data":{},"options":{"cas":0}}"#, 400, mismatch).await;
    w.is(put, r#"{"data":{},"options":{"cas":3}}"#, 200, r#"{"data":{"version":4}}"#).await;

    let required = r#"{"errors":["check-and-set parameter required for this call"]}"#;
    w.is("POST /v1/secret/metadata/c", r#"{"cas_required":true}"#, 204, "").await;
    w.is(put, r#"{"data":{}}"#, 400, required).await;
    w.is(put, r#"{"data":{},"options":{"cas":4}}"#, 200, r#"{"data":{"version":5}}"#).await;
    w.is("POST /v1/secret/config", r#"{"cas_required":"true"}"#, 204, "").await;
    w.is("POST /v1/secret/data/new", r#"{"data":{}}"#, 400, required).await;
    w.is(
        "POST /v1/secret/data/new",
        r#"{"data":{},"options":{"cas":0}}"#,
        200,
        r#"{"data":{"version":1}}"#,
    )
    .await;
}

#[tokio::test]
async fn patches_merge() {
    let w = World::new().await;
    let patch = "PATCH /v1/secret/data/p";
    w.is(patch, r#"{"data":{"a":1}}"#, 404, "").await;
    w.is(
        "POST /v1/secret/data/p",
        r#"{"data":{"a":"1","b":{"c":1,"d":2},"big":12345678901234567890}}"#,
        200,
        "{}",
    )
    .await;
    w.is(patch, r#"{"data":{"a":null,"b":{"c":3},"n":"x"}}"#, 200, r#"{"data":{"version":2}}"#)
        .await;
    w.is(
        "GET /v1/secret/data/p",
        "",
        200,
        r#"{"data":{"data":{"b":{"c":3,"d":2},"big":12345678901234567890,"n":"x"}}}"#,
    )
    .await;
    let (_, text) = w.text("GET /v1/secret/data/p", "").await;
    assert!(!text.contains(r#""a":"#), "{text}");
    w.is(
        patch,
        r#"{"data":{"a":1},"options":{"cas":1}}"#,
        400,
        &format!(r#"{{"errors":["{CAS}"]}}"#),
    )
    .await;
    w.is(patch, r#"{"data":{"a":1},"options":{"cas":2}}"#, 200, r#"{"data":{"version":3}}"#).await;
    w.is(patch, "{}", 400, r#"{"errors":["no data provided"]}"#).await;
    w.is(patch, r#"{"data":null}"#, 400, r#"{"errors":["no data provided"]}"#).await;
    for (kind, status) in [
        ("application/json", 415),
        ("", 415),
        ("application/merge-patch+json", 200),
        ("application/merge-patch+json; charset=utf-8", 200),
    ] {
        let (found, _) = w.with("content-type", kind, patch, r#"{"data":{}}"#).await;
        assert_eq!(found, status, "{kind}");
    }
    w.is("DELETE /v1/secret/data/p", "", 204, "").await;
    w.is(
        patch,
        r#"{"data":{}}"#,
        404,
        r#"{"data":{"version":5,"deletion_time":"*","destroyed":false}}"#,
    )
    .await;
    w.is("POST /v1/secret/destroy/p", r#"{"versions":[5]}"#, 204, "").await;
    w.is(patch, r#"{"data":{}}"#, 404, r#"{"data":{"version":5,"destroyed":true}}"#).await;
}

#[tokio::test]
async fn versions_are_deleted_undeleted_and_destroyed() {
    let w = World::new().await;
    for missing in ["DELETE /v1/secret/data/x", "DELETE /v1/secret/metadata/x"] {
        w.is(missing, "", 204, "").await;
    }
    for missing in ["delete", "undelete", "destroy"] {
        w.is(&format!("POST /v1/secret/{missing}/x"), r#"{"versions":[1]}"#, 204, "").await;
    }
    w.is("GET /v1/secret/metadata/x", "", 404, r#"{"errors":[]}"#).await;
    for k in 1..=4 {
        w.is("POST /v1/secret/data/x", &format!(r#"{{"data":{{"k":{k}}}}}"#), 200, "{}").await;
    }
    let gone = r#"{"data":{"data":null,"metadata":{"version":4,"deletion_time":"*","destroyed":false}},"warnings":null}"#;
    w.is("DELETE /v1/secret/data/x", "", 204, "").await;
    w.is("GET /v1/secret/data/x", "", 404, gone).await;
    w.is("DELETE /v1/secret/data/x", "", 204, "").await;
    w.is("GET /v1/secret/data/x?version=3", "", 200, r#"{"data":{"data":{"k":3}}}"#).await;
    w.is("POST /v1/secret/undelete/x", r#"{"versions":["4"]}"#, 204, "").await;
    w.is(
        "GET /v1/secret/data/x",
        "",
        200,
        r#"{"data":{"data":{"k":4},"metadata":{"deletion_time":""}}}"#,
    )
    .await;
    w.is("PUT /v1/secret/delete/x", r#"{"versions":"1,2"}"#, 204, "").await;
    w.is(
        "GET /v1/secret/data/x?version=1",
        "",
        404,
        r#"{"data":{"data":null,"metadata":{"version":1}}}"#,
    )
    .await;
    w.is(
        "GET /v1/secret/data/x?version=2",
        "",
        404,
        r#"{"data":{"data":null,"metadata":{"version":2}}}"#,
    )
    .await;
    w.is("PUT /v1/secret/destroy/x", r#"{"versions":[2,99]}"#, 204, "").await;
    w.is("POST /v1/secret/undelete/x", r#"{"versions":[1,2]}"#, 204, "").await;
    w.is("GET /v1/secret/data/x?version=1", "", 200, r#"{"data":{"data":{"k":1}}}"#).await;
    w.is(
        "GET /v1/secret/data/x?version=2",
        "",
        404,
        r#"{"data":{"data":null,"metadata":{"version":2,"destroyed":true}}}"#,
    )
    .await;
    for (verb, text) in [
        ("delete", "No version number provided"),
        ("undelete", "No version number provided"),
        ("destroy", "no version number provided"),
    ] {
        for body in ["", "{}", r#"{"versions":[]}"#, r#"{"versions":""}"#] {
            w.is(
                &format!("POST /v1/secret/{verb}/x"),
                body,
                400,
                &format!(r#"{{"errors":["{text}"]}}"#),
            )
            .await;
        }
        w.is(
            &format!("POST /v1/secret/{verb}/x"),
            r#"{"versions":["a"]}"#,
            400,
            r#"{"errors":["*"]}"#,
        )
        .await;
    }
}

#[tokio::test]
async fn versions_end_by_their_age() {
    let w = World::new().await;
    w.is("POST /v1/secret/metadata/t", r#"{"delete_version_after":"1us"}"#, 204, "").await;
    w.is(
        "POST /v1/secret/data/t",
        r#"{"data":{"k":1}}"#,
        200,
        r#"{"data":{"deletion_time":"*T*"}}"#,
    )
    .await;
    w.is(
        "GET /v1/secret/data/t",
        "",
        404,
        r#"{"data":{"data":null,"metadata":{"version":1,"deletion_time":"*T*"}}}"#,
    )
    .await;
    w.is("DELETE /v1/secret/data/t", "", 204, "").await;
    w.is("POST /v1/secret/metadata/t", r#"{"delete_version_after":"1h"}"#, 204, "").await;
    w.is("POST /v1/secret/undelete/t", r#"{"versions":[1]}"#, 204, "").await;
    w.is(
        "GET /v1/secret/data/t",
        "",
        200,
        r#"{"data":{"data":{"k":1},"metadata":{"deletion_time":"*T*"}}}"#,
    )
    .await;
    w.is("POST /v1/secret/config", r#"{"delete_version_after":"-1s"}"#, 204, "").await;
    w.is("POST /v1/secret/data/t", r#"{"data":{"k":2}}"#, 200, r#"{"data":{"deletion_time":""}}"#)
        .await;
    w.is("GET /v1/secret/config", "", 200, r#"{"data":{"delete_version_after":"-1s"}}"#).await;
}

#[tokio::test]
async fn version_numbers_are_never_used_again() {
    let w = World::new().await;
    w.is("POST /v1/secret/data/x", r#"{"data":{"k":1}}"#, 200, r#"{"data":{"version":1}}"#).await;
    w.is("POST /v1/secret/data/x", r#"{"data":{"k":2}}"#, 200, r#"{"data":{"version":2}}"#).await;
    w.is("DELETE /v1/secret/metadata/x", "", 204, "").await;
    w.is("GET /v1/secret/data/x", "", 404, r#"{"errors":[]}"#).await;
    w.is("GET /v1/secret/metadata/x", "", 404, r#"{"errors":[]}"#).await;
    w.is("LIST /v1/secret/metadata", "", 404, r#"{"errors":[]}"#).await;
    w.is(
        "POST /v1/secret/data/x",
        r#"{"data":{"k":3},"options":{"cas":0}}"#,
        200,
        r#"{"data":{"version":3}}"#,
    )
    .await;
    w.is(
        "GET /v1/secret/metadata/x",
        "",
        200,
        r#"{"data":{"current_version":3,"oldest_version":0}}"#,
    )
    .await;
}

#[tokio::test]
async fn subkeys_show_no_values() {
    let w = World::new().await;
    w.is("POST /v1/secret/data/s", r#"{"data":{"a":"secret","b":{"c":{"d":1}}}}"#, 200, "{}").await;
    w.is(
        "GET /v1/secret/subkeys/s",
        "",
        200,
        r#"{"data":{"subkeys":{"a":null,"b":{"c":{"d":null}}},"metadata":{"version":1}}}"#,
    )
    .await;
    w.is(
        "GET /v1/secret/subkeys/s?depth=1",
        "",
        200,
        r#"{"data":{"subkeys":{"a":null,"b":null}}}"#,
    )
    .await;
    w.is(
        "GET /v1/secret/subkeys/s?depth=2&version=1",
        "",
        200,
        r#"{"data":{"subkeys":{"a":null,"b":{"c":null}}}}"#,
    )
    .await;
    w.is("GET /v1/secret/subkeys/none", "", 404, r#"{"errors":[]}"#).await;
    w.is("DELETE /v1/secret/data/s", "", 204, "").await;
    w.is(
        "GET /v1/secret/subkeys/s",
        "",
        404,
        r#"{"data":{"subkeys":null,"metadata":{"version":1}}}"#,
    )
    .await;
}

#[tokio::test]
async fn paths_are_taken_as_clients_write_them() {
    let w = World::new().await;
    for (written, read) in [
        ("a%2Fb", "a/b"),
        ("p+q", "p%2Bq"),
        ("sp%20ace", "sp%20ace"),
        ("%C3%BC", "%c3%bc"),
        ("x..y", "x..y"),
        ("50%25", "50%25"),
    ] {
        let body = format!(r#"{{"data":{{"at":"{read}"}}}}"#);
        w.is(&format!("POST /v1/secret/data/{written}"), &body, 200, "{}").await;
        w.is(&format!("GET /v1/secret/data/{read}"), "", 200, &format!(r#"{{"data":{body}}}"#))
            .await;
    }
    for (path, target) in [
        ("/v1/secret//data/x", "/v1/secret/data/x"),
        ("/v1/secret/data/../metadata/x?list=true", "/v1/secret/metadata/x?list=true"),
    ] {
        let answer = w.answer("GET", path, &[], "").await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["location"]),
            (301, &target.parse().unwrap())
        );
    }
    w.is("GET /v1/secret/data/%FF", "", 400, r#"{"errors":["*"]}"#).await;
    w.is("GET /v1/secret/data/%zz", "", 400, r#"{"errors":["*"]}"#).await;
}

#[tokio::test]
async fn writers_at_once_get_a_version_each() {
    let w = World::new().await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..16 {
        let w = w.clone();
        writers.spawn(async move {
            w.is("POST /v1/secret/data/many", &format!(r#"{{"data":{{"n":{n}}}}}"#), 200, "{}")
                .await;
        });
    }
    assert_eq!(writers.join_all().await.len(), 16);
    w.is(
        "GET /v1/secret/metadata/many",
        "",
        200,
        r#"{"data":{"current_version":16,"oldest_version":7}}"#,
    )
    .await;
}
