//! Local callers that mean no good: one clear refusal each, nothing panics, nothing hangs, and no
//! refusal repeats what it was sent.

use axum::http::Uri;

use super::World;

/// A value that must not come back.
const CANARY: &str = "canary-0c1d-value";

#[tokio::test]
async fn odd_json_is_refused_or_kept_exactly() {
    let w = World::new().await;
    let put = "POST /v1/secret/data/x";
    let deep = |open: &str, close: &str, times| {
        format!(r#"{{"data":{{"a":{}1{}}}}}"#, open.repeat(times), close.repeat(times))
    };
    let long_key = "k".repeat(1 << 20);
    for bad in [
        deep("[", "]", 100_000),
        deep(r#"{"a":"#, "}", 100_000),
        "[".repeat(1 << 20),
        format!(r#"{{"data":{{"a":"{CANARY}"#),
        format!(r#"{{"data":{{"a":"{CANARY}\ud800"}}}}"#),
        format!(r#"{{"data":{{"{CANARY}":1e,}}}}"#),
        format!(r#"{{"data":"{CANARY}"}}"#),
        format!(r#"{{"data":{{}},"options":{{"cas":"{CANARY}"}}}}"#),
        format!(r#"{{"data":{{}},"options":"{CANARY}"}}"#),
        format!(r#"{{"data":{{"{long_key}":"{CANARY}"}}}}"#),
        format!("\u{feff}{{\"data\":{{\"a\":\"{CANARY}\"}}}}"),
        format!(r#"{{"data":{{"a":"{CANARY}"}}}} {{}}"#),
        format!(r#"{{"data":{{"a":"{CANARY}","a":1}}}}"#),
        format!(r#"{{"data":{{"a":NaN,"b":"{CANARY}"}}}}"#),
    ] {
        let shown: String = bad.chars().take(60).collect();
        let (status, text) = w.text(put, &bad).await;
        assert!(matches!(status, 400 | 413), "{shown}: {status} {text}");
        assert!(!text.contains(CANARY) && text.len() < 400, "{shown}: {text}");
    }
    // What is legal comes back as it was written, however odd.
    let odd = r#"{"data":{"big":1e999,"small":-0.0,"n":123456789012345678901234567890,"u":"\u0000\ud83d\ude00","":"empty"}}"#;
    assert_eq!(w.text(put, odd).await.0, 200);
    let (status, text) = w.text("GET /v1/secret/data/x", "").await;
    assert_eq!(status, 200);
    for kept in ["123456789012345678901234567890", r#""":"empty""#, "\\u0000"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    assert!(text.contains("1e999") || text.contains("1e+999"), "{text}");
}

#[tokio::test]
async fn a_merge_patch_grows_nothing_beyond_the_limit() {
    let w = World::new().await;
    w.is("POST /v1/secret/data/x", r#"{"data":{"a":"1"}}"#, 200, "{}").await;
    let quarter = "v".repeat(300 << 10);
    let patch = |key: &str| format!(r#"{{"data":{{"{key}":"{quarter}"}}}}"#);
    let mut statuses = Vec::new();
    for key in ["b", "c", "d", "e"] {
        statuses.push(w.text("PATCH /v1/secret/data/x", &patch(key)).await.0);
    }
    assert_eq!(statuses, [200, 200, 413, 413]);
    let (_, text) = w.text("GET /v1/secret/data/x", "").await;
    assert!(text.contains(r#""version":3"#), "the refused ones changed nothing");
}

#[tokio::test]
async fn paths_do_not_get_around_the_grammar() {
    let w = World::new().await;
    let deep = format!("/v1/secret/data{}", "/x".repeat(32));
    for path in [
        deep.as_str(),
        // Another form than NFC: what people see is there twice.
        "/v1/secret/data/u%CC%88",
        "/v1/secret/metadata/u%CC%88",
        "/v1/secret/data/a%00b",
        "/v1/secret/data/%C0%AE%C0%AE/x",
        "/v1/secret/data/%ED%A0%80",
        "/v1/secret/data/a%0Ab",
        "/v1/secret/data/%E2%80%AEx",
        "/v1/secret/data/%20x",
        "/v1/secret/data/%2e%2e/%2e%2e/sys/mounts",
        "/v1/secret/data/..%2f..%2fagent%2fstatus",
        "/v1/secret/data/a%2",
    ] {
        let (status, text) = w.text(&format!("POST {path}"), r#"{"data":{"a":"b"}}"#).await;
        assert!(matches!(status, 307 | 400 | 404), "{path}: {status} {text}");
    }
    let (_, names) = w.text("LIST /v1/secret/metadata", "").await;
    assert!(!names.contains("keys"), "nothing was written: {names}");
}

/// A sequence that is the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

const PIECES: &[&str] = &[
    "\0",
    "\u{ffff}",
    "%",
    "%25",
    "%2F",
    "..",
    "//",
    "?",
    "&",
    "=",
    "\"",
    "\\",
    "\\u",
    "[",
    "{",
    "}",
    "]",
    ",",
    ":",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "$serde_json::private::Number",
    "version=",
    "list=true",
    "é",
    "+",
];

fn mutated(dice: &mut Dice, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=dice.below(3) {
        let at = dice.below(chars.len() + 1);
        match dice.below(3) {
            0 if at < chars.len() => {
                chars.remove(at);
            }
            1 => chars.truncate(at),
            _ => {
                let piece: Vec<char> = PIECES[dice.below(PIECES.len())].chars().collect();
                chars.splice(at..at, piece);
            }
        }
    }
    chars.into_iter().collect()
}

#[tokio::test]
async fn no_request_breaks_the_agent() {
    let w = World::new().await;
    w.is("POST /v1/secret/data/x", r#"{"data":{"a":"b"}}"#, 200, "{}").await;
    let seeds = [
        ("POST", "/v1/secret/data/x", r#"{"options":{"cas":1},"data":{"a":{"b":[1,"c"]}}}"#),
        ("PATCH", "/v1/secret/data/x", r#"{"data":{"a":null}}"#),
        ("GET", "/v1/secret/data/x?version=1", ""),
        ("LIST", "/v1/secret/metadata/?after=a&limit=3", ""),
        (
            "POST",
            "/v1/secret/metadata/x",
            r#"{"max_versions":3,"delete_version_after":"3h","custom_metadata":{"k":"v"}}"#,
        ),
        ("POST", "/v1/secret/destroy/x", r#"{"versions":[1,"2"]}"#),
        ("POST", "/v1/secret/config", r#"{"max_versions":"5","cas_required":"false"}"#),
        ("GET", "/v1/secret/subkeys/x?depth=2", ""),
        ("POST", "/v1/sys/capabilities-self", r#"{"paths":["secret/data/x"]}"#),
        ("GET", "/v1/sys/internal/ui/mounts/secret/x", ""),
        (
            "POST",
            "/v1/auth/token/create",
            r#"{"path":"secret/","ttl":"1h","capabilities":["read"]}"#,
        ),
        ("GET", "/v1/agent/audit?after=1&limit=2", ""),
        ("POST", "/v1/agent/prepare", r#"{"actor":"admin:me","ops":[]}"#),
        ("POST", "/v1/agent/submit", r#"{"envelope":{"by":"admin:me","body":"e30=","sig":"00"}}"#),
        ("POST", "/v1/agent/heal", r#"{"clear":"E_FROZEN"}"#),
    ];
    let mut dice = Dice(0x5eed_0123_4567_89ab);
    let mut sent = 0;
    for _ in 0..3000 {
        let (method, path, body) = seeds[dice.below(seeds.len())];
        let path = if dice.below(2) == 0 { mutated(&mut dice, path) } else { path.to_owned() };
        let body = if body.is_empty() { String::new() } else { mutated(&mut dice, body) };
        if path.parse::<Uri>().is_err() || !path.starts_with('/') {
            continue;
        }
        let (status, text) = w.text(&format!("{method} {path}"), &body).await;
        // 502: the little server of this test has no audit log.
        assert!(status < 500 || status == 502, "{method} {path} {body}: {status} {text}");
        sent += 1;
    }
    assert!(sent > 1000, "{sent} requests");
    assert_eq!(w.text("GET /v1/sys/health", "").await.0, 200);
}
