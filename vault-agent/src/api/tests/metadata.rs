//! Metadata, settings, limits, lists.

use super::World;

#[tokio::test]
async fn metadata_has_every_field() {
    let w = World::new().await;
    w.are(
        r##"
            GET /v1/secret/metadata/m => 404 []
            POST /v1/secret/data/m {"data":{}} => 200 {}
            GET /v1/secret/metadata/m => 200 {"data":{"cas_required":false,"created_time":"*Z",
                "current_version":1,"custom_metadata":null,"delete_version_after":"0s",
                "max_versions":0,"oldest_version":0,"updated_time":"*Z",
                "versions":{"1":{"created_time":"*Z","deletion_time":"","destroyed":false}}}}
            PUT /v1/secret/metadata/m {"max_versions":"3","cas_required":false,
                "delete_version_after":"90m","custom_metadata":{"owner":"jonas","n":1}} => 204
            GET /v1/secret/metadata/m => 200 {"data":{"max_versions":3,
                "delete_version_after":"1h30m0s","custom_metadata":{"n":"1","owner":"jonas"}}}
            GET /v1/secret/data/m => 200 {"data":{"metadata":{"custom_metadata":{"n":"1","owner":"jonas"}}}}
            POST /v1/secret/metadata/m {"max_versions":5} => 204
            GET /v1/secret/metadata/m => 200 {"data":{"max_versions":5,
                "delete_version_after":"1h30m0s","custom_metadata":{"n":"1","owner":"jonas"}}}
            POST /v1/secret/metadata/m {"max_versions":"x"} => 400 "*"
            POST /v1/secret/metadata/m {"max_versions":4294967296} => 400 "*"
            POST /v1/secret/metadata/m {"delete_version_after":"-5s"} => 400 "error converting
                input for field \"delete_version_after\": cannot provide negative value '-5'"
            POST /v1/secret/metadata/m {"cas_required":"maybe"} => 400 "*"
            POST /v1/secret/metadata/m {"delete_version_after":"1y"} => 400 "*"
            POST /v1/secret/metadata/m {"custom_metadata":"x"} => 400 "*"
        "##,
    )
    .await;
}

#[tokio::test]
async fn metadata_alone_makes_a_secret_without_versions() {
    let w = World::new().await;
    w.are(
        r##"
            POST /v1/secret/metadata/only {"custom_metadata":{"a":"b"}} => 204
            GET /v1/secret/metadata/only => 200 {"data":{"current_version":0,"versions":{}}}
            GET /v1/secret/data/only => 404 []
            LIST /v1/secret/metadata => 200 {"data":{"keys":["only"]}}
            POST /v1/secret/data/only {"data":{},"options":{"cas":0}} => 200 {"data":{"version":1,
                "custom_metadata":{"a":"b"}}}
        "##,
    )
    .await;
}

#[tokio::test]
async fn metadata_is_patched_key_by_key() {
    let w = World::new().await;
    w.are(
        r##"
            PATCH /v1/secret/metadata/p {"max_versions":1} => 404
            POST /v1/secret/metadata/p {"max_versions":7,"custom_metadata":{"a":"1","b":"2"}} => 204
            PATCH /v1/secret/metadata/p {"custom_metadata":{"a":null,"c":"3"}} => 204
            GET /v1/secret/metadata/p => 200 {"data":{"max_versions":7,"custom_metadata":{"b":"2","c":"3"}}}
            PATCH /v1/secret/metadata/p {"custom_metadata":null,"max_versions":null} => 204
            GET /v1/secret/metadata/p => 200 {"data":{"max_versions":0,"custom_metadata":null}}
        "##,
    )
    .await;
    let patch = "PATCH /v1/secret/metadata/p";
    assert_eq!(w.with("content-type", "application/json", patch, "{}").await.0, 415);
}

