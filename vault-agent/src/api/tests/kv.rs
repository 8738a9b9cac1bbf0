//! Versions: reading, writing, check-and-set, patches, deletion.

use super::World;

#[tokio::test]
async fn a_version_is_written_and_read() {
    let w = World::new().await;
    w.are(
        r##"
            GET /v1/secret/data/a/b => 404 []
            POST /v1/secret/data/a/b {"data":{"k":"v","n":{"x":[1]}}} => 200 {"request_id":"*",
                "lease_id":"","renewable":false,"lease_duration":0,"wrap_info":null,
                "warnings":null,"auth":null,"mount_type":"kv","data":{"created_time":"*Z",
                "custom_metadata":null,"deletion_time":"","destroyed":false,"version":1}}
            GET /v1/secret/data/a/b => 200 {"data":{"data":{"k":"v","n":{"x":[1]}},
                "metadata":{"version":1,"deletion_time":"","destroyed":false,
                "custom_metadata":null}}}
            PUT /v1/secret/data/a/b {"data":{"k":"w"},"options":{}} => 200 {"data":{"version":2}}
            GET /v1/secret/data/a/b?version=1 => 200 {"data":{"data":{"k":"v"},"metadata":{"version":1}}}
            GET /v1/secret/data/a/b?version=0 => 200 {"data":{"data":{"k":"w"}}}
            GET /v1/secret/data/a/b?version=2&foo=bar => 200 {"data":{"data":{"k":"w"}}}
            GET /v1/secret/data/a/b? => 200 {"data":{"data":{"k":"w"}}}
            GET /v1/secret/data/a/b?version=3 => 404 []
            GET /v1/secret/data/a/b?version=abc => 400 "*"
            GET /v1/secret/data/a/b/ => 404 {"data":null,"warnings":["Invalid path*"]}
            HEAD /v1/secret/data/a/b => 405 *
        "##,
    )
    .await;
}

