//! Files of every dialect, read line by line, and the lines that are refused.

use super::*;

fn check(file: &str, expected: &[(usize, &str, &str)]) {
    let read = parse(file.as_bytes()).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let read: Vec<_> = read
        .iter()
        .map(|v| (v.line, v.name.as_str(), std::str::from_utf8(v.value.expose()).unwrap()))
        .collect();
    assert_eq!(read, expected, "{file:?}");
}

fn refused(file: &str, line: usize, why: Why) {
    assert_eq!(parse(file.as_bytes()).unwrap_err(), ParseError { line, why }, "{file:?}");
}

#[test]
fn common_dialects_are_read() {
    check("", &[]);
    check("\n# c\n  # c\n; c\n\t\n", &[]);
    check("A=1\nB=two", &[(1, "A", "1"), (2, "B", "two")]);
    check("\u{FEFF}A=1\r\nB='2'\r\n", &[(1, "A", "1"), (2, "B", "2")]);
    check(
        "export A=1\nexport\tB = 2 \nexported=3",
        &[(1, "A", "1"), (2, "B", "2"), (3, "exported", "3")],
    );
    check("A=\nB= # c\nC=''\nD=\"\"", &[(1, "A", ""), (2, "B", ""), (3, "C", ""), (4, "D", "")]);
}

#[test]
fn bare_values_end_at_a_comment() {
    check("A=a b  c # d", &[(1, "A", "a b  c")]);
    check("A=a#b", &[(1, "A", "a#b")]);
    check("A=it's", &[(1, "A", "it's")]);
    check("A=p$w\\d=\"x\"", &[(1, "A", "p$w\\d=\"x\"")]);
}

