//! A request, taken apart once: path, verb, query, body. What is asked for lives with its route.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::DeserializeOwned;
use shared::path::SecretPath;

use super::caller::Caller;
use super::context::Api;
use super::error::ApiFault;
use super::json::{self, Fields};
use super::tokens::Right;
use machine::local::BODY;

/// Bodies above this wait for one of a few places.
const LARGE_BODY: u64 = 128 << 10;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Characters that are escaped in a path (RFC 3986, section 3.3).
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// What is to be done, however it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// `GET`.
    Read,
    /// `LIST`, or `GET` with `list=true`.
    List,
    /// `POST` or `PUT`.
    Write,
    Patch,
    Delete,
    Head,
}

/// A request whose caller was let in.
pub(super) struct Call<'a> {
    pub(super) api: &'a Api,
    pub(super) caller: &'a Caller,
    pub(super) verb: Verb,
    /// The first segment of the path.
    pub(super) mount: &'a str,
    /// What follows it, and a slash.
    pub(super) below: &'a str,
    pub(super) query: Query<'a>,
    pub(super) headers: &'a HeaderMap,
    /// Never locked: the lock only lets calls be shared between threads.
    pub(super) body: Mutex<Body>,
}

impl<'a> Call<'a> {
    /// Returns what follows the mount and the kind of a KV path: the name of a secret or folder.
    pub(super) fn name(&self) -> &'a str {
        self.below.split_once('/').map_or("", |(_, name)| name)
    }

    /// Tells whether it is for a mount, rather than for the agent.
    pub(super) fn is_kv(&self) -> bool {
        !matches!(self.mount, "sys" | "auth" | "agent")
    }

    /// Returns the call if this is what is to be done.
    pub(super) fn only(&mut self, verb: Verb) -> Result<&mut Self, ApiFault> {
        if self.verb == verb { Ok(self) } else { Err(ApiFault::UnsupportedOperation) }
    }

    /// Refuses callers who may not do what is about no single secret.
    pub(super) fn require_all(&self) -> Result<(), ApiFault> {
        if self.caller.scope.is_all() { Ok(()) } else { Err(ApiFault::Denied) }
    }

    /// Tells whether both the caller and this machine have a right on `path`.
    pub(super) fn may(&self, path: &SecretPath, right: Right) -> bool {
        let engine = &self.api.engine;
        self.caller.scope.covers(path, right)
            && match right {
                Right::Read => engine.may_read(path),
                Right::Look => engine.may_read(path) || engine.may_write(path),
                Right::Write => engine.may_write(path),
            }
    }

    /// Reads the body's members. Its content type does not matter: clients send all sorts.
    pub(super) async fn fields(&mut self) -> Result<Fields, ApiFault> {
        Fields::parse(&self.bytes().await?)
    }

    /// Reads the body as a typed value.
    pub(super) async fn typed<T: DeserializeOwned>(&mut self) -> Result<T, ApiFault> {
        let body = self.bytes().await?;
        serde_json::from_slice(&body).map_err(|why| ApiFault::BadJson(why.to_string()))
    }

    async fn bytes(&mut self) -> Result<Bytes, ApiFault> {
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        let length = self.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > BODY as u64) {
            return Err(ApiFault::TooLarge);
        }
        // Chunked bodies, whose length is unknown, count as large.
        let chunked = self.headers.contains_key(header::TRANSFER_ENCODING);
        let large = length.is_some_and(|length| length > LARGE_BODY) || chunked;
        let _place = if large { self.api.large_bodies.acquire().await.ok() } else { None };
        let collected = tokio::time::timeout(BODY_TIME, Limited::new(body, BODY).collect()).await;
        match collected {
            Err(_) => Err(ApiFault::TooSlow),
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(why)) if why.is::<http_body_util::LengthLimitError>() => Err(ApiFault::TooLarge),
            Ok(Err(_)) => Err(ApiFault::BadJson("the body broke off".to_owned())),
        }
    }

    /// Checks the content type of a patch; parameters are allowed.
    pub(super) fn require_merge_patch(&self) -> Result<(), ApiFault> {
        let given = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let given = given.filter(|given| !given.is_empty()).ok_or(ApiFault::NoMediaType)?;
        let kind = given.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/merge-patch+json") {
            return Ok(());
        }
        Err(ApiFault::NotMergePatch(kind.chars().take(80).collect()))
    }
}

/// The part of a URI after `?`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a>(pub(super) Option<&'a str>);

impl Query<'_> {
    /// Returns the first value of `name`.
    pub(super) fn get(self, name: &str) -> Option<String> {
        let mut pairs = self.0?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let is_it = |key: &str| form_decode(key).is_some_and(|key| key == name);
        let (_, value) = pairs.find(|(key, _)| is_it(key))?;
        form_decode(value)
    }

    /// Returns a number, `None` where there is none or it is 0 or below.
    pub(super) fn number(self, name: &str) -> Result<Option<u64>, ApiFault> {
        let number = self.integer(name)?;
        Ok(number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0))
    }

    /// Returns a whole number as it is.
    pub(super) fn integer(self, name: &str) -> Result<Option<i64>, ApiFault> {
        let Some(text) = self.get(name) else { return Ok(None) };
        json::integer_text(&text)
            .map(Some)
            .ok_or_else(|| ApiFault::field(name, "expected a whole number"))
    }

    /// Returns a yes or no; absent and empty count as no.
    pub(super) fn flag(self, name: &str) -> Result<bool, ApiFault> {
        match self.get(name).as_deref() {
            None | Some("") => Ok(false),
            Some(text) => json::boolean_text(text).ok_or(ApiFault::BadQuery),
        }
    }
}