#[tokio::test]
async fn names_are_as_long_and_as_deep_as_the_grammar_lets_them() {
    let w = World::new().await;
    let (long, deep) = ("n".repeat(255), vec!["d"; 31].join("/"));
    let umlauts = "%C3%BC".repeat(127);
    for name in [&long, &deep, &umlauts, &format!("a/{long}/b/{long}")] {
        let path = format!("/v1/secret/data/{name}");
        w.is(&format!("POST {path}"), r#"{"data":{"k":1}}"#, 200, r#"{"data":{"version":1}}"#)
            .await;
        w.is(&format!("GET {path}"), "", 200, r#"{"data":{"data":{"k":1}}}"#).await;
    }
    w.is("LIST /v1/secret/metadata/a", "", 200, &format!(r#"{{"data":{{"keys":["{long}/"]}}}}"#))
        .await;
    for name in ["n".repeat(256), vec!["d"; 32].join("/")] {
        let path = format!("/v1/secret/data/{name}");
        w.is(&format!("POST {path}"), r#"{"data":{}}"#, 400, r#""*""#).await;
        w.is(&format!("GET {path}"), "", 404, "[]").await;
    }
}

#[tokio::test]
async fn bodies_that_are_no_put_are_refused() {
    let w = World::new().await;
    w.are(
        r##"
            POST /v1/secret/data/x => 400 "no data provided"
            POST /v1/secret/data/x {} => 400 "no data provided"
            POST /v1/secret/data/x {"foo":1} => 400 "no data provided"
            POST /v1/secret/data/x {"data":"text"} => 400 "*"
            POST /v1/secret/data/x {"data":[1]} => 400 "*"
            POST /v1/secret/data/x [{"data":{}}] => 400 "error parsing JSON: failed to
                parse JSON input: json: cannot unmarshal array into Go value of type
                map[string]interface {}"
            POST /v1/secret/data/x {"data":{ => 400 "*"
            POST /v1/secret/data/x {"data":{"$serde_json::private::Number":"1"}} => 400 "*"
            POST /v1/secret/data/x {"data":{},"options":7} => 400 "*"
            POST /v1/secret/data/x/ {"data":{}} => 400 "cannot write to a path ending in '/'"
            POST /v1/secret/data/ {"data":{}} => 400 "cannot write to a path ending in '/'"
            POST /v1/secret/data/a%00b {"data":{}} => 400 "*"
            POST /v1/secret/data/u%CC%88 {"data":{}} => 400 "E_PATH: path `secret/u*"
            POST /v1/secret/data/x {"data":null} => 200 {"data":{"version":1}}
            GET /v1/secret/data/x => 200 {"data":{"data":{}}}
        "##,
    )
    .await;
    let large = format!(r#"{{"data":{{"k":"{}"}}}}"#, "x".repeat(800 << 10));
    let text = r#""content of 819208 bytes is too large, 768 KiB at most\nhint: keep the file elsewhere and its key here""#;
    w.is("POST /v1/secret/data/x", &large, 413, text).await;
}

#[tokio::test]
async fn values_come_back_as_they_went() {
    let w = World::new().await;
    let data = concat!(
        r#"{"":"","big":12345678901234567890123456789,"deep":{"a":[{"b":null}]},"e":1e+400,"#,
        r#""float":1.0,"neg":-0.5,"ü \"'\n$KEY":"😀\u0000\t"}"#,
    );
    w.is("POST /v1/secret/data/odd", &format!(r#"{{"data":{data}}}"#), 200, "{}").await;
    let (_, text) = w.text("GET /v1/secret/data/odd", "").await;
    assert!(text.contains(&format!(r#""data":{{"data":{data},"metadata":"#)), "{text}");
    for size in [64 << 10, 512 << 10] {
        let value = "é".repeat(size / 2);
        let body = format!(r#"{{"data":{{"v":"{value}"}}}}"#);
        w.is("POST /v1/secret/data/large", &body, 200, "{}").await;
        let expected = format!(r#"{{"data":{body}}}"#);
        w.is("GET /v1/secret/data/large", "", 200, &expected).await;
    }
}

#[tokio::test]
async fn check_and_set_counts_as_vault_does() {
    let w = World::new().await;
    w.are(
        r##"
            POST /v1/secret/data/c {"data":{},"options":{"cas":1}} => 400 "check-and-set
                parameter did not match the current version"
            POST /v1/secret/data/c {"data":{},"options":{"cas":"x"}} => 400 "error parsing
                check-and-set parameter"
            POST /v1/secret/data/c {"data":{},"options":{"cas":-1}} => 400 "check-and-set
                parameter did not match the current version"
            POST /v1/secret/data/c {"data":{},"options":{"cas":0}} => 200 {"data":{"version":1}}
            POST /v1/secret/data/c {"data":{},"options":{"cas":0}} => 400 "check-and-set
                parameter did not match the current version"
            POST /v1/secret/data/c {"data":{},"options":{"cas":"1"}} => 200 {"data":{"version":2}}
            POST /v1/secret/data/c {"data":{},"options":null} => 200 {"data":{"version":3}}
            DELETE /v1/secret/data/c => 204
            POST /v1/secret/data/c {"data":{},"options":{"cas":0}} => 400 "check-and-set
                parameter did not match the current version"
            POST /v1/secret/data/c {"data":{},"options":{"cas":3}} => 200 {"data":{"version":4}}
            POST /v1/secret/metadata/c {"cas_required":true} => 204
            POST /v1/secret/data/c {"data":{}} => 400 "check-and-set parameter required for this call"
            POST /v1/secret/data/c {"data":{},"options":{"cas":4}} => 200 {"data":{"version":5}}
            POST /v1/secret/config {"cas_required":"true"} => 204
            POST /v1/secret/data/new {"data":{}} => 400 "check-and-set parameter required for this call"
            POST /v1/secret/data/new {"data":{},"options":{"cas":0}} => 200 {"data":{"version":1}}
        "##,
    )
    .await;
}

#[tokio::test]
async fn patches_merge() {
    let w = World::new().await;
    let patch = "PATCH /v1/secret/data/p";
    w.are(
        r##"
            PATCH /v1/secret/data/p {"data":{"a":1}} => 404
            POST /v1/secret/data/p {"data":{"a":"1","b":{"c":1,"d":2},"big":12345678901234567890}} => 200 {}
            PATCH /v1/secret/data/p {"data":{"a":null,"b":{"c":3},"n":"x"}} => 200 {"data":{"version":2}}
            GET /v1/secret/data/p => 200 {"data":{"data":{"b":{"c":3,"d":2},
                "big":12345678901234567890,"n":"x"}}}
        "##,
    )
    .await;
    let (_, text) = w.text("GET /v1/secret/data/p", "").await;
    assert!(!text.contains(r#""a":"#), "{text}");
    w.are(
        r##"
            PATCH /v1/secret/data/p {"data":{"a":1},"options":{"cas":1}} => 400 "check-and-set
                parameter did not match the current version"
            PATCH /v1/secret/data/p {"data":{"a":1},"options":{"cas":2}} => 200 {"data":{"version":3}}
            PATCH /v1/secret/data/p {} => 400 "no data provided"
        "##,
    )
    .await;
    for (kind, status) in [
        ("application/json", 415),
        ("", 400),
        ("application/merge-patch+json", 200),
        ("application/merge-patch+json; charset=utf-8", 200),
    ] {
        let (found, _) = w.with("content-type", kind, patch, r#"{"data":{}}"#).await;
        assert_eq!(found, status, "{kind}");
    }
    w.are(
        r##"
            DELETE /v1/secret/data/p => 204
            PATCH /v1/secret/data/p {"data":{}} => 404 {"data":{"version":5,"deletion_time":"*",
                "destroyed":false}}
            POST /v1/secret/destroy/p {"versions":[5]} => 204
            PATCH /v1/secret/data/p {"data":{}} => 404 {"data":{"version":5,"destroyed":true}}
        "##,
    )
    .await;
}

#[tokio::test]
async fn versions_are_deleted_undeleted_and_destroyed() {
    let w = World::new().await;
    w.are(
        r##"
            DELETE /v1/secret/data/x => 204
            DELETE /v1/secret/metadata/x => 204
            POST /v1/secret/delete/x {"versions":[1]} => 204
            POST /v1/secret/undelete/x {"versions":[1]} => 204
            POST /v1/secret/destroy/x {"versions":[1]} => 204
            GET /v1/secret/metadata/x => 404 []
            POST /v1/secret/data/x {"data":{"k":1}} => 200 {}
            POST /v1/secret/data/x {"data":{"k":2}} => 200 {}
            POST /v1/secret/data/x {"data":{"k":3}} => 200 {}
            POST /v1/secret/data/x {"data":{"k":4}} => 200 {}
            DELETE /v1/secret/data/x => 204
            GET /v1/secret/data/x => 404 {"data":{"data":null,"metadata":{"version":4,
                "deletion_time":"*Z","destroyed":false}},"warnings":null}
            DELETE /v1/secret/data/x => 204
            GET /v1/secret/data/x?version=3 => 200 {"data":{"data":{"k":3}}}
            POST /v1/secret/undelete/x {"versions":["4"]} => 204
            GET /v1/secret/data/x => 200 {"data":{"data":{"k":4},"metadata":{"deletion_time":""}}}
            PUT /v1/secret/delete/x {"versions":"1,2"} => 204
            GET /v1/secret/data/x?version=1 => 404 {"data":{"data":null,"metadata":{"version":1}}}
            GET /v1/secret/data/x?version=2 => 404 {"data":{"data":null,"metadata":{"version":2}}}
            PUT /v1/secret/destroy/x {"versions":[2,99]} => 204
            POST /v1/secret/undelete/x {"versions":[1,2]} => 204
            GET /v1/secret/data/x?version=1 => 200 {"data":{"data":{"k":1}}}
            GET /v1/secret/data/x?version=2 => 404 {"data":{"data":null,"metadata":{"version":2,
                "destroyed":true}}}
        "##,
    )
    .await;
}

#[tokio::test]
async fn versions_are_to_be_named() {
    let w = World::new().await;
    w.are(
        r##"
            POST /v1/secret/delete/x => 400 "No version number provided"
            POST /v1/secret/delete/x {} => 400 "No version number provided"
            POST /v1/secret/delete/x {"versions":[]} => 400 "No version number provided"
            POST /v1/secret/undelete/x {"versions":""} => 400 "No version number provided"
            POST /v1/secret/destroy/x {"versions":null} => 400 "no version number provided"
            POST /v1/secret/destroy/x {"versions":["a"]} => 400 "*"
            POST /v1/secret/delete/x/ {"versions":[1]} => 400 "cannot write to a path ending in '/'"
        "##,
    )
    .await;
}

#[tokio::test]
async fn versions_end_by_their_age() {
    let w = World::new().await;
    w.are(
        r##"
            POST /v1/secret/metadata/t {"delete_version_after":"1us"} => 204
            POST /v1/secret/data/t {"data":{"k":1}} => 200 {"data":{"deletion_time":"*T*"}}
            GET /v1/secret/data/t => 404 {"data":{"data":null,"metadata":{"version":1,"deletion_time":"*T*"}}}
            DELETE /v1/secret/data/t => 204
            POST /v1/secret/metadata/t {"delete_version_after":"1h"} => 204
            POST /v1/secret/undelete/t {"versions":[1]} => 204
            GET /v1/secret/data/t => 200 {"data":{"data":{"k":1},"metadata":{"deletion_time":"*T*"}}}
            POST /v1/secret/config {"delete_version_after":"-1s"} => 204
            POST /v1/secret/data/t {"data":{"k":2}} => 200 {"data":{"deletion_time":""}}
            GET /v1/secret/config => 200 {"data":{"delete_version_after":"-1s"}}
        "##,
    )
    .await;
}

#[tokio::test]
async fn version_numbers_are_never_used_again() {
    let w = World::new().await;
    w.are(
        r##"
            POST /v1/secret/data/x {"data":{"k":1}} => 200 {"data":{"version":1}}
            POST /v1/secret/data/x {"data":{"k":2}} => 200 {"data":{"version":2}}
            DELETE /v1/secret/metadata/x => 204
            GET /v1/secret/data/x => 404 []
            GET /v1/secret/metadata/x => 404 []
            LIST /v1/secret/metadata => 404 []
            POST /v1/secret/data/x {"data":{"k":3},"options":{"cas":0}} => 200 {"data":{"version":3}}
            GET /v1/secret/metadata/x => 200 {"data":{"current_version":3,"oldest_version":0}}
        "##,
    )
    .await;
}

#[tokio::test]
async fn subkeys_show_no_values() {
    let w = World::new().await;
    w.are(
        r##"
            POST /v1/secret/data/s {"data":{"a":"secret","b":{"c":{"d":1}}}} => 200 {}
            GET /v1/secret/subkeys/s => 200 {"data":{"subkeys":{"a":null,"b":{"c":{"d":null}}},
                "metadata":{"version":1}}}
            GET /v1/secret/subkeys/s?depth=1 => 200 {"data":{"subkeys":{"a":null,"b":null}}}
            GET /v1/secret/subkeys/s?depth=2&version=1 => 200 {"data":{"subkeys":{"a":null,"b":{"c":null}}}}
            GET /v1/secret/subkeys/none => 404 []
            DELETE /v1/secret/data/s => 204
            GET /v1/secret/subkeys/s => 404 {"data":{"subkeys":null,"metadata":{"version":1}}}
        "##,
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
        let expected = format!(r#"{{"data":{body}}}"#);
        w.is(&format!("GET /v1/secret/data/{read}"), "", 200, &expected).await;
    }
    for (path, target) in [
        ("/v1/secret//data/x", "/v1/secret/data/x"),
        ("/v1/secret/data/../metadata/x?list=true", "/v1/secret/metadata/x?list=true"),
    ] {
        let answer = w.answer("GET", path, &[], "").await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["location"]),
            (307, &target.parse().unwrap())
        );
    }
    w.are(
        r##"
            GET /v1/secret/data/%FF => 400 "*"
            GET /v1/secret/data/%zz => 400 "*"
        "##,
    )
    .await;
}

#[tokio::test]
async fn writers_at_once_get_a_version_each() {
    let w = World::new().await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..16 {
        let w = w.clone();
        writers.spawn(async move {
            let body = format!(r#"{{"data":{{"n":{n}}}}}"#);
            w.is("POST /v1/secret/data/many", &body, 200, r#"{"data":{"version":"?"}}"#).await;
        });
    }
    assert_eq!(writers.join_all().await.len(), 16);
    w.are(
        r##"
            GET /v1/secret/metadata/many => 200 {"data":{"current_version":16,"oldest_version":7}}
        "##,
    )
    .await;
}
