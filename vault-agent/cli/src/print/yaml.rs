//! YAML that every reader takes for what it is, of YAML 1.1 or 1.2: block style, keys sorted.

use serde::{Serialize, Serializer};
use serde_json::{Number, Value};
use serde_saphyr::LitStr;

use super::go;

/// Prints a value, with a final line end.
pub fn yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&Node(value), options)
        .expect("every value of JSON has a form in YAML")
}

/// A value whose numbers are numbers to every serializer, not to that of JSON alone.
struct Node<'a>(&'a Value);

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(value) => number(value, to),
            Value::Array(items) => to.collect_seq(items.iter().map(Node)),
            Value::Object(fields) => {
                to.collect_map(go::sorted(fields).into_iter().map(|(k, v)| (k, Node(v))))
            }
            // Not all readers agree on how far a block is indented that begins with a space.
            Value::String(text)
                if text.contains('\n') && !text.starts_with(char::is_whitespace) =>
            {
                LitStr(text).serialize(to)
            }
            Value::Null | Value::Bool(_) | Value::String(_) => self.0.serialize(to),
        }
    }
}

/// Writes a number; one of more than 64 bits as near as a float comes, as Go does.
fn number<S: Serializer>(number: &Number, to: S) -> Result<S::Ok, S::Error> {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(number), ..) => to.serialize_i64(number),
        (_, Some(number), _) => to.serialize_u64(number),
        (.., Some(number)) => to.serialize_f64(number),
        (None, None, None) => to.serialize_str(&number.to_string()),
    }
}

#[cfg(test)]
mod tests;
