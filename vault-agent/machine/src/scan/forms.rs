//! The forms in which a value turns up elsewhere: as it is, escaped, percent-encoded, as base64 at
//! any offset, as hex. Pure.

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// Of longer values only the beginning is looked for.
pub const LONGEST: usize = 1024;

/// Shorter lines of a value of several lines, and shorter encodings, turn up by chance.
const SHORTEST_LINE: usize = 20;
const SHORTEST_ENCODING: usize = 8;

/// What writers of URLs escape: all but RFC 3986's unreserved characters, as `encodeURIComponent`,
/// as HTML's forms, and as in a path.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const COMPONENT: &AsciiSet =
    &UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
const FORM: &AsciiSet = &UNRESERVED.add(b'~').remove(b'*');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/').remove(b':').remove(b'@');

/// How a value is written where it was found; the plainer, the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it is.
    Plain,
    /// Inside a JSON string.
    Json,
    /// Inside quotes of a shell or a `.env`, with backslashes.
    Quoted,
    /// Percent-encoded, as in URLs and forms.
    Percent,
    /// Base64 of the value, or of something that holds it.
    Base64,
    /// The same with `-` and `_`.
    Base64Url,
    /// Hexadecimal digits.
    Hex,
    /// One line of a value of several.
    Line,
}

impl Form {
    /// Returns the word for it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Quoted => "quoted",
            Self::Percent => "percent",
            Self::Base64 => "base64",
            Self::Base64Url => "base64url",
            Self::Hex => "hex",
            Self::Line => "line",
        }
    }
}

/// Bytes to look for.
pub type Bytes = Zeroizing<Vec<u8>>;

/// Returns every form of a value, each once, the plainest first.
pub fn of(value: &[u8]) -> Vec<(Form, Bytes)> {
    let value = &value[..value.len().min(LONGEST)];
    let mut all: Vec<(Form, Bytes)> = vec![(Form::Plain, Zeroizing::new(value.to_vec()))];
    let mut add = |form: Form, bytes: Bytes| {
        if !all.iter().any(|(_, known)| *known == bytes) {
            all.push((form, bytes));
        }
    };
    if let Some(text) = text(value) {
        for style in [Json::Plain, Json::Ascii, Json::Html, Json::Slash] {
            add(Form::Json, json(text, style));
        }
        add(Form::Quoted, swapped(text, |c| matches!(c, '"' | '\\' | '$' | '`').then_some("\\")));
        add(Form::Quoted, Zeroizing::new(text.replace('\'', r"'\''").into_bytes()));
        for line in lines(text) {
            add(Form::Line, Zeroizing::new(line.as_bytes().to_vec()));
        }
    }
    for escaped in [UNRESERVED, COMPONENT, FORM, PATH] {
        for (upper, plus) in [(true, false), (false, false), (true, true), (false, true)] {
            add(Form::Percent, percent(value, escaped, upper, plus));
        }
    }
    for shift in 0..3 {
        add(Form::Base64, base64(&BASE64_STANDARD_NO_PAD, value, shift));
        add(Form::Base64Url, base64(&BASE64_URL_SAFE_NO_PAD, value, shift));
    }
    add(Form::Hex, hex(value, b"0123456789abcdef"));
    add(Form::Hex, hex(value, b"0123456789ABCDEF"));
    all.retain(|(form, bytes)| *form == Form::Plain || bytes.len() >= SHORTEST_ENCODING);
    all
}

