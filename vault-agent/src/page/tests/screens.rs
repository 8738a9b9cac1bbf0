//! What screens show: in both languages, escaped, cut, and within the policy.

use std::time::{Duration, Instant};

use shared::report::{HookResult, TargetReport, TargetState};
use shared::text::Text;

use super::world::World;
use crate::page::views;

const SCREENS: [&str; 6] =
    ["/", "/secrets", "/secrets?below=secret/", "/secret/secret/app", "/machines", "/alarms"];

fn target(path: &str, state: TargetState, applied: u64) -> TargetReport {
    TargetReport {
        name: Text::lossy(path),
        path: "secret/app".parse().unwrap(),
        ver: applied,
        state,
        since: host::clock::now(),
        hook: HookResult::None,
        detail: Text::default(),
    }
}

#[tokio::test]
async fn every_screen_is_in_both_languages_and_within_the_policy() {
    let world = World::new().await;
    world.put(&[("secret/app", r#"{"KEY":"value-of-key"}"#)]).await;
    world.site.engine.set_targets(vec![target("/srv/.env", TargetState::Ok, 1)]);
    for path in SCREENS {
        for (lang, word) in [("en", "In the terminal"), ("de", "Im Terminal")] {
            let page = world.screen(path, lang).await;
            assert!(page.contains(&format!("<html lang=\"{lang}\">")), "{path}");
            assert!(page.contains(word), "{path} {lang}: {page}");
            let script = page.matches("<script").count();
            assert_eq!((script, page.matches("<script src=\"/page.js\" defer>").count()), (1, 1));
            for inline in [" style=", "<style", " onclick", " onload", "javascript:"] {
                assert!(!page.contains(inline), "{path}: {inline}");
            }
            assert!(!page.contains("value-of-key"), "{path}");
            assert_eq!(page.matches("<main").count(), 1, "{path}");
            assert_eq!(page.matches("<h1").count(), 1, "{path}");
            assert_eq!(page.matches("<table").count(), page.matches("<caption").count());
            assert!(page.contains("<footer>") && page.contains("<code>"), "{path}");
        }
    }
}

#[test]
fn catalogues_keep_the_same_places_in_both_languages() {
    for (name, en, de) in views::catalogues::all() {
        assert!(!en.is_empty() && !de.is_empty(), "{name}");
        assert_eq!(en.matches("{}").count(), de.matches("{}").count(), "{name}");
        assert_eq!(en.matches('`').count(), de.matches('`').count(), "{name}");
    }
}

#[tokio::test]
async fn all_well_and_not_well_are_said_first() {
    let world = World::new().await;
    world.put(&[("secret/app", r#"{"KEY":"v"}"#)]).await;
    world.site.engine.set_targets(vec![target("/srv/.env", TargetState::Ok, 1)]);
    let page = world.until("/", "/srv/.env").await;
    assert!(page.contains("All well") && page.contains("1 of 1 hosts right"), "{page}");
    world.site.engine.set_targets(vec![target("/srv/.env", TargetState::Foreign, 0)]);
    let page = world.until("/", "1 thing is wrong").await;
    assert!(page.contains("here /srv/.env: not ours"), "{page}");
    assert!(page.contains("names the three ways: import, block or replace"), "{page}");
    assert!(page.contains("<code>vault-agent status</code>"), "{page}");
    assert!(page.contains("<a href=\"#wrong-1\">not ours</a>"), "{page}");
    let german = world.screen("/", "de").await;
    assert!(german.contains("1 Sache stimmt nicht") && german.contains("nicht unsere"));
}

#[tokio::test]
async fn text_from_outside_is_escaped_and_steers_nothing() {
    let world = World::new().await;
    let (path, hostile) = ("secret/<b>x\"y'&z", "<script>alert(1)</script>\u{202e}\u{1b}[2J");
    world.put(&[(path, r#"{"<i>KEY\"":"v"}"#), ("secret/app", "{}")]).await;
    // The log takes no more than this among custom metadata.
    let plain = "<script>alert(1)</script>";
    let texts = [("issuer", plain), ("owner", plain), ("rotate_after", plain)];
    world.custom(path, &texts).await;
    let mut report = target("/srv/<img src=x>", TargetState::Failed, 0);
    report.detail = Text::lossy(hostile);
    world.site.engine.set_targets(vec![report]);
    world.site.engine.alarm("E_<u>", hostile);
    world.until("/", "/srv/").await;
    let secret = format!("/secret/{}", "secret/%3Cb%3Ex%22y'%26z");
    for path in ["/", "/alarms", "/secrets", "/secrets?below=secret/", &secret] {
        let page = world.screen(path, "en").await;
        for raw in ["<b>", "<i>", "<u>", "<img", "<script>", "\u{202e}", "\u{1b}"] {
            assert!(!page.contains(raw), "{path}: {raw:?} in {page}");
        }
        let hrefs = page.split(" href=\"").skip(1);
        for href in hrefs.map(|rest| rest.split_once('"').unwrap().0) {
            assert!(href.starts_with(['/', '#']) && !href.starts_with("//"), "{path}: {href}");
        }
    }
    let page = world.screen(&secret, "en").await;
    assert!(page.contains("&#60;b&#62;x") || page.contains("&lt;b&gt;x"), "{page}");
    let page = world.screen("/alarms", "en").await;
    assert!(page.contains("\\u202e"), "{page}");
    // An address that is echoed, and one that is no path at all.
    for odd in ["/secrets?below=%3Cscript%3E", "/secret/%3Cscript%3E", "/%3Cscript%3E"] {
        assert!(!world.get(odd).await.body.contains("<script>"), "{odd}");
    }
    assert_eq!(world.get("/secret/%FF").await.status, 400);
    assert_eq!(world.get("/secret/secret/none").await.status, 404);
    assert_eq!(world.get("/machines/exposed?machine=none").await.status, 404);
}

#[tokio::test]
async fn long_folders_are_cut_into_pages() {
    let world = World::new().await;
    let names: Vec<String> = (0..450).map(|n| format!("secret/many/s{n:04}")).collect();
    for names in names.chunks(150) {
        world.put(&names.iter().map(|name| (name.as_str(), "{}")).collect::<Vec<_>>()).await;
    }
    world.put(&[("secret/many/deep/a", "{}"), ("secret/many/deep/b", "{}")]).await;
    let page = world.screen("/secrets?below=secret/many/", "en").await;
    assert!(page.contains("deep/") && page.contains("s0198") && !page.contains("s0199"), "{page}");
    assert!(page.contains("and 251 more"), "{page}");
    let next = page.split_once("<a href=\"/secrets?below=secret/many/&#38;after=");
    let next = next.expect("a next page").1.split_once('"').unwrap().0;
    let page = world.screen(&format!("/secrets?below=secret/many/&after={next}"), "en").await;
    assert!(page.contains("s0199") && page.contains("s0398") && page.contains("and 51 more"));
    let top = world.screen("/secrets", "en").await;
    assert!(top.contains("secret/") && !top.contains("s0001"), "{top}");
    // A name that only begins alike is no folder of it.
    assert!(world.screen("/secrets?below=secret/man", "en").await.contains("no secret here"));
}

#[tokio::test]
async fn a_fleet_that_is_known_is_shown_at_once_while_the_server_is_away() {
    let world = World::new().await;
    world.until("/", "All well").await;
    world.lone.lose_server().await;
    world.until("/", "the server is away").await;
    let begun = Instant::now();
    world.screen("/", "en").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