#[tokio::test]
async fn custom_metadata_has_vaults_limits() {
    let w = World::new().await;
    let many: Vec<String> = (0..65).map(|n| format!(r#""k{n}":"v""#)).collect();
    let (many, long) = (many.join(","), "x".repeat(513));
    let (key, value) = ("k".repeat(128), "é".repeat(256));
    let failed = r#""1 error occurred:\n\t* custom_metadata validation failed: "#;
    w.are(&format!(
        r##"
            POST /v1/secret/metadata/l {{"custom_metadata":{{{many}}}}} => 400 {failed}payload
                must contain at most 64 keys, provided 65\n\n"
            POST /v1/secret/metadata/l {{"custom_metadata":{{"":"v"}}}} => 400 {failed}length of
                key \"\" is 0 but must be 0 < len(key) <= 128\n\n"
            POST /v1/secret/metadata/l {{"custom_metadata":{{"k":""}}}} => 400 {failed}length of
                value for key \"k\" is 0 but must be 0 < len(value) <= 512\n\n"
            POST /v1/secret/metadata/l {{"custom_metadata":{{"k":"{long}"}}}}
                => 400 {failed}length of value for key \"k\" is 513 but must be
                0 < len(value) <= 512\n\n"
            POST /v1/secret/metadata/l {{"custom_metadata":{{"k":"a\u0007"}}}}
                => 400 {failed}value for key \"k\" contains unprintable characters\n\n"
            POST /v1/secret/metadata/l {{"custom_metadata":{{"k":["x"]}}}} => 400 "*"
            POST /v1/secret/metadata/l {{"custom_metadata":{{"{key}":"{value}"}}}} => 204
        "##
    ))
    .await;
}

#[tokio::test]
async fn the_larger_limit_counts_and_prunes_at_the_next_write() {
    let w = World::new().await;
    for _ in 0..10 {
        w.is("POST /v1/secret/data/v", r#"{"data":{}}"#, 200, "{}").await;
    }
    w.are(
        r##"
            GET /v1/secret/metadata/v => 200 {"data":{"oldest_version":0,"current_version":10}}
            POST /v1/secret/data/v {"data":{}} => 200 {}
            GET /v1/secret/metadata/v => 200 {"data":{"oldest_version":2,"current_version":11}}
            GET /v1/secret/data/v?version=1 => 404 []
            POST /v1/secret/metadata/v {"max_versions":2} => 204
            POST /v1/secret/config {"max_versions":4} => 204
            GET /v1/secret/metadata/v => 200 {"data":{"oldest_version":2}}
            POST /v1/secret/data/v {"data":{}} => 200 {}
            GET /v1/secret/metadata/v => 200 {"data":{"oldest_version":9,"current_version":12}}
        "##,
    )
    .await;
}

#[tokio::test]
async fn mounts_have_settings() {
    let w = World::new().await;
    w.are(
        r##"
            GET /v1/secret/config => 200 {"data":{"max_versions":0,"cas_required":false,
                "delete_version_after":"0s"}}
            POST /v1/secret/config {"max_versions":"5","delete_version_after":3600} => 204
            PUT /v1/secret/config => 204
            GET /v1/secret/config => 200 {"data":{"max_versions":5,"cas_required":false,
                "delete_version_after":"1h0m0s"}}
            POST /v1/secret/config {"max_versions":0,"delete_version_after":0} => 204
            GET /v1/secret/config => 200 {"data":{"max_versions":0,"delete_version_after":"0s"}}
            DELETE /v1/secret/config => 405 "1 error occurred:\n\t* unsupported operation\n\n"
        "##,
    )
    .await;
}

#[tokio::test]
async fn names_are_listed_by_every_way_of_asking() {
    let w = World::new().await;
    w.are(
        r##"
            LIST /v1/secret/metadata => 404 []
            GET /v1/secret/metadata/?list=true => 404 []
        "##,
    )
    .await;
    for path in ["b", "a", "a/x", "a/y/z", "a-b", "a0", "ü"] {
        w.is(&format!("POST /v1/secret/data/{path}"), r#"{"data":{}}"#, 200, "{}").await;
    }
    w.are(
        r##"
            DELETE /v1/secret/data/b => 204
            LIST /v1/secret/metadata => 200 {"data":{"keys":["a","a-b","a/","a0","b","ü"]}}
            LIST /v1/secret/metadata/ => 200 {"data":{"keys":["a","a-b","a/","a0","b","ü"]}}
            GET /v1/secret/metadata?list=true => 200 {"data":{"keys":["a","a-b","a/","a0","b","ü"]}}
            GET /v1/secret/metadata/?list=true => 200 {"data":{"keys":["a","a-b","a/","a0","b","ü"]}}
            GET /v1/secret/metadata?list=1 => 200 {"data":{"keys":["a","a-b","a/","a0","b","ü"]}}
            GET /v1/secret/metadata?list=True => 200 {"data":{"keys":["a","a-b","a/","a0","b","ü"]}}
            GET /v1/secret/metadata?foo=bar&list=t => 200 {"data":{"keys":["a","a-b","a/","a0","b","ü"]}}
            LIST /v1/secret/metadata/a => 200 {"data":{"keys":["x","y/"]}}
            LIST /v1/secret/metadata/a/y/ => 200 {"data":{"keys":["z"]}}
            LIST /v1/secret/metadata/b => 404 []
            LIST /v1/secret/metadata/none => 404 []
            GET /v1/secret/metadata?list=perhaps => 400 []
            GET /v1/secret/metadata/a?list=false => 200 {"data":{"current_version":1}}
        "##,
    )
    .await;
}

#[tokio::test]
async fn who_wrote_a_version_stands_on_a_route_of_our_own() {
    let w = World::new().await;
    w.are(
        r##"
            POST /v1/secret/data/app/x {"data":{"A":"1"}} => 200 {}
            POST /v1/secret/data/app/x {"data":{"A":"2"}} => 200 {}
            GET /v1/agent/writers?path=secret/app/y => 404 []
            GET /v1/agent/writers => 400 "*"
        "##,
    )
    .await;
    let expected = r#"[{"ver":1,"by":"machine:here"},{"ver":2,"by":"machine:here"}]"#;
    for path in ["secret/app/x", "secret%2Fapp%2Fx"] {
        let told = w.text(&format!("GET /v1/agent/writers?path={path}"), "").await;
        assert_eq!(told, (200, format!("{expected}\n")));
    }
    let (_, text) = w.text("GET /v1/secret/metadata/app/x", "").await;
    assert!(!text.contains("here") && !text.contains("created_by"), "{text}");
}
