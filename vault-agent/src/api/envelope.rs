//! The JSON around every answer. Content that is JSON already is copied as it is, and no copy of an
//! answer stays behind in memory. Which status means what lives in `error`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use machine::render::Text;

/// An answer of any route.
pub(super) type ApiAnswer = Response<Body>;

/// Where an answer comes from, as newer Vaults say.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    /// A KV mount.
    Kv,
    /// `sys/`.
    System,
    /// `auth/token/`.
    Token,
    /// Nowhere in particular: as Vault says of every 404, and to who shows no token.
    #[serde(rename = "")]
    Nobody,
}

/// What Vault puts around `data` and `auth`.
#[derive(Serialize)]
struct Envelope<'a, D> {
    request_id: Uuid,
    lease_id: &'static str,
    renewable: bool,
    lease_duration: u64,
    #[serde(flatten)]
    beside: Option<&'a Value>,
    data: Option<D>,
    wrap_info: (),
    warnings: Option<[&'a str; 1]>,
    auth: Option<Value>,
    mount_type: Source,
}

impl<D: Serialize> Envelope<'_, D> {
    fn new(source: Source, data: Option<D>) -> Self {
        Self {
            request_id: Uuid::new_v4(),
            lease_id: "",
            renewable: false,
            lease_duration: 0,
            beside: None,
            data,
            wrap_info: (),
            warnings: None,
            auth: None,
            mount_type: source,
        }
    }
}

/// Answers 200 with `data`.
pub(super) fn data(source: Source, data: impl Serialize) -> ApiAnswer {
    line(StatusCode::OK, &Envelope::new(source, Some(data)))
}

/// Answers 404 with `data`: what Vault tells of a version without content.
pub(super) fn gone(data: impl Serialize) -> ApiAnswer {
    line(StatusCode::NOT_FOUND, &Envelope::new(Source::Nobody, Some(data)))
}

/// Answers 200 with `data`, whose members stand once more beside it, as Vault's `sys/` does.
pub(super) fn doubled(data: &Value) -> ApiAnswer {
    let envelope = Envelope::new(Source::System, Some(data));
    line(StatusCode::OK, &Envelope { beside: Some(data), ..envelope })
}

/// Answers 200 with `auth` instead of data.
pub(super) fn auth(auth: Value) -> ApiAnswer {
    line(StatusCode::OK, &Envelope { auth: Some(auth), ..Envelope::<()>::new(Source::Token, None) })
}

/// Answers with a warning and no data.
pub(super) fn warning(status: StatusCode, source: Source, text: &str) -> ApiAnswer {
    let envelope = Envelope::<()>::new(source, None);
    line(status, &Envelope { warnings: Some([text]), ..envelope })
}

/// What stands instead of the envelope where something is wrong.
#[derive(Serialize)]
struct Errors<'a> {
    errors: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[&'a str; 1]>,
}

/// Answers `{"errors":[text]}`, and a warning if there is one; without a text the list is empty.
pub(super) fn errors(status: StatusCode, text: &str, warning: Option<&str>) -> ApiAnswer {
    let errors = if text.is_empty() { &[][..] } else { &[text] };
    line(status, &Errors { errors, warnings: warning.map(|warning| [warning]) })
}

/// Answers with a body that has no envelope.
pub(super) fn plain(value: &impl Serialize) -> ApiAnswer {
    line(StatusCode::OK, value)
}

/// Answers 204.
pub(super) fn no_content() -> ApiAnswer {
    empty(StatusCode::NO_CONTENT)
}

/// Answers without body and content type.
pub(super) fn empty(status: StatusCode) -> ApiAnswer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Answers with a line of JSON.
fn line(status: StatusCode, value: &impl Serialize) -> ApiAnswer {
    let mut out = Text::default();
    serde_json::to_writer(&mut out, value).expect("every map has texts or numbers as keys");
    out.push("\n");
    bare(status, out)
}

/// Answers with the very bytes, which are wiped once they are sent.
pub(super) fn bare(status: StatusCode, body: Text) -> ApiAnswer {
    let mut answer = Response::new(Body::from(Bytes::from_owner(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    // Exactly this: hvac and litehex compare the whole value.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::{json, value::RawValue};

    use super::*;

    async fn text(answer: ApiAnswer) -> String {
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn answers_are_as_vaults() {
        let around = |members: &str| {
            format!(r#","lease_id":"","renewable":false,"lease_duration":0,{members}}}{}"#, "\n")
        };
        let map = json!({"a": 1, "b": {}});
        let raw: &RawValue = serde_json::from_str(r#" {"z": 1.50, "a":null} "#).unwrap();
        for (answer, members) in [
            (
                data(Source::Kv, raw),
                r#""data":{"z": 1.50, "a":null},"wrap_info":null,"warnings":null,"auth":null,"mount_type":"kv""#,
            ),
            (
                doubled(&map),
                r#""a":1,"b":{},"data":{"a":1,"b":{}},"wrap_info":null,"warnings":null,"auth":null,"mount_type":"system""#,
            ),
            (
                auth(json!({"x": 1})),
                r#""data":null,"wrap_info":null,"warnings":null,"auth":{"x":1},"mount_type":"token""#,
            ),
            (
                warning(StatusCode::NOT_FOUND, Source::Nobody, "w\n"),
                r#""data":null,"wrap_info":null,"warnings":["w\n"],"auth":null,"mount_type":"""#,
            ),
        ] {
            let text = text(answer).await;
            let (id, rest) = text.strip_prefix(r#"{"request_id":""#).unwrap().split_at(36);
            assert_eq!(id.parse::<Uuid>().unwrap().get_version_num(), 4);
            assert_eq!(rest.strip_prefix('"').unwrap(), around(members));
        }
        let status = StatusCode::NOT_FOUND;
        assert_eq!(text(errors(status, "", None)).await, "{\"errors\":[]}\n");
        assert_eq!(text(errors(status, "a\"b", None)).await, "{\"errors\":[\"a\\\"b\"]}\n");
        let both = text(errors(status, "a", Some("b"))).await;
        assert_eq!(both, "{\"errors\":[\"a\"],\"warnings\":[\"b\"]}\n");
    }

    #[test]
    fn content_type_is_exact() {
        let answer = errors(StatusCode::NOT_FOUND, "", None);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(no_content().headers().get(header::CONTENT_TYPE), None);
    }
}
