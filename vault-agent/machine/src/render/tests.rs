//! What is written is read back: by our own reader, and by the shells of this machine.

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

fn secret(fields: &[(&str, &str)]) -> Vec<(SecretPath, Vec<Field>)> {
    vec![("secret/a".parse().unwrap(), list(fields))]
}

fn list(fields: &[(&str, &str)]) -> Vec<Field> {
    let field = |(name, value): &(&str, &str)| Field {
        name: (*name).to_owned(),
        value: Value::Text(Plaintext::from(value.as_bytes())),
    };
    fields.iter().map(field).collect()
}

fn text(format: Format, secrets: &[(SecretPath, Vec<Field>)], rules: &Rules<'_>) -> String {
    let rendered = render(format, secrets, rules).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(rendered.content.expose().to_vec()).unwrap()
}

#[test]
fn formats_look_like_this() {
    let fields =
        secret(&[("B", "x"), ("A", "it's"), ("E", ""), ("W", "two $words\\\"`"), ("N", "1")]);
    let look = |format| text(format, &fields, &Rules::default());
    insta::assert_snapshot!(look(Format::Compose), @r#"
    B=x
    A="it's"
    E=
    W="two \$words\\\"`"
    N=1
    "#);
    insta::assert_snapshot!(look(Format::Docker), @r#"
    B=x
    A=it's
    E=
    W=two $words\"`
    N=1
    "#);
    insta::assert_snapshot!(look(Format::Systemd), @r#"
    B=x
    A="it's"
    E=
    W="two \$words\\\"\`"
    N=1
    "#);
    insta::assert_snapshot!(look(Format::Sh), @r#"
    export B='x'
    export A='it'\''s'
    export E=''
    export W='two $words\"`'
    export N='1'
    "#);
    insta::assert_snapshot!(look(Format::Json), @r#"
    {
      "B": "x",
      "A": "it's",
      "E": "",
      "W": "two $words\\\"`",
      "N": "1"
    }
    "#);
    insta::assert_snapshot!(look(Format::Yaml), @r#"
    "B": "x"
    "A": "it's"
    "E": ""
    "W": "two $words\\\"`"
    "N": "1"
    "#);
    insta::assert_snapshot!(look(Format::Toml), @r#"
    B = "x"
    A = "it's"
    E = ""
    W = "two $words\\\"`"
    N = "1"
    "#);
    let portable = secret(&[("B", "x"), ("A", "it's"), ("E", ""), ("W", "two words")]);
    let expected = "B=x\nA=\"it's\"\nE=\nW='two words'\n";
    assert_eq!(text(Format::Dotenv, &portable, &Rules::default()), expected);
    for (format, empty) in
        [(Format::Json, "{}\n"), (Format::Yaml, "{}\n"), (Format::Toml, ""), (Format::Compose, "")]
    {
        assert_eq!(text(format, &[], &Rules::default()), empty);
    }
}

#[test]
fn structures_keep_their_shape() {
    let json = r#"{"l":[1,"x",{"y":null}],"e":1e5,"big":12345678901234567890.10,"o":{"a b":{}},"t":true,"f":{"$base64":"/w=="}}"#;
    let fields = [("secret/a".parse().unwrap(), fields(json.as_bytes()).unwrap())];
    insta::assert_snapshot!(text(Format::Yaml, &fields, &Rules::default()), @r#"
    "l": [1, "x", {"y": null}]
    "e": 1.0e+5
    "big": 12345678901234567890.10
    "o": {"a b": {}}
    "t": true
    "f": !!binary "/w=="
    "#);
    let error = render(Format::Toml, &fields, &Rules::default()).unwrap_err();
    insta::assert_snapshot!(error, @"cannot be written as toml: `l` holds null, which readers \
        of TOML would misread; `f` is a binary file, not text");
    let keys = ["e", "big", "o", "t"].map(str::to_owned);
    let rules = Rules { keys: Some(&keys), ..Rules::default() };
    insta::assert_snapshot!(text(Format::Toml, &fields, &rules), @r#"
    e = 1.0e+5
    big = 12345678901234567890.10
    o = { "a b" = {} }
    t = true
    "#);
}

#[test]
fn raw_is_one_value_byte_for_byte() {
    let json = br#"{"pem":"a\nb\n","bin":{"$base64":"/wAK"},"n":1.50,"o":{}}"#;
    let fields = [("secret/a".parse().unwrap(), fields(json).unwrap())];
    for (key, expected) in [("pem", &b"a\nb\n"[..]), ("bin", b"\xFF\0\n"), ("n", b"1.50")] {
        let keys = [key.to_owned()];
        let rules = Rules { keys: Some(&keys), ..Rules::default() };
        assert_eq!(render(Format::Raw, &fields, &rules).unwrap().content.expose(), expected);
    }
    let refused = |rules: &Rules<'_>| render(Format::Raw, &fields, rules).unwrap_err().to_string();
    let many = "cannot be written as raw: the file is one value, and there are 4";
    assert_eq!(refused(&Rules::default()), many);
    let keys = ["o".to_owned()];
    let rules = Rules { keys: Some(&keys), ..Rules::default() };
    assert_eq!(
        refused(&rules),
        "cannot be written as raw: `o` is null, a list or an object, not text"
    );
    let dotenv = render(Format::Dotenv, &fields, &Rules::default()).unwrap_err().to_string();
    assert!(dotenv.contains("`bin` is a binary file, not text"), "{dotenv}");
}

#[test]
fn headers_stand_where_there_are_comments() {
    let secrets = [("secret/a".parse().unwrap(), list(&[("A", "1")]))];
    let named = vec![("secret/a".parse().unwrap(), 3), ("secret/b".parse().unwrap(), 5)];
    let header = Header { vault: "3f2a91c0".to_owned(), secrets: named, restores: true };
    let rules = Rules { header: Some(&header), template: "{{ A }}", ..Rules::default() };
    let lines = "# vault 3f2a91c0: secret/a v3, secret/b v5\n# Edited here? It will be put back: change it with `vault kv patch`.\n";
    for format in Format::ALL.iter().copied() {
        let written = text(format, &secrets, &rules);
        assert_eq!(written.starts_with(lines), format.has_comments(), "{format}");
        assert_eq!(written.contains('#'), format.has_comments(), "{format}");
    }
}

#[test]
fn a_block_holds_no_marker() {
    let fields = secret(&[("A", "x\n# END vault-agent\ny")]);
    let rules = Rules { layout: Layout::Block, ..Rules::default() };
    assert!(render(Format::Sh, &fields, &Rules::default()).is_ok());
    let error = render(Format::Sh, &fields, &rules).unwrap_err();
    assert!(error.to_string().contains("`A` holds a marker of the block"), "{error}");
}

#[test]
fn what_a_dialect_cannot_hold_is_refused() {
    let long = "x".repeat(64 * 1024 - 2);
    for (format, value, holds) in [
        (Format::Docker, "a\nb", "a newline"),
        (Format::Docker, "a\r", "a carriage return"),
        (Format::Docker, long.as_str(), "more than 64 KiB"),
        (Format::Dotenv, long.as_str(), "more than 64 KiB"),
        (Format::Sh, "a\0", "NUL"),
        (Format::Compose, "a\0", "NUL"),
        (Format::Systemd, "a\u{FDD0}", "a Unicode noncharacter"),
        (Format::Sh, &"x".repeat(128 * 1024), "more than 128 KiB"),
    ] {
        let error = render(format, &secret(&[("K", value)]), &Rules::default()).unwrap_err();
        let found = &error.faults[0].why.text;
        assert!(found.starts_with(&format!("holds {holds}, which ")), "{format}: {found}");
    }
    let fits = &long[1..];
    assert!(render(Format::Docker, &secret(&[("K", fits)]), &Rules::default()).is_ok());
}

#[test]
fn later_secrets_win_and_say_so() {
    let secrets = [
        ("secret/a".parse().unwrap(), list(&[("A", "1"), ("B", "2")])),
        ("secret/b".parse().unwrap(), list(&[("A", "3")])),
    ];
    let keys = ["A".to_owned(), "C".to_owned()];
    let rendered =
        render(Format::Dotenv, &secrets, &Rules { keys: Some(&keys), ..Rules::default() }).unwrap();
    assert_eq!(rendered.content.expose(), b"A=3\n");
    assert_eq!(rendered.warnings, ["`A` of `secret/b` replaces that of `secret/a`"]);
    assert_eq!(rendered.absent, ["C"]);
}

#[test]
fn refusals_name_every_variable_and_no_value() {
    let fields = secret(&[
        ("LD_PRELOAD", "/x.so"),
        ("a.b", "1"),
        ("PIN", "hunter2'$"),
        ("UID", "0"),
        ("OK", "1"),
    ]);
    let error = render(Format::Dotenv, &fields, &Rules::default()).unwrap_err();
    insta::assert_snapshot!(error, @"cannot be written as dotenv: `LD_PRELOAD` changes what \
        other programs run; `a.b` is not a variable name (letters, digits and `_`, not starting \
        with a digit); `UID` belongs to the shells, which do not let it be set; `PIN` holds `'` \
        together with `$`, which either shells and systemd or npm dotenv, Node and deno would \
        misread");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert!(render(Format::Json, &fields, &Rules::default()).is_ok());
}

#[test]
fn lists_are_for_json_only() {
    let fields =
        [("secret/a".parse().unwrap(), fields(br#"{"L":[1],"N":1.50,"T":true}"#).unwrap())];
    assert_eq!(
        text(Format::Json, &fields, &Rules::default()),
        "{\n  \"L\": [1],\n  \"N\": 1.50,\n  \"T\": true\n}\n"
    );
    let keys = ["N".to_owned(), "T".to_owned()];
    assert_eq!(
        text(Format::Dotenv, &fields, &Rules { keys: Some(&keys), ..Rules::default() }),
        "N=1.50\nT=true\n"
    );
    let error = render(Format::Sh, &fields, &Rules::default()).unwrap_err();
    assert_eq!(error.faults, [refusal::NOT_TEXT.of("L")]);
}

/// Values with a bias to what readers stumble over.
fn nasty() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-z0-9 =#~!*?;&|<>()\\[\\]{}^%.,:@+/-]",
        2 => "['\"`$\\\\]",
        1 => "[äß€😀\t\n\r]",
        1 => Just("${".to_owned()),
        1 => Just("$K0".to_owned()),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// Returns the names and values of a file, `None` for one that is refused.
fn read_or_refused(file: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let read = parse(file.as_bytes()).ok()?;
    Some(read.into_iter().map(|it| (it.name, it.value.expose().to_vec())).collect())
}

proptest! {
    #[test]
    fn our_reader_reads_back_what_we_write(values in proptest::collection::vec(nasty(), 1..8), newlines: bool) {
        for format in [Format::Dotenv, Format::Compose, Format::Systemd, Format::Sh] {
            let multiline = if newlines { Multiline::Allow } else { Multiline::Refuse };
            let rules = Rules { multiline, ..Rules::default() };
            let carried: Vec<(String, &String)> = values.iter().enumerate().map(|(n, v)| (format!("K{n}"), v))
                .filter(|(name, value)| render(format, &secret(&[(name, value)]), &rules).is_ok())
                .filter(|(name, value)| {
                    // Shells and systemd keep a carriage return; our reader takes it for the line
                    // end of another system, or refuses it.
                    let is_lost = value.contains('\r') && format != Format::Compose;
                    if is_lost {
                        let alone = text(format, &secret(&[(name, value)]), &rules);
                        let unix = value.replace("\r\n", "\n").into_bytes();
                        let read = read_or_refused(&alone);
                        assert!(read.is_none_or(|read| read == [(name.clone(), unix)]), "{alone:?}");
                    }
                    !is_lost
                })
                .collect();
            let fields: Vec<(&str, &str)> = carried.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let written = text(format, &secret(&fields), &rules);
            // Compose undoes `\n`, which no other reader of the file is promised.
            let ours = match format {
                Format::Compose => Backslashes::Undo,
                _ => Backslashes::Refuse,
            };
            let read = parse_with(written.as_bytes(), ours)
                .map_err(|error| TestCaseError::fail(format!("{error}: {written:?}")))?;
            if let Ok(strict) = parse(written.as_bytes()) {
                prop_assert_eq!(&strict, &read, "{:?}", written);
            }
            let read: Vec<(String, &[u8])> = read.iter().map(|v| (v.name.clone(), v.value.expose())).collect();
            let expected: Vec<(String, &[u8])> = fields.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes())).collect();
            prop_assert_eq!(read, expected, "{:?}", written);
        }
    }

    #[test]
    fn what_is_read_strictly_is_read_alike_in_every_way(file in proptest::collection::vec(
        proptest::sample::select("ABnrtd$ #`='\"\\\n\r".chars().collect::<Vec<_>>()),
        0..24,
    )) {
        let file: String = file.into_iter().collect();
        if let Ok(strict) = parse(file.as_bytes()) {
            for other in [Backslashes::Undo, Backslashes::Keep] {
                let read = parse_with(file.as_bytes(), other);
                prop_assert_eq!(read.as_ref(), Ok(&strict), "{:?}", file);
            }
        }
    }

    #[test]
    fn line_ends_of_other_systems_change_no_value(values in proptest::collection::vec(nasty(), 1..6)) {
        for format in [Format::Dotenv, Format::Systemd, Format::Sh] {
            let is_carried = |name: &str, value: &str| {
                let rendered = render(format, &secret(&[(name, value)]), &Rules::default());
                rendered.is_ok() && !value.contains('\r')
            };
            let named = values.iter().enumerate().map(|(n, value)| (format!("K{n}"), value));
            let carried: Vec<(String, &String)> =
                named.filter(|(name, value)| is_carried(name, value)).collect();
            let fields: Vec<(&str, &str)> =
                carried.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let written = text(format, &secret(&fields), &Rules::default());
            let dos = written.replace('\n', "\r\n");
            prop_assert_eq!(read_or_refused(&dos), read_or_refused(&written), "{:?}", dos);
        }
    }

    #[test]
    fn a_name_that_the_file_sets_is_never_read_as_text(
        quote in proptest::sample::select(vec!["", "\""]),
        braces: bool,
        first: bool,
    ) {
        let name = if braces { "${BASE}" } else { "$BASE" };
        let (base, data) = ("BASE=/srv\n", format!("DATA={quote}{name}/x{quote}\n"));
        let file = if first { format!("{base}{data}") } else { format!("{data}{base}") };
        prop_assert!(parse(file.as_bytes()).is_err(), "{:?}", file);
        // In single quotes, and where nothing of that name is set, it is a password as any other.
        let quoted = format!("{base}DATA='$BASE/x'\n");
        prop_assert!(parse(quoted.as_bytes()).is_ok(), "{:?}", quoted);
        prop_assert!(parse(b"DATA=$BASE/x\n").is_ok());
    }

    #[test]
    fn json_reads_back_what_we_write(values in proptest::collection::vec(any::<String>(), 0..8)) {
        let names: Vec<String> = (0..values.len()).map(|n| format!("k{n}\"\\")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
        let written = text(Format::Json, &secret(&pairs), &Rules::default());
        prop_assert_eq!(fields(written.as_bytes()).unwrap(), list(&pairs));
    }
}

/// Runs `shell` on a file that sets `K0`…, and returns the values it read.
fn sourced(shell: &str, file: &str, count: usize) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let mut source = tempfile::NamedTempFile::new_in(&folder).unwrap();
    source.write_all(file.as_bytes()).unwrap();
    let print: String = (0..count).map(|n| format!("printf '%s\\0' \"$K{n}\"; ")).collect();
    let script = format!("set -a; . {}; {print}", source.path().display());
    let child = Command::new(shell)
        .arg("-c")
        .arg(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .ok()?;
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{shell} failed on {file:?}");
    let read = String::from_utf8(output.stdout).unwrap();
    Some(read.split_terminator('\0').map(str::to_owned).collect())
}

#[test]
fn shells_read_back_what_we_write() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let values: Vec<String> =
        (0..400).map(|_| nasty().new_tree(&mut runner).unwrap().current()).collect();
    for format in [Format::Dotenv, Format::Sh] {
        let rules = Rules { multiline: Multiline::Allow, ..Rules::default() };
        let carried: Vec<&String> = values
            .iter()
            .filter(|value| render(format, &secret(&[("K", value)]), &rules).is_ok())
            .collect();
        assert!(carried.len() > 100, "{format} carries only {}", carried.len());
        let names: Vec<String> = (0..carried.len()).map(|n| format!("K{n}")).collect();
        let pairs: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(carried.iter().map(|v| v.as_str())).collect();
        let file = text(format, &secret(&pairs), &rules);
        for shell in ["sh", "dash", "bash", "zsh", "ksh"] {
            let Some(read) = sourced(shell, &file, carried.len()) else { continue };
            for (value, read) in carried.iter().zip(&read) {
                assert_eq!(*value, read, "{shell} reading {format}");
            }
            assert_eq!(read.len(), carried.len());
        }
    }
}
