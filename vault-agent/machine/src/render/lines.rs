//! Dialects of one `NAME=VALUE` per variable: `compose`, `docker`, `systemd`, `sh`. How each
//! carries a value, and what it cannot carry. The portable `dotenv` has a file of its own.

use super::refusal::{Why, refuse};
use super::text::Text;

/// Lines from this length on break `docker --env-file` and go-envparse.
pub(super) const LONG_LINE: usize = 64 * 1024;

/// Linux takes no environment variable from this length on, name and `=` included.
pub const LONG_VARIABLE: usize = 128 * 1024 - 1;

/// The way out for values that no environment holds.
const NO_VARIABLE: &str = "no environment variable can hold it: use format = \"json\" or \"raw\"";

/// Refuses what no process can have in its environment.
pub(super) fn variable(name: &str, value: &str) -> Result<(), Why> {
    if value.contains('\0') {
        return Err(refuse("NUL", "every reader", NO_VARIABLE));
    }
    if name.len() + 1 + value.len() >= LONG_VARIABLE {
        return Err(refuse("more than 128 KiB", "every program started with it", NO_VARIABLE));
    }
    Ok(())
}

/// Writes `NAME="VALUE"` for Compose, which undoes escapes in double quotes, and only there all of
/// them.
pub(super) fn compose(name: &str, value: &str, out: &mut Text) -> Result<(), Why> {
    variable(name, value)?;
    if is_bare(value) {
        return plain(name, value, out);
    }
    out.push(name);
    out.push("=\"");
    for c in value.chars() {
        match c {
            '\\' | '"' | '$' => {
                out.push("\\");
                out.push_char(c);
            }
            '\n' => out.push("\\n"),
            '\r' => out.push("\\r"),
            c => out.push_char(c),
        }
    }
    out.push("\"\n");
    Ok(())
}

/// Writes `NAME=VALUE` for `docker --env-file` and Podman, which take everything as it is.
pub(super) fn docker(name: &str, value: &str, out: &mut Text) -> Result<(), Why> {
    const HINT: &str = "these readers know no quotes: use format = \"compose\" and `docker compose`, or leave it out with `keys`";
    if value.contains('\n') {
        return Err(refuse("a newline", "docker and podman --env-file", HINT));
    }
    if value.contains('\r') {
        return Err(refuse("a carriage return", "docker and podman --env-file", HINT));
    }
    if name.len() + 1 + value.len() >= LONG_LINE {
        return Err(refuse("more than 64 KiB", "docker --env-file", HINT));
    }
    variable(name, value)?;
    plain(name, value, out)
}

/// Writes `NAME="VALUE"` for `EnvironmentFile=` of systemd, which takes a backslash before four
/// characters for an escape.
pub(super) fn systemd(name: &str, value: &str, out: &mut Text) -> Result<(), Why> {
    variable(name, value)?;
    if let Some(holds) = refused_by_systemd(value) {
        return Err(refuse(holds, "systemd", "change the value, or use format = \"json\""));
    }
    if is_bare(value) {
        return plain(name, value, out);
    }
    out.push(name);
    out.push("=\"");
    for c in value.chars() {
        if matches!(c, '\\' | '"' | '$' | '`') {
            out.push("\\");
        }
        out.push_char(c);
    }
    out.push("\"\n");
    Ok(())
}

/// Tells what in a value makes systemd ignore the variable or the file: code points that Unicode
/// keeps for nobody.
pub(super) fn refused_by_systemd(value: &str) -> Option<&'static str> {
    let nobodys = |c: char| {
        let c = u32::from(c);
        (0xFDD0..=0xFDEF).contains(&c) || c & 0xFFFE == 0xFFFE
    };
    value.contains(nobodys).then_some("a Unicode noncharacter")
}

/// Writes `export NAME='VALUE'` for POSIX shells; a `'` leaves the quotes, stands escaped, and
/// enters them again.
pub(super) fn sh(name: &str, value: &str, out: &mut Text) -> Result<(), Why> {
    variable(name, value)?;
    out.push("export ");
    out.push(name);
    out.push("='");
    for (n, piece) in value.split('\'').enumerate() {
        if n > 0 {
            out.push("'\\''");
        }
        out.push(piece);
    }
    out.push("'\n");
    Ok(())
}

/// Tells whether a value is empty, or of characters that mean nothing to any reader.
pub(super) fn is_bare(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:@%+,-".contains(&b);
    value.bytes().enumerate().all(|(at, b)| plain(b) || (b == b'=' && at > 0))
}

fn plain(name: &str, value: &str, out: &mut Text) -> Result<(), Why> {
    for piece in [name, "=", value, "\n"] {
        out.push(piece);
    }
    Ok(())
}
