//! Who gets in, and who gets nothing.

use super::world::{PORT, World};

const HOST: (&str, &str) = ("host", "127.0.0.1:4711");

#[tokio::test]
async fn a_link_opens_once_and_its_cookie_is_strict() {
    let world = World::new().await;
    let link = world.link();
    let open = format!("GET /open/{link}");
    // A browser that fetches ahead spends nothing.
    let ahead = [HOST, ("sec-purpose", "prefetch")];
    assert_eq!(world.send(&open, &ahead, "").await.status, 503);
    let headers = [HOST, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")];
    let got = world.send(&open, &headers, "").await;
    assert_eq!((got.status, &got.headers["location"]), (303, &"/".parse().unwrap()));
    let cookie = got.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("vault-ui-4711="), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
    assert!(!cookie.contains(&link));
    let again = world.send(&open, &headers, "").await;
    assert_eq!(again.status, 403);
    assert!(!again.headers.contains_key("set-cookie"));
    // What replays it, what guesses and what has no session is told the very same.
    let guess = world.send("GET /open/guess", &headers, "").await;
    let bare = world.send("GET /", &headers, "").await;
    assert_eq!((&again.body, again.status), (&guess.body, guess.status));
    assert_eq!((&again.body, again.status), (&bare.body, bare.status));
}

#[tokio::test]
async fn without_a_session_there_is_nothing() {
    let world = World::new().await;
    world.put(&[("secret/hidden", r#"{"K":"v"}"#)]).await;
    for path in [
        "/",
        "/secrets",
        "/secret/secret/hidden",
        "/machines",
        "/machines/exposed?machine=here",
        "/alarms",
        "/events",
        "/style.css",
        "/page.js",
        "/icon.svg",
        "/other",
    ] {
        for cookie in ["", "vault-ui-4711=guess", "vault-ui-4712=x", &world.cookie[..40]] {
            let got = world.send(&format!("GET {path}"), &[HOST, ("cookie", cookie)], "").await;
            assert_eq!(got.status, 403, "{path} {cookie}");
            assert!(got.body.contains("vault ui") && !got.body.contains("hidden"), "{got:?}");
        }
        let twice = format!("{0}; {0}", world.cookie);
        let got = world.send(&format!("GET {path}"), &[HOST, ("cookie", &twice)], "").await;
        assert_eq!(got.status, 403, "{path}");
    }
    let german = [HOST, ("accept-language", "de")];
    assert!(world.send("GET /", &german, "").await.body.contains("keine Sitzung"));
}

#[tokio::test]
async fn another_host_and_another_page_get_an_empty_answer() {
    let world = World::new().await;
    let cookie = ("cookie", world.cookie.as_str());
    let (link, own) = (world.link(), ("origin", "http://127.0.0.1:4711"));
    let get = [String::from("GET /"), format!("GET /open/{link}"), "GET /style.css".to_owned()];
    for request in &get {
        for headers in [
            vec![cookie],
            vec![cookie, ("host", "evil.example:4711")],
            vec![cookie, ("host", "127.0.0.1:4712")],
            vec![cookie, ("host", "127.0.0.1")],
            vec![cookie, HOST, ("host", "evil.example")],
            vec![cookie, HOST, ("origin", "http://evil.example")],
            vec![cookie, HOST, ("origin", "null")],
            vec![cookie, HOST, ("sec-fetch-site", "cross-site")],
            vec![cookie, HOST, ("sec-fetch-site", "same-site")],
            vec![cookie, HOST, ("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "iframe")],
        ] {
            let got = world.send(request, &headers, "").await;
            assert_eq!((got.status, got.body.as_str()), (403, ""), "{request} {headers:?}");
            assert!(!got.headers.contains_key("set-cookie"));
            assert_eq!(got.headers["referrer-policy"], "no-referrer");
        }
    }
    for method in ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"] {
        let got = world.send(&format!("{method} /"), &[cookie, HOST, own], "").await;
        assert_eq!((got.status, got.body.as_str()), (405, ""), "{method}");
    }
    // None of them has spent the link.
    assert_eq!(world.send(&get[1], &[HOST], "").await.status, 303);
}

#[tokio::test]
async fn forms_show_that_they_are_of_this_page_and_session() {
    let world = World::new().await;
    let csrf = world.csrf().await;
    let form = format!("csrf={csrf}&lang=de&back=/alarms");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let cookie = ("cookie", world.cookie.as_str());
    for headers in [
        vec![HOST, cookie, kind],
        vec![HOST, cookie, kind, ("origin", "http://evil.example")],
        vec![HOST, cookie, kind, ("origin", "null")],
        vec![HOST, cookie, kind, ("origin", "http://127.0.0.1:4711"), ("sec-fetch-site", "none")],
    ] {
        let got = world.send("POST /language", &headers, &form).await;
        assert_eq!((got.status, got.body.as_str()), (403, ""), "{headers:?}");
    }
    for form in ["lang=de", "csrf=&lang=de", "csrf=guess&lang=de"] {
        assert_eq!(world.post("/language", form).await.status, 403, "{form}");
    }
    let plain = [HOST, cookie, ("origin", "http://127.0.0.1:4711"), ("content-type", "text/plain")];
    assert_eq!(world.send("POST /language", &plain, &form).await.status, 403);
    let large = format!("{form}&x={}", "y".repeat(20 << 10));
    assert_eq!(world.post("/language", &large).await.status, 403);
    let page = world.get("/").await;
    assert!(page.body.contains("<html lang=\"en\">"), "nothing was changed");
    let got = world.post("/language", &form).await;
    assert_eq!((got.status, &got.headers["location"]), (303, &"/alarms".parse().unwrap()));
    assert!(world.get("/").await.body.contains("<html lang=\"de\">"));
    let away = world.post("/language", &format!("csrf={csrf}&lang=en&back=//evil.example")).await;
    assert_eq!(away.headers["location"], "/");
    // A form of a page without a referrer.
    let null = [HOST, cookie, kind, ("origin", "null"), ("sec-fetch-site", "same-origin")];
    assert_eq!(world.send("POST /language", &null, &form).await.status, 303);
}

#[tokio::test]
async fn nothing_is_changed_by_getting() {
    let world = World::new().await;
    let csrf = world.csrf().await;
    let got = world.get(&format!("/language?csrf={csrf}&lang=de")).await;
    assert_eq!(got.status, 404);
    assert!(world.get("/").await.body.contains("<html lang=\"en\">"));
}

#[tokio::test]
async fn guessing_ends_the_link() {
    let world = World::new().await;
    let link = world.link();
    for n in 0..5 {
        assert_eq!(world.send(&format!("GET /open/{n}"), &[HOST], "").await.status, 403);
    }
    assert_eq!(world.send(&format!("GET /open/{link}"), &[HOST], "").await.status, 403);
    assert_eq!(world.get("/").await.status, 200, "who is in stays in");
}

#[tokio::test]
async fn the_widget_wants_its_token_and_its_picture_may_stand_elsewhere() {
    let world = World::new().await;
    let token = world.site.widget.as_ref().unwrap().text().to_owned();
    for path in ["/widget.json", "/badge.svg"] {
        for headers in [vec![HOST], vec![HOST, ("cookie", world.cookie.as_str())]] {
            for query in ["", "?token=", "?token=guess"] {
                let got = world.send(&format!("GET {path}{query}"), &headers, "").await;
                assert_eq!((got.status, got.body.as_str()), (403, ""), "{path}{query}");
            }
        }
        let rebound = [("host", "evil.example:4711")];
        let got = world.send(&format!("GET {path}?token={token}"), &rebound, "").await;
        assert_eq!(got.status, 403);
    }
    let bearer = format!("Bearer {token}");
    let got = world.send("GET /widget.json", &[HOST, ("authorization", &bearer)], "").await;
    assert_eq!(got.status, 200);
    let document: serde_json::Value = serde_json::from_str(&got.body).unwrap();
    assert_eq!((&document["well"], &document["hosts"]), (&true.into(), &1.into()), "{document}");
    let cross = [HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
    let got = world.send(&format!("GET /badge.svg?token={token}&lang=de"), &cross, "").await;
    assert_eq!(got.status, 200);
    assert!(got.body.contains("Alles in Ordnung"), "{}", got.body);
    assert_eq!(got.headers["cross-origin-resource-policy"], "cross-origin");
    assert_eq!(PORT, 4711);
}
