//! Values: shown by a form alone, and on record before.

use super::world::{WHO, World};

const PATH: &str = "/secret/secret/app";

#[tokio::test]
async fn a_value_is_shown_by_its_form_and_is_a_read_of_the_opener() {
    let world = World::new().await;
    world.put(&[("secret/app", r#"{"KEY":"s3cret <x>","N":{"a":1}}"#)]).await;
    let csrf = world.csrf().await;
    let page = world.screen(PATH, "en").await;
    assert!(page.contains("KEY") && !page.contains("s3cret"), "{page}");
    let last = world.accesses().await.pop().unwrap();
    assert_eq!(last, ("local_subkeys secret/app 1 ok".to_owned(), WHO.to_owned()));
    for form in ["key=KEY", "key=KEY&csrf=guess"] {
        let got = world.post(PATH, form).await;
        assert!(got.status == 403 && !got.body.contains("s3cret"), "{got:?}");
    }
    let got = world.get(&format!("{PATH}?key=KEY&csrf={csrf}")).await;
    assert!(!got.body.contains("s3cret"));
    let got = world.post(PATH, &format!("key=KEY&csrf={csrf}")).await;
    assert_eq!(got.status, 200);
    assert!(got.body.contains("s3cret &#60;x&#62;"), "{}", got.body);
    assert_eq!(got.headers["cache-control"], "no-store");
    assert!(!got.body.contains("data-live"), "the script must not take it away");
    let last = world.accesses().await.pop().unwrap();
    assert_eq!(last, ("local_read secret/app 1 ok".to_owned(), WHO.to_owned()));
    let got = world.post(PATH, &format!("key=N&csrf={csrf}")).await;
    assert!(got.body.contains("{&#34;a&#34;:1}"), "{}", got.body);
    assert_eq!(world.post(PATH, &format!("key=OTHER&csrf={csrf}")).await.status, 404);
}

#[tokio::test]
async fn what_this_host_may_not_read_is_refused_and_on_record() {
    let world = World::with_grants(&["secret/own/", "sys/audit"]).await;
    world.put(&[("secret/app", r#"{"KEY":"v"}"#)]).await;
    let csrf = world.csrf().await;
    let page = world.screen(PATH, "en").await;
    assert!(page.contains("This host may not read it"), "{page}");
    assert!(page.contains("vault access set here --read"), "{page}");
    let got = world.post(PATH, &format!("key=KEY&csrf={csrf}")).await;
    assert!(got.status == 200 && got.body.contains("may not read it"), "{got:?}");
    let last = world.accesses().await.pop().unwrap();
    assert_eq!(last, ("local_read secret/app 1 denied".to_owned(), WHO.to_owned()));
}

#[tokio::test]
async fn rotation_and_readers_are_told() {
    let world = World::new().await;
    world.put(&[("secret/app", r#"{"KEY":"v"}"#)]).await;
    let texts = [("rotate_after", "1h"), ("issuer", "stripe.com"), ("owner", "jonas")];
    world.custom("secret/app", &texts).await;
    let page = world.screen(PATH, "en").await;
    assert!(page.contains("due in 59 min") && page.contains("stripe.com"), "{page}");
    assert!(page.contains("<li>here</li>"), "{page}");
    assert!(world.screen("/secrets", "de").await.contains("fällig in 59 min"));
}
