//! One value as a file, byte for byte: certificates, keys, keystores.

use super::fields::Field;
use super::refusal::{RefusedField, Why};
use super::text::Text;

/// Writes the only field.
pub(super) fn write(fields: &[Field], out: &mut Text, faults: &mut Vec<RefusedField>) {
    let [field] = fields else {
        faults.push(RefusedField { name: String::new(), why: Why::NotOne(fields.len()) });
        return;
    };
    match field.value.bytes() {
        Some(bytes) => out.push_bytes(bytes),
        None => faults.push(RefusedField { name: field.name.clone(), why: Why::NotText }),
    }
}
