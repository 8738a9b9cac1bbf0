//! `export NAME='value'` lines for POSIX shells: the one dialect that carries everything but NUL.

use super::text::Text;
use super::{Fault, Field, Why};

/// Writes one line per field; the names have been judged before.
pub(super) fn write(fields: &[&Field], out: &mut Text, faults: &mut Vec<Fault>) {
    for field in fields {
        let why = match field.value.text() {
            None => Why::NotText,
            Some(value) if value.contains('\0') => Why::Value {
                holds: "NUL",
                readers: "every shell",
                hint: "no environment variable can hold it: use format = \"json\"",
            },
            Some(value) => {
                line(&field.name, value, out);
                continue;
            }
        };
        faults.push(Fault { name: field.name.clone(), why });
    }
}

/// Writes one line; a `'` leaves the quotes, stands escaped, and enters them again.
fn line(name: &str, value: &str, out: &mut Text) {
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
}
