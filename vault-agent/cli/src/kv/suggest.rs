//! What the user may have meant, where nothing is: names that look alike, asked for only after a
//! miss.

use serde_json::Value;

use super::route::Route;
use crate::client::Client;

/// How alike two names must be, from 0 to 1.
const ALIKE: f64 = 0.8;

/// Returns the name that looks most like `wanted`.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '.', ' '], "-");
    let wanted = plain(wanted);
    let scored = names.into_iter().map(|name| {
        let bare = plain(name.trim_end_matches('/'));
        let prefix = wanted.len() >= 3 && (bare.starts_with(&wanted) || wanted.starts_with(&bare));
        let score = strsim::jaro_winkler(&wanted, &bare);
        (name, if prefix { score.max(ALIKE) } else { score })
    });
    let near = scored.filter(|(_, score)| *score >= ALIKE);
    near.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
}

/// Returns the path that looks most like a place where nothing is: from the nearest folder that is
/// there, the names that look alike are followed as far as there are any.
pub fn path(client: &Client, route: &Route) -> Option<String> {
    let (mut folder, mut wanted) = (route.clone(), Vec::new());
    let mut inside = loop {
        let (parent, own) = folder.parent()?;
        wanted.push(own.to_owned());
        folder = parent;
        if let Some(names) = names(client, &folder) {
            break names;
        }
    };
    let mut found = String::new();
    while let Some(own) = wanted.pop() {
        let names: Vec<&str> = inside.iter().map(String::as_str).collect();
        // Of a secret and a folder with the same name, the one that leads on.
        let fits = |name: &&str| {
            name.trim_end_matches('/') == own && (name.ends_with('/') || wanted.is_empty())
        };
        let same = names.iter().copied().filter(fits).min();
        let Some(name) = same.or_else(|| nearest(&own, names.iter().copied())) else { break };
        folder = folder.below(name);
        found = folder.logical() + if name.ends_with('/') { "/" } else { "" };
        if !name.ends_with('/') || wanted.is_empty() {
            break;
        }
        let Some(names) = self::names(client, &folder) else { break };
        inside = names;
    }
    Some(found).filter(|found| !found.is_empty() && *found != route.logical())
}

/// Tells whether a secret is at a place, as the list of its folder says.
pub fn is_secret(client: &Client, route: &Route) -> bool {
    let Some((folder, own)) = route.parent() else { return false };
    names(client, &folder).is_some_and(|names| names.iter().any(|name| name == own))
}

fn names(client: &Client, folder: &Route) -> Option<Vec<String>> {
    let list = [("list", "true".to_owned())];
    let answer = client.ask(&folder.api("metadata"), &list).ok()?.success().ok()?;
    let body: Value = answer.json().ok()?;
    let names = body["data"]["keys"].as_array()?.iter().filter_map(Value::as_str);
    Some(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_found() {
        let names = ["api-keys", "telegram", "db/", "openai"];
        for (wanted, expected) in [
            ("api_keys", Some("api-keys")),
            ("apikeys", Some("api-keys")),
            ("telegramm", Some("telegram")),
            ("DB", Some("db/")),
            ("open", Some("openai")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, names), expected, "{wanted}");
        }
    }
}
