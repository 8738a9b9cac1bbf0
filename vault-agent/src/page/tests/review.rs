//! The screens of a review: a change, who reads, and the audit log.

use shared::log::State;

use super::world::World;

#[tokio::test]
async fn a_change_is_told_in_both_languages_and_escaped() {
    let world = World::new().await;
    world.put(&[("secret/<b>x\"y", r#"{"KEY":"v"}"#), ("secret/app", "{}")]).await;
    let seq = world.site.engine.state(State::seq);
    let here = format!("/change/{seq}");
    let page = world.screen(&here, "en").await;
    assert!(page.contains(&format!("<h1>Change {seq}</h1>")), "{page}");
    assert!(page.contains("What it did") && page.contains("has other secrets"), "{page}");
    assert!(!page.contains("<b>"), "{page}");
    let german = world.screen(&here, "de").await;
    assert!(
        german.contains(&format!("<h1>Änderung {seq}</h1>")) && german.contains("Unterschrieben")
    );
    for none in
        ["/change/999999", "/change/x", "/change/-1", "/change/", "/change/18446744073709551616"]
    {
        assert_eq!(world.get(none).await.status, 404, "{none}");
    }
}

#[tokio::test]
async fn filters_that_cannot_be_meant_are_named() {
    let world = World::new().await;
    let page = world.screen("/audit?since=%3Cb%3Emonda", "en").await;
    assert!(page.contains("names no time") && !page.contains("<b>"), "{page}");
    let page = world.screen("/audit?op=%3Cb%3E", "de").await;
    assert!(page.contains("Kein Vorgang heißt") && !page.contains("<b>"), "{page}");
    let page = world.screen("/audit?key=NONE%3Cb%3E&since=monda", "en").await;
    assert!(page.contains("No secret that this host reads has a key NONE"), "{page}");
    assert!(!page.contains("<b>"), "{page}");
    world.put(&[("secret/app", r#"{"KEY":"v"}"#)]).await;
    let page = world.screen("/audit?key=K*&since=monda", "en").await;
    assert!(page.contains("K* is a key of secret/app.") && page.contains("--key"), "{page}");
    for bad in ["/events/audit", "/events/audit?after=x", "/events/audit?after=1&since=monda"] {
        assert_eq!(world.get(bad).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn without_the_server_each_screen_says_why() {
    let world = World::new().await;
    world.put(&[("secret/app", "{}")]).await;
    let seq = world.site.engine.state(State::seq);
    world.lone.lose_server().await;
    for path in ["/audit", "/readers"] {
        let got = world.get(path).await;
        assert_eq!(got.status, 503, "{path}");
        assert!(got.body.contains("the audit log lives on the server"), "{}", got.body);
    }
    let page = world.screen(&format!("/change/{seq}"), "en").await;
    assert!(page.contains("not known now") && page.contains("secret/app"), "{page}");
}