/// Returns a value as text; one that was cut may end within a character.
fn text(value: &[u8]) -> Option<&str> {
    match std::str::from_utf8(value) {
        Ok(text) => Some(text),
        Err(why) if value.len() == LONGEST && why.error_len().is_none() => {
            std::str::from_utf8(&value[..why.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// Returns the lines of a value of several that can be looked for each by itself, as where a key is
/// indented.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let several = text.trim_end().contains('\n');
    text.lines()
        .map(str::trim)
        .filter(move |line| several && line.len() >= SHORTEST_LINE && !line.starts_with("-----"))
}

/// What writers of JSON escape beside what they must.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Json {
    /// Nothing.
    Plain,
    /// All that is not ASCII, as Python.
    Ascii,
    /// `<`, `>` and `&`, as Go.
    Html,
    /// `/` and all that is not ASCII, as PHP.
    Slash,
}

fn json(text: &str, style: Json) -> Bytes {
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    serde_json::to_writer(&mut *plain, text).expect("text is JSON, and memory takes it");
    let plain = str::from_utf8(&plain[1..plain.len() - 1]).expect("JSON is text");
    let mut out = Zeroizing::new(Vec::with_capacity(plain.len() * 2));
    for c in plain.chars() {
        match c {
            '/' if style == Json::Slash => out.extend(b"\\/"),
            c if style == Json::Html && "<>&".contains(c)
                || !c.is_ascii() && matches!(style, Json::Ascii | Json::Slash) =>
            {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend(format!("\\u{unit:04x}").bytes());
                }
            }
            c => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    out
}

/// Puts something before some characters.
fn swapped(text: &str, before: impl Fn(char) -> Option<&'static str>) -> Bytes {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    for c in text.chars() {
        out.extend(before(c).unwrap_or_default().bytes());
        out.extend(c.encode_utf8(&mut [0; 4]).bytes());
    }
    out
}

fn percent(value: &[u8], escaped: &'static AsciiSet, upper: bool, plus: bool) -> Bytes {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    for piece in percent_encode(value, escaped) {
        match piece.as_bytes() {
            b"%20" if plus => out.push(b'+'),
            escape if escape.starts_with(b"%") && !upper => out.extend(escape.to_ascii_lowercase()),
            piece => out.extend(piece),
        }
    }
    out
}

fn hex(value: &[u8], digits: &[u8; 16]) -> Bytes {
    let pair = |byte: &u8| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
    Zeroizing::new(value.iter().flat_map(pair).collect())
}

/// Returns the characters that the value alone decides where `shift` bytes stand before it in a
/// group of three.
fn base64(engine: &impl base64::Engine, value: &[u8], shift: usize) -> Bytes {
    let padded = Zeroizing::new([&[0; 3][..shift], value].concat());
    let text = Zeroizing::new(engine.encode(&padded[..]));
    let (first, end) = ((shift * 8).div_ceil(6), padded.len() * 8 / 6);
    Zeroizing::new(text.as_bytes().get(first..end).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    use super::*;

    fn has(value: &str, form: Form, text: &str) -> bool {
        of(value.as_bytes()).iter().any(|(f, bytes)| *f == form && **bytes == *text.as_bytes())
    }

    #[test]
    fn base64_is_found_wherever_it_begins() {
        let value = "p4ss?>wörd~~/+x";
        for before in ["", "a", "ab", "user:", "user:x", "user:xy"] {
            for after in ["", "\n", "ab"] {
                let whole = format!("{before}{value}{after}");
                for (form, text) in [
                    (Form::Base64, BASE64_STANDARD.encode(&whole)),
                    (Form::Base64Url, BASE64_URL_SAFE.encode(&whole)),
                ] {
                    let forms = of(value.as_bytes());
                    let found = forms.iter().any(|(f, bytes)| {
                        *f == form && text.contains(std::str::from_utf8(bytes).unwrap())
                    });
                    assert!(found, "{before}{after} {form:?}");
                }
            }
        }
    }

    #[test]
    fn escapes_of_every_writer_are_known() {
        assert!(has("a\"b\nc<d>é/", Form::Json, r#"a\"b\nc<d>é/"#));
        assert!(has("a\"b\nc<d>é/", Form::Json, r#"a\"b\nc<d>\u00e9/"#));
        assert!(has("a\"b\nc<d>é/", Form::Json, r#"a\"b\nc\u003cd\u003eé/"#));
        assert!(has("a\"b\nc<d>é/", Form::Json, r#"a\"b\nc<d>\u00e9\/"#));
        assert!(has("it's $5 \"x\"", Form::Quoted, r#"it's \$5 \"x\""#));
        assert!(has("it's $5 \"x\"", Form::Quoted, r#"it'\''s $5 "x""#));
        assert!(has("p@ss w/rd!", Form::Percent, "p%40ss%20w%2Frd%21"));
        assert!(has("p@ss w/rd!", Form::Percent, "p%40ss+w%2frd%21"));
        assert!(has("p@ss w/rd!", Form::Percent, "p%40ss%20w%2Frd!"));
        assert!(has("hunter22", Form::Hex, "68756e7465723232"));
        assert!(has("J~~~unter", Form::Hex, "4A7E7E7E756E746572"));
    }

    #[test]
    fn lines_of_a_key_are_looked_for_each_by_itself() {
        let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\nshort\n";
        assert!(has(key, Form::Line, "MC4CAQAwBQYDK2VwBCIEIA=="));
        assert!(!has(key, Form::Line, "-----BEGIN PRIVATE KEY-----"));
        assert!(!has(key, Form::Line, "short"));
        assert!(!has("MC4CAQAwBQYDK2VwBCIEIA==\n", Form::Line, "MC4CAQAwBQYDK2VwBCIEIA=="));
    }

    #[test]
    fn equal_forms_are_looked_for_once() {
        let forms = of(b"hunter2hunter2");
        let mut kinds: Vec<Form> = forms.iter().map(|(form, _)| *form).collect();
        kinds.dedup();
        assert_eq!(kinds, [Form::Plain, Form::Base64, Form::Hex]);
        assert_eq!(forms.len(), 1 + 3 + 2);
        assert!(of(&[0xFF; 5000]).iter().all(|(_, bytes)| bytes.len() <= 3 * LONGEST));
    }
}
