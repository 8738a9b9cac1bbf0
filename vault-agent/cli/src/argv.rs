//! Flags as Go's: the command line is rewritten before clap sees it, and truth values are read.
//!
//! HashiCorp's CLI uses Go's `flag` package: long flags take one dash (`-format=json`, `-cas 0`).
//! clap reads `-format` as the short flags `-f -o -r …`. People, scripts and runbooks for Vault are
//! full of the one-dash form, so it is made two-dash here. That is safe because this program has no
//! bundled short flags, and it touches nothing that can be data:
//!
//! * only `-` + a letter + a letter or dash starts a long flag: `-`, `-1`, `-n`, `-n20`, `-/x` and
//!   `k=-` stay as they are;
//! * from `--` on, everything stays.

use std::ffi::OsString;

/// Turns one-dash long flags into two-dash ones; `args` is without the program's name.
pub fn normalise(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut all_data = false;
    let mut out: Vec<OsString> = args
        .into_iter()
        .map(|arg| {
            all_data |= arg == "--";
            match arg.to_str() {
                Some(text) if !all_data && is_long_flag(text) => format!("-{text}").into(),
                Some(_) | None => arg,
            }
        })
        .collect();
    if let [only] = out.as_mut_slice()
        && *only == "-v"
    {
        *only = "--version".into();
    }
    out
}

/// Reads a truth value as Go's `ParseBool` does.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn is_long_flag(arg: &str) -> bool {
    let Some(flag) = arg.strip_prefix('-') else { return false };
    let name = flag.split_once('=').map_or(flag, |(name, _)| name);
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'-')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        let got = normalise(input.split(' ').map(OsString::from));
        let got: Vec<_> = got.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(got.join(" "), expected);
    }

    #[test]
    fn one_dash_long_flags_get_two() {
        check("kv get -field=x secret/a", "kv get --field=x secret/a");
        check("kv get secret/a -format json", "kv get secret/a --format json");
        check("kv put -cas=0 -mount=secret a k=v", "kv put --cas=0 --mount=secret a k=v");
        check("-tls-skip-verify -ns=x kv list", "--tls-skip-verify --ns=x kv list");
        check("-ca-cert=/x status", "--ca-cert=/x status");
        check("-help", "--help");
        check("-version", "--version");
        check("-v", "--version");
        check("--format=json kv get", "--format=json kv get");
    }

    #[test]
    fn data_is_left_alone() {
        for same in [
            "kv put secret/a k=-",
            "kv put secret/a -",
            "kv put secret/a k=-format=json",
            "kv put -- secret/a -weird=value -x",
            "kv get --cas -1",
            "audit log -n 5",
            "audit log -n5",
            "audit log -n=5",
            "kv get -h",
            "kv put secret/a -/x=1",
            "kv put secret/a -k.b=1",
            "kv put secret/a @file -=x --- -",
            "kv -v get",
        ] {
            check(same, same);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_text_pass() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = OsString::from_vec(b"-form\xff=1".to_vec());
        assert_eq!(normalise([odd.clone()]), [odd]);
    }
}
