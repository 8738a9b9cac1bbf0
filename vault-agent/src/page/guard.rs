//! What a request has to show before anything is looked at: that it is for this page by its own
//! name, and that no other page of the browser has sent it.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, header};

/// Why a request is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// It is for another host, or another port, as of a name that was rebound (DNS rebinding).
    Host,
    /// Another page sends it.
    Origin,
    /// Nobody has asked for it yet: a browser fetches ahead.
    Ahead,
    /// Neither `GET` nor `POST`.
    Method,
}

/// Checks by which name a request calls; returns the port that the browser sees.
///
/// # Errors
/// [`Foreign::Host`]; nothing of it is told to its sender.
pub(super) fn check_host(parts: &Parts, is_ours: impl Fn(u16) -> bool) -> Result<u16, Foreign> {
    host(parts).and_then(port).filter(|port| is_ours(*port)).ok_or(Foreign::Host)
}

/// Checks who sends a request whose name is right.
///
/// # Errors
/// What is wrong with it; nothing of that is told to its sender.
pub(super) fn check_sender(parts: &Parts) -> Result<(), Foreign> {
    let host = host(parts).ok_or(Foreign::Host)?;
    let is_post = match parts.method {
        Method::GET => false,
        Method::POST => true,
        _ => return Err(Foreign::Method),
    };
    check_origin(&parts.headers, host, is_post)?;
    let purposes = ["sec-purpose", "purpose", "x-moz"];
    let is_ahead = purposes.iter().any(|name| {
        let value = one(&parts.headers, &HeaderName::from_static(name)).unwrap_or_default();
        value.is_some_and(|value| value.contains("prefetch") || value.contains("preview"))
    });
    if is_ahead { Err(Foreign::Ahead) } else { Ok(()) }
}

/// Returns the one `Host` of a request that names no other host in its first line.
fn host(parts: &Parts) -> Option<&str> {
    let named = one(&parts.headers, &header::HOST).ok().flatten()?;
    let line = parts.uri.authority().map_or(named, hyper::http::uri::Authority::as_str);
    (line == named).then_some(named)
}

/// Returns the port of `127.0.0.1:PORT` or `localhost:PORT`, and of nothing else.
fn port(host: &str) -> Option<u16> {
    let (name, port) = host.rsplit_once(':')?;
    let is_number = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_here = name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost");
    if is_here && is_number { port.parse().ok() } else { None }
}

/// Returns the value of a header that may be there once at most.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Foreign> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Foreign::Origin);
    }
    first.map(|value| value.to_str().map_err(|_| Foreign::Origin)).transpose()
}

/// Lets through what this page itself sends, and addresses that a person has typed or been given:
/// they have no other page behind them.
fn check_origin(headers: &HeaderMap, host: &str, is_post: bool) -> Result<(), Foreign> {
    let fetch = |name| one(headers, &HeaderName::from_static(name));
    let site = fetch("sec-fetch-site")?;
    let is_navigation = fetch("sec-fetch-mode")?.is_none_or(|mode| mode == "navigate");
    let is_top = fetch("sec-fetch-dest")?.is_none_or(|dest| !is_framed(dest));
    match site {
        Some("same-origin") if is_top => {}
        Some("none") if !is_post && is_navigation && is_top => {}
        // Programs other than browsers, and browsers from before 2023.
        None => {}
        Some(_) => return Err(Foreign::Origin),
    }
    let is_same = site == Some("same-origin");
    let is_own = |origin: &str| origin.strip_prefix("http://") == Some(host);
    match one(headers, &header::ORIGIN)? {
        Some(origin) if is_own(origin) => Ok(()),
        // A form of a page that sends no referrer (Fetch, section 3.1).
        Some("null") if is_post && is_same => Ok(()),
        None if !is_post => Ok(()),
        Some(_) | None => Err(Foreign::Origin),
    }
}

/// Tells whether an answer would stand inside another page.
fn is_framed(dest: &str) -> bool {
    matches!(dest, "iframe" | "frame" | "embed" | "object" | "fencedframe")
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const PORT: u16 = 4711;

    fn checked(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<u16, Foreign> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let port = check_host(&parts, |port| port == PORT)?;
        check_sender(&parts).map(|()| port)
    }

    #[test]
    fn only_its_own_names_are_answered() {
        for good in ["127.0.0.1:4711", "localhost:4711", "LOCALHOST:4711"] {
            assert_eq!(checked("GET", "/", &[("host", good)]), Ok(PORT), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1:04711",
            "127.0.0.1:+4711",
            "127.0.0.1:70247",
            "127.0.0.2:4711",
            "[::1]:4711",
            "localhost.:4711",
            "evil.example:4711",
            "127.0.0.1.evil.example:4711",
            "evil@localhost:4711",
            "localhost:4711:4711",
        ] {
            assert_eq!(checked("GET", "/", &[("host", bad)]), Err(Foreign::Host), "{bad}");
        }
        assert_eq!(checked("GET", "/", &[]), Err(Foreign::Host));
        let two = [("host", "127.0.0.1:4711"), ("host", "evil.example")];
        assert_eq!(checked("GET", "/", &two), Err(Foreign::Host));
        let host = [("host", "127.0.0.1:4711")];
        assert_eq!(checked("GET", "http://evil.example/", &host), Err(Foreign::Host));
    }

    #[test]
    fn no_other_page_sends_anything() {
        let check = |method: &str, headers: &[(&str, &str)], expected| {
            let mut all = vec![("host", "localhost:4711")];
            all.extend_from_slice(headers);
            assert_eq!(checked(method, "/", &all).map(drop), expected, "{method} {headers:?}");
        };
        let foreign = Err(Foreign::Origin);
        let (own, null) = (("origin", "http://localhost:4711"), ("origin", "null"));
        let same = ("sec-fetch-site", "same-origin");
        let typed = ("sec-fetch-site", "none");
        check("GET", &[], Ok(()));
        check("GET", &[typed, ("sec-fetch-mode", "navigate")], Ok(()));
        check("GET", &[same, ("sec-fetch-mode", "cors")], Ok(()));
        check("GET", &[typed, ("sec-fetch-mode", "no-cors")], foreign);
        check("GET", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], foreign);
        check("GET", &[("sec-fetch-site", "same-site")], foreign);
        check("GET", &[same, ("sec-fetch-dest", "iframe")], foreign);
        check("GET", &[("origin", "http://evil.example")], foreign);
        check("GET", &[null], foreign);
        check("POST", &[own], Ok(()));
        check("POST", &[own, same], Ok(()));
        check("POST", &[null, same], Ok(()));
        check("POST", &[], foreign);
        check("POST", &[same], foreign);
        check("POST", &[null], foreign);
        check("POST", &[own, typed], foreign);
        check("POST", &[own, ("sec-fetch-site", "cross-site")], foreign);
        check("POST", &[("origin", "http://127.0.0.1:4711")], foreign);
        check("POST", &[("origin", "https://localhost:4711")], foreign);
        check("POST", &[own, own], foreign);
        check("PUT", &[own], Err(Foreign::Method));
        check("GET", &[("sec-purpose", "prefetch;prerender")], Err(Foreign::Ahead));
        check("GET", &[("purpose", "prefetch")], Err(Foreign::Ahead));
    }
}
