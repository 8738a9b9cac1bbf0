//! Answers as they go out: each with the same strict headers, whatever it holds; and what the
//! program carries with it, a style sheet, a script and a picture.

use askama::Template;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};

/// An answer.
pub(super) type Answer = Response<Body>;

/// What pages may load and do: their own style, script, pictures and forms, and nothing inline.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Headers of every answer, refusals too.
const STRICT: [(&str, &str); 8] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
    ("x-dns-prefetch-control", "off"),
];

/// What the program carries with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asset {
    /// Where it is asked for.
    pub(super) path: &'static str,
    kind: &'static str,
    text: &'static str,
}

/// All of them.
pub(super) const ASSETS: [Asset; 3] = [
    Asset {
        path: "/style.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("assets/style.css"),
    },
    Asset {
        path: "/page.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("assets/page.js"),
    },
    Asset { path: "/icon.svg", kind: "image/svg+xml", text: include_str!("assets/icon.svg") },
];

/// Makes an answer.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in STRICT {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

/// Answers with a screen.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Answer {
    match page.render() {
        Ok(text) => answer(status, "text/html; charset=utf-8", text),
        Err(why) => {
            tracing::error!(%why, "a page is not written");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Answers with plain text.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", text)
}

/// Answers with nothing.
pub(super) fn empty(status: StatusCode) -> Answer {
    plain(status, "")
}

/// Sends the browser to a path of this page; `cookie` is set on the way, if there is one.
pub(super) fn see_other(path: &str, cookie: Option<&str>) -> Answer {
    let mut answer = empty(StatusCode::SEE_OTHER);
    let mut set = |name, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            answer.headers_mut().insert(name, value);
        }
    };
    set(header::LOCATION, path);
    if let Some(cookie) = cookie {
        set(header::SET_COOKIE, cookie);
    }
    answer
}

/// Answers with what the program carries, if it is that.
pub(super) fn asset(path: &str) -> Option<Answer> {
    let asset = ASSETS.iter().find(|asset| asset.path == path)?;
    Some(answer(StatusCode::OK, asset.kind, asset.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All assets together, in bytes.
    const MOST: usize = 60 << 10;
    /// The script.
    const SCRIPT: usize = 3 << 10;

    #[test]
    fn assets_are_small() {
        let all: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(all <= MOST, "{all} bytes");
        let script = ASSETS.iter().find(|asset| asset.path == "/page.js").unwrap();
        assert!(script.text.len() <= SCRIPT, "{} bytes", script.text.len());
    }

    #[test]
    fn every_answer_is_strict() {
        for answer in [
            plain(StatusCode::OK, "x"),
            empty(StatusCode::FORBIDDEN),
            see_other("/", Some("a=b")),
            asset("/style.css").unwrap(),
        ] {
            for (name, value) in STRICT {
                assert_eq!(answer.headers()[name], value);
            }
        }
        assert!(asset("/other").is_none());
    }
}