#[test]
fn quotes_and_escapes_are_undone() {
    check("A='a # b' # c\nB=`x'\"y`", &[(1, "A", "a # b"), (2, "B", "x'\"y")]);
    check(r#"A="a\"\\\$\`'""#, &[(1, "A", "a\"\\$`'")]);
    check(r"A='it'\''s'", &[(1, "A", "it's")]);
    check(r#"A='a\'\''b'"'c'"''"#, &[(1, "A", "a\\'b'c'")]);
    check(r"A='${x} $(y) \n'", &[(1, "A", r"${x} $(y) \n")]);
}

#[test]
fn other_backslashes_are_undone_or_kept_where_that_is_known() {
    let read = |file: &str, how| {
        let read = parse_with(file.as_bytes(), how).map_err(|error| error.why)?;
        Ok(String::from_utf8(read[0].value.expose().to_vec()).unwrap())
    };
    for (written, undone, kept) in [
        (r"C:\temp\new", "C:\temp\new", r"C:\temp\new"),
        (r"C:\\temp\\new", r"C:\temp\new", r"C:\temp\new"),
        (r"a\r\-\.", "a\r\\-\\.", r"a\r\-\."),
        (r#"a\\n\"\$\`"#, r#"a\n"$`"#, r#"a\n"$`"#),
    ] {
        let file = format!("A=\"{written}\"");
        assert_eq!(read(&file, Backslashes::Undo), Ok(undone.to_owned()), "{written}");
        assert_eq!(read(&file, Backslashes::Keep), Ok(kept.to_owned()), "{written}");
    }
    assert_eq!(read("A=\"a\\\nb\"", Backslashes::Keep), Ok("a\\\nb".to_owned()));
    assert_eq!(read("A=\"a\\\nb\"", Backslashes::Undo), Err(OTHER_ESCAPE));
    assert_eq!(read(r#"A="\x41""#, Backslashes::Undo), Err(OTHER_ESCAPE));
}

#[test]
fn a_dollar_is_a_dollar_but_before_a_name_of_the_file() {
    let hash = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA";
    check(&format!("A={hash}"), &[(1, "A", hash)]);
    check("A=pa$word\nB=\"$HOME/$\"", &[(1, "A", "pa$word"), (2, "B", "$HOME/$")]);
    check("A=1\nB='$A'\nC=`$A`", &[(1, "A", "1"), (2, "B", "$A"), (3, "C", "$A")]);
    check("A=1\nB=$AB$1A\nC=\"\\$A\"", &[(1, "A", "1"), (2, "B", "$AB$1A"), (3, "C", "$A")]);
    refused("BASE=/srv/app\nDATA=$BASE/data", 2, reference(1));
    refused("DATA=\"x\n$BASE/data\"\nBASE=/srv/app", 2, reference(3));
    refused("# c\nPATH=$PATH:/x", 2, reference(2));
    refused("A=1\nB=\\$A", 2, reference(1));
}

#[test]
fn quoted_values_span_lines() {
    check(
        "A='one\ntwo'\nB=\"x\r\n\r\ny\"\r\nC=`1\n2`\nD=4",
        &[(1, "A", "one\ntwo"), (3, "B", "x\n\ny"), (6, "C", "1\n2"), (8, "D", "4")],
    );
}

#[test]
fn every_value_is_found_where_it_is_written() {
    let file = "\u{FEFF}# c\r\n export A = one # c\r\nB='x\ny' # d\nC=\nD=  # e\nE='it'\\''s'";
    let read = parse(file.as_bytes()).unwrap();
    let shown: Vec<_> =
        read.iter().map(|v| (&file[v.entry.clone()], &file[v.written.clone()])).collect();
    let expected = [
        (" export A = one # c\r\n", "one"),
        ("B='x\ny' # d\n", "'x\ny'"),
        ("C=\n", ""),
        ("D=  # e\n", ""),
        ("E='it'\\''s'", "'it'\\''s'"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(&file[..read[3].written.end], &file[..file.find("D=").unwrap() + 2]);
}

#[test]
fn broken_and_ambiguous_lines_are_refused() {
    refused("A=1\nsk-abc\n", 2, NO_EQUALS);
    refused("A=1\nB: 2\n", 2, COLON);
    refused("export A\n", 1, NO_VALUE);
    refused("[app]\nA=1", 1, HEADING);
    for mark in ["<<<<<<< HEAD", "=======", ">>>>>>> theirs"] {
        refused(&format!("A=1\n{mark}\n"), 2, CONFLICT);
    }
    refused("A=1\n+Wjc==\n", 2, BAD_NAME);
    refused("a-b=1", 1, DASHES);
    refused("a.b=1", 1, DASHES);
    refused("1a=1", 1, DIGIT);
    refused("=1", 1, NO_NAME);
    refused("A B=1", 1, WORDS);
    refused("A=1\nB=2\nA=3", 3, duplicate(1));
    refused("A=1\nB='x\ny", 2, unterminated('\''));
    refused("A=\"x\\\"", 1, unterminated('"'));
    refused("A=\"x\\", 1, unterminated('"'));
    refused("A='x'y", 1, AFTER_QUOTE);
    refused("A='x'# c", 1, AFTER_QUOTE);
    refused("A='x'\\y", 1, AFTER_QUOTE);
    refused("A=${B}x", 1, EXPANSION);
    refused("A=\"$(id)\"", 1, EXPANSION);
    refused("A=$'x'", 1, DOLLAR_QUOTE);
    refused(r#"P="C:\temp\new""#, 1, ESCAPE);
    refused(r#"A="a\nb""#, 1, ESCAPE);
    refused(r#"A="\x41""#, 1, OTHER_ESCAPE);
    refused(r#"A="a\d""#, 1, OTHER_ESCAPE);
    refused("A=\"a\\\nb\"", 1, OTHER_ESCAPE);
    refused("A=#x", 1, LEADING_HASH);
    refused("A=x\\", 1, TRAILING_BACKSLASH);
    refused("A=x\ry\n", 1, CARRIAGE_RETURN);
    refused("A=\"x\ry\"\n", 1, CARRIAGE_RETURN);
    refused("A=1\rB=2\r", 1, OLD_MAC);
    let nul = parse(b"A=1\nB=\0").unwrap_err();
    assert_eq!((nul.line, nul.why.text.as_ref()), (2, "a NUL byte"));
    let latin = parse(b"A=1\nB=\xFF").unwrap_err();
    assert!(latin.line == 2 && latin.why.hint.contains("-f CP1252"), "{latin:?}");
}

#[test]
fn no_error_shows_a_value() {
    let error = parse(b"A=1\nhunter2-name hunter2=x").unwrap_err();
    assert!(!format!("{error} {error:?} {}", error.why.hint).contains("hunter2"));
}

proptest::proptest! {
    #[test]
    fn no_input_panics(file in proptest::collection::vec(proptest::sample::select(b"A=\n\r'\"\\`$({#; \tx\xC3\xA4".to_vec()), 0..60)) {
        let _ = parse(&file);
    }
}
