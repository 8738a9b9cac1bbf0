//! One value as a file, byte for byte: certificates, keys, keystores.

use super::fields::Field;
use super::text::Text;
use super::{Fault, Why};

/// Writes the only field.
pub(super) fn write(fields: &[Field], out: &mut Text, faults: &mut Vec<Fault>) {
    let [field] = fields else {
        faults.push(Fault { name: String::new(), why: Why::NotOne(fields.len()) });
        return;
    };
    match field.value.bytes() {
        Some(bytes) => out.push_bytes(bytes),
        None => faults.push(Fault { name: field.name.clone(), why: Why::NotText }),
    }
}