/// Returns what is to be done.
pub(super) fn verb(method: &Method, query: Query<'_>) -> Result<Verb, ApiFault> {
    Ok(match method.as_str() {
        "GET" if query.flag("list")? => Verb::List,
        "GET" => Verb::Read,
        "LIST" => Verb::List,
        "POST" | "PUT" => Verb::Write,
        "PATCH" => Verb::Patch,
        "DELETE" => Verb::Delete,
        "HEAD" => Verb::Head,
        "OPTIONS" => return Err(ApiFault::UnsupportedOperation),
        _ => return Err(ApiFault::UnknownMethod),
    })
}

/// Returns the path below `/v1/`, percent-decoded once; `%2F` is a slash, `+` a plus.
pub(super) fn path(uri: &Uri) -> Result<String, ApiFault> {
    let path = percent_decode(uri.path()).ok_or(ApiFault::BadPath)?;
    if path == "/v1" {
        return Err(ApiFault::Moved("/v1/".to_owned()));
    }
    let clean = clean(&path);
    if path != clean {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return Err(ApiFault::Moved(format!("{}{query}", utf8_percent_encode(&clean, IN_PATH))));
    }
    path.strip_prefix("/v1/").map(str::to_owned).ok_or(ApiFault::Missing)
}

/// Drops empty and `.` segments and resolves `..`, as Go's `path.Clean`; a final slash stays.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let slash = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{slash}", kept.join("/"))
}

fn form_decode(text: &str) -> Option<String> {
    percent_decode(&text.replace('+', " ")).map(Cow::into_owned)
}

/// Decodes `%XX` once; `None` for a broken sequence or what is no UTF-8 then.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let is_whole = |rest: &str| {
        let digits = rest.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_whole) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(uri: &str) -> Result<String, String> {
        match path(&uri.parse().unwrap()) {
            Ok(path) => Ok(path),
            Err(ApiFault::Moved(target)) => Err(target),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn paths_are_decoded_once_and_cleaned() {
        for (uri, expected) in [
            ("/v1/secret/data/x", "secret/data/x"),
            ("/v1/secret/data/x?", "secret/data/x"),
            ("/v1/secret/data/x/", "secret/data/x/"),
            ("/v1/secret/data/a%2Fb", "secret/data/a/b"),
            ("/v1/secret/data/a+b", "secret/data/a+b"),
            ("/v1/secret/data/a%20b", "secret/data/a b"),
            ("/v1/secret/data/%C3%BC", "secret/data/ü"),
            ("/v1/secret/data/50%2525", "secret/data/50%25"),
            ("/v1/secret/data/x..y", "secret/data/x..y"),
            ("/v1/secret/data/...", "secret/data/..."),
        ] {
            assert_eq!(below(uri).as_deref(), Ok(expected), "{uri}");
        }
        for (uri, target) in [
            ("/v1//secret/data/x", "/v1/secret/data/x"),
            ("/v1/secret//data//x/?version=1", "/v1/secret/data/x/?version=1"),
            ("/v1/secret/data/../metadata/x", "/v1/secret/metadata/x"),
            ("/v1/secret/data/a%2F..%2F%C3%BC", "/v1/secret/data/%C3%BC"),
            ("/../..", "/"),
            ("/v1", "/v1/"),
            ("/v1/secret/.", "/v1/secret"),
        ] {
            assert_eq!(below(uri), Err(target.to_owned()), "{uri}");
        }
        for uri in ["/v1/a%2", "/v1/a%zz", "/v1/%FF"] {
            assert_eq!(below(uri), Err("BadPath".to_owned()), "{uri}");
        }
        for uri in ["/", "/v2/x", "/ui/"] {
            assert_eq!(below(uri), Err("Missing".to_owned()), "{uri}");
        }
    }

    #[test]
    fn queries_are_read_as_in_go() {
        let query = Query(Some("a=1&b=x%20y&c=p+q&a=2&flag&empty="));
        for (name, expected) in [
            ("a", Some("1")),
            ("b", Some("x y")),
            ("c", Some("p q")),
            ("flag", Some("")),
            ("empty", Some("")),
            ("none", None),
        ] {
            assert_eq!(query.get(name).as_deref(), expected, "{name}");
        }
        for (list, expected) in
            [("1", true), ("True", true), ("t", true), ("0", false), ("", false)]
        {
            assert_eq!(Query(Some(&format!("list={list}"))).flag("list").unwrap(), expected);
        }
        assert!(Query(Some("list=yes")).flag("list").is_err());
        for (text, expected) in [("version=3", Some(3)), ("version=0", None), ("version=-1", None)]
        {
            assert_eq!(Query(Some(text)).number("version").unwrap(), expected);
        }
        assert!(Query(Some("version=abc")).number("version").is_err());
    }
}
