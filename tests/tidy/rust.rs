//! Reads Rust as tokens: words and signs, without comments, texts, lifetimes, and what is built for
//! tests only. No rule lives here.

/// A word or a sign of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// An identifier or a keyword.
    Word(String),
    /// `::`.
    Path,
    /// Any other character.
    Sign(char),
}

impl Token {
    /// Returns the word that it is.
    pub fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Path | Self::Sign(_) => None,
        }
    }

    fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }
}

/// Words that an item starts with; whatever else follows an attribute ends at a comma, too.
const ITEMS: [&str; 15] = [
    "async", "const", "enum", "extern", "fn", "impl", "let", "mod", "pub", "static", "struct",
    "trait", "type", "unsafe", "use",
];
/// Items that end with `;`, whatever braces come before.
const ENDED: [&str; 5] = ["const", "let", "static", "type", "use"];

/// Returns the tokens of what a program is built of: `text` without what `#[cfg(test)]` stands on.
pub fn production(text: &str) -> Vec<Token> {
    without_tests(&tokens(text))
}

/// Returns the tokens of `text`.
pub fn tokens(text: &str) -> Vec<Token> {
    let text: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let next = text.get(at + 1).copied();
        at = match text[at] {
            '/' if next == Some('/') => skip_line(&text, at),
            '/' if next == Some('*') => skip_block(&text, at),
            '"' => skip_text(&text, at),
            '\'' => skip_quote(&text, at),
            ':' if next == Some(':') => {
                found.push(Token::Path);
                at + 2
            }
            c if is_part_of_word(c) => {
                let end = (at..text.len()).find(|n| !is_part_of_word(text[*n]));
                let end = end.unwrap_or(text.len());
                let word: String = text[at..end].iter().collect();
                match skip_raw(&text, &word, end) {
                    Some(after) => after,
                    None => {
                        found.push(Token::Word(word));
                        end
                    }
                }
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token::Sign(c));
                }
                at + 1
            }
        };
    }
    found
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn skip_line(text: &[char], at: usize) -> usize {
    (at..text.len()).find(|n| text[*n] == '\n').unwrap_or(text.len())
}

fn skip_block(text: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Skips `"…"`, whose quote opens at `at`.
fn skip_text(text: &[char], mut at: usize) -> usize {
    at += 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Skips `'c'`, `'\n'` or `'lifetime`.
fn skip_quote(text: &[char], at: usize) -> usize {
    if text.get(at + 1) == Some(&'\\') {
        let end = (at + 3..text.len()).find(|n| text[*n] == '\'');
        return end.map_or(text.len(), |end| end + 1);
    }
    if text.get(at + 2) == Some(&'\'') {
        return at + 3;
    }
    (at + 1..text.len()).find(|n| !is_part_of_word(text[*n])).unwrap_or(text.len())
}

/// Skips `r"…"`, `br#"…"#` and the like, of which `word` and what follows at `end` may be the head;
/// and the `r#` of a raw identifier.
fn skip_raw(text: &[char], word: &str, end: usize) -> Option<usize> {
    if !matches!(word, "r" | "br" | "cr" | "b" | "c") {
        return None;
    }
    let hashes = text[end..].iter().take_while(|c| **c == '#').count();
    if text.get(end + hashes) != Some(&'"') {
        return (word == "r" && hashes == 1).then_some(end + 1);
    }
    if !word.contains('r') {
        return (hashes == 0).then(|| skip_text(text, end));
    }
    let closing: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
    let body = end + hashes + 1;
    let length = text[body..].windows(closing.len()).position(|window| window == closing);
    Some(length.map_or(text.len(), |length| body + length + closing.len()))
}

fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match attribute(tokens, at) {
            Some(end) if is_for_tests(&tokens[at..end]) => at = skip_item(tokens, end),
            Some(_) | None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    kept
}

/// Returns where the attribute `#[…]` that starts at `at` ends.
fn attribute(tokens: &[Token], at: usize) -> Option<usize> {
    let starts = tokens[at].is('#') && tokens.get(at + 1).is_some_and(|token| token.is('['));
    starts.then(|| closed(tokens, at + 1))
}

/// Returns the place behind the bracket that closes the one at `at`.
pub fn closed(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (n, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => depth -= 1,
            Token::Sign(_) | Token::Word(_) | Token::Path => {}
        }
        if depth == 0 {
            return n + 1;
        }
    }
    tokens.len()
}

fn is_for_tests(attribute: &[Token]) -> bool {
    let mut words = attribute.iter().filter_map(Token::word);
    words.next() == Some("cfg") && words.clone().any(|w| w == "test") && !words.any(|w| w == "not")
}

/// Returns the place behind the item, field, arm or statement that starts at `at`.
fn skip_item(tokens: &[Token], mut at: usize) -> usize {
    while let Some(end) = (at < tokens.len()).then(|| attribute(tokens, at)).flatten() {
        at = end;
    }
    let is_kind = |kinds: &[&str]| {
        let head = tokens[at..].iter().take(5).take_while(|token| !token.is('{'));
        head.filter_map(Token::word).any(|word| kinds.contains(&word))
    };
    let item = tokens.get(at).and_then(Token::word).is_some_and(|word| ITEMS.contains(&word));
    let ended = item && is_kind(&ENDED) && !is_kind(&["fn", "impl"]);
    while at < tokens.len() {
        match &tokens[at] {
            Token::Sign('{') if item && !ended => return closed(tokens, at),
            Token::Sign('(' | '[' | '{') => at = closed(tokens, at),
            Token::Sign(';') => return at + 1,
            Token::Sign(',') if !item => return at + 1,
            Token::Sign(')' | ']' | '}') => return at,
            Token::Sign(_) | Token::Word(_) | Token::Path => at += 1,
        }
    }
    at
}

#[cfg(test)]
fn words(tokens: &[Token]) -> Vec<&str> {
    tokens.iter().filter_map(Token::word).collect()
}

#[test]
fn comments_and_texts_are_no_code() {
    for (text, expected) in [
        ("a // b\nc", &["a", "c"][..]),
        ("a /* b /* c */ d */ e", &["a", "e"]),
        (r#"a "b \" c" d"#, &["a", "d"]),
        ("a r#\"b \" c\"# d", &["a", "d"]),
        ("a br\"b\" b\"c\" d", &["a", "d"]),
        ("a 'b' '\\'' '\\u{61}' 'static c", &["a", "c"]),
        ("fn r#type() {}", &["fn", "type"]),
    ] {
        assert_eq!(words(&tokens(text)), expected, "{text}");
    }
}

#[test]
fn what_is_built_for_tests_is_cut_out() {
    for (text, expected) in [
        ("#[cfg(test)] mod tests; mod a;", &["mod", "a"][..]),
        ("#[cfg(test)] mod tests { use a::b; fn a() {} } fn b() {}", &["fn", "b"]),
        ("#[cfg(test)] use a::{b, c}; use d;", &["use", "d"]),
        ("#[cfg(test)] #[derive(A)] struct B(C); struct D;", &["struct", "D"]),
        ("#[cfg(all(test, unix))] fn a<B, C>() {} fn d() {}", &["fn", "d"]),
        ("#[cfg(test)] pub const fn a() {} fn d() {}", &["fn", "d"]),
        ("struct A { #[cfg(test)] b: C, d: E }", &["struct", "A", "d", "E"]),
        ("#[cfg(not(test))] fn a() {}", &["cfg", "not", "test", "fn", "a"]),
        ("#[cfg(unix)] mod a;", &["cfg", "unix", "mod", "a"]),
    ] {
        assert_eq!(words(&production(text)), expected, "{text}");
    }
}
