//! Addresses within the page: made with everything encoded that is no plain character, and read
//! strictly.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a segment of a path and a query keep as they are (RFC 3986, section 2.3).
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Longest address that is read, in bytes.
const LONGEST: usize = 4 << 10;

/// An address within the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Href(String);

impl Href {
    /// Takes an address that the program itself knows.
    pub(super) fn own(path: &'static str) -> Self {
        Self(path.to_owned())
    }

    /// Puts a name behind a path of the program's own.
    pub(super) fn below(path: &'static str, name: &str) -> Self {
        Self(format!("{path}/{}", utf8_percent_encode(name, PLAIN)))
    }

    /// Adds a parameter.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, PLAIN));
        self
    }

    /// Puts a part of the page behind it.
    #[must_use]
    pub(super) fn at(mut self, part: &str) -> Self {
        self.0.push('#');
        self.0.extend(utf8_percent_encode(part, PLAIN));
        self
    }
}

impl fmt::Display for Href {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Decodes a path; `None` for one that is too long or is no UTF-8.
pub(super) fn decoded(path: &str) -> Option<String> {
    let fits = path.len() <= LONGEST;
    let decoded = fits.then(|| percent_decode_str(path).decode_utf8().ok()).flatten()?;
    Some(decoded.into_owned())
}

/// Takes an address of this page that a form names to go back to: a path from the root, and nothing
/// that a browser takes for another host.
pub(super) fn back_to(text: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    let is_own = text.starts_with('/') && !text.starts_with("//");
    (is_own && text.len() <= LONGEST && text.bytes().all(plain)).then_some(text)
}

/// The parameters of a query or a form.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `a=b&c=d`; nothing of one that is too long or malformed.
    pub(super) fn read(text: &str) -> Self {
        let fits = text.len() <= LONGEST;
        Self(fits.then(|| serde_urlencoded::from_str(text).ok()).flatten().unwrap_or_default())
    }

    /// Returns the first value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        for name in ["secret/a b", "secret/ü%2f?x=1&y#z", "a\"><script>", "..", "a/../b"] {
            let href = Href::below("/secret", name).to_string();
            assert!(!href.contains(['"', '<', '?', '#', ' ', '&']), "{href}");
            assert_eq!(decoded(&href).unwrap(), format!("/secret/{name}"));
        }
        let href = Href::own("/secrets").with("below", "a&b=c").with("after", "é").to_string();
        let query = Fields::read(href.split_once('?').unwrap().1);
        assert_eq!((query.get("below"), query.get("after")), (Some("a&b=c"), Some("é")));
        assert_eq!(query.get("other"), None);
    }

    #[test]
    fn broken_and_endless_addresses_are_none() {
        assert_eq!(decoded("/secret/%FF"), None);
        assert_eq!(decoded(&"/a".repeat(LONGEST)), None);
        assert_eq!(Fields::read(&format!("a={}", "x".repeat(LONGEST))).get("a"), None);
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        for good in ["/", "/secrets?below=a%2F", "/secret/a%20b"] {
            assert_eq!(back_to(good), Some(good));
        }
        for bad in ["", "//evil.example/", "https://evil.example/", "/\\evil.example", "/a\r\nb"] {
            assert_eq!(back_to(bad), None, "{bad:?}");
        }
    }
}
