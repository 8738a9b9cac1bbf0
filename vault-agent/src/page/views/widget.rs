//! `/widget.json` and `/badge.svg`: how everybody stands in one document and one picture, for other
//! pages; where `agent.toml` has it so, and to callers that show the token.

use askama::Template;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::fleet::verdict;
use super::matrix;
use crate::page::answer::{Answer, answer, empty};
use crate::page::href::Fields;
use crate::page::site::Site;
use crate::page::words::Lang;
use host::clock;

/// Width of a character in the picture, and room beside the words.
const CHARACTER: usize = 7;
const ROOM: usize = 12;

#[derive(Template)]
#[template(path = "page/badge.svg", escape = "html")]
struct Badge {
    is_well: bool,
    verdict: String,
    left: usize,
    right: usize,
}

/// Answers for one of the two, if it is asked for: with nothing where there is no widget, or the
/// caller does not show its token.
pub(in crate::page) async fn answer_for(site: &Site, parts: &Parts, path: &str) -> Option<Answer> {
    let is_json = match path {
        "/widget.json" => true,
        "/badge.svg" => false,
        _ => return None,
    };
    let query = Fields::read(parts.uri.query().unwrap_or_default());
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let bearer = bearer.and_then(|text| text.strip_prefix("Bearer "));
    let shown = bearer.or_else(|| query.get("token")).unwrap_or_default();
    let may = site.widget.as_ref().is_some_and(|token| token.is(shown));
    if !may || parts.method != Method::GET {
        return Some(empty(StatusCode::FORBIDDEN));
    }
    let Ok(seen) = site.fleet.now().await else {
        return Some(empty(StatusCode::SERVICE_UNAVAILABLE));
    };
    let lang = query.get("lang").and_then(Lang::find).unwrap_or_default();
    let (verdict, is_well) = (verdict(seen.found.len(), lang), seen.found.is_empty());
    if is_json {
        let table = matrix::table(&seen.status, &seen.found, clock::now(), lang);
        let since = seen.found.iter().filter_map(|it| it.since).min();
        let document = json!({
            "well": is_well,
            "verdict": verdict,
            "wrong": seen.found.len(),
            "since": since.map(|at| at.to_string()),
            "hosts": table.all,
            "hosts_right": table.right,
            "online": seen.status.online,
            "as_of": seen.at.to_string(),
        });
        return Some(answer(StatusCode::OK, "application/json", document.to_string()));
    }
    let width = |words: &str| words.chars().count() * CHARACTER + ROOM;
    let badge = Badge { is_well, left: width("vault"), right: width(&verdict), verdict };
    let Ok(text) = badge.render() else { return Some(empty(StatusCode::INTERNAL_SERVER_ERROR)) };
    let mut picture = answer(StatusCode::OK, "image/svg+xml", text);
    // It is made to stand in other pages.
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    picture.headers_mut().insert(policy, HeaderValue::from_static("cross-origin"));
    Some(picture)
}
