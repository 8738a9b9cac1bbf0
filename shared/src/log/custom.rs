//! Free text by key, as a secret keeps it in memory: all of it in one text. A tree of small strings
//! weighs twenty times what is in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Custom metadata of a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Custom(
    /// A JSON object with its keys in order; empty if there are none.
    Box<str>,
);

impl Custom {
    /// Keeps `texts`.
    pub fn of(texts: &BTreeMap<String, String>) -> Self {
        if texts.is_empty() {
            return Self::default();
        }
        Self(serde_json::to_string(texts).expect("strings have a JSON text").into())
    }

    /// Tells whether there are no keys.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the texts by key.
    pub fn texts(&self) -> BTreeMap<String, String> {
        if self.is_empty() {
            return BTreeMap::new();
        }
        serde_json::from_str(&self.0).expect("it was written as a map of strings")
    }
}

impl From<BTreeMap<String, String>> for Custom {
    fn from(texts: BTreeMap<String, String>) -> Self {
        Self::of(&texts)
    }
}

impl From<Custom> for BTreeMap<String, String> {
    fn from(custom: Custom) -> Self {
        custom.texts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_given() {
        for texts in [&[][..], &[("a", "b")], &[("\"\\\n\u{7f}", "ä \u{10ffff}"), ("", "")]] {
            let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let texts: BTreeMap<String, String> = texts.iter().map(text).collect();
            let custom = Custom::of(&texts);
            assert_eq!((custom.is_empty(), custom.texts()), (texts.is_empty(), texts.clone()));
            let json = serde_json::to_string(&custom).unwrap();
            assert_eq!(json, serde_json::to_string(&texts).unwrap(), "snapshots stay as they were");
            assert_eq!(serde_json::from_str::<Custom>(&json).unwrap(), custom);
        }
    }
}
