//! The whole envelope: its fields by name, as JSON and YAML, and as the table of HashiCorp's
//! generic commands.

use serde_json::{Map, Value, json};
use shared::duration;

use super::{Secret, print_field};
use crate::context::Global;
use crate::print::{self, Format, go, table};
use host::hint::{Exit, Failure};

/// What a login or a new token brings, in the order of Go's struct.
const AUTH: [&str; 11] = [
    "client_token",
    "accessor",
    "policies",
    "token_policies",
    "identity_policies",
    "metadata",
    "orphan",
    "entity_id",
    "lease_duration",
    "renewable",
    "mfa_requirement",
];

/// What wrapping brings, in the order of Go's struct.
const WRAP: [&str; 6] =
    ["token", "accessor", "ttl", "creation_time", "creation_path", "wrapped_accessor"];

impl Secret {
    /// Looks a field up as HashiCorp's `-field` does: the envelope's own, `data`, else the
    /// content's.
    pub fn field(&self, name: &str) -> Option<Value> {
        let data = self.data.as_ref();
        let content = || data?.get(name).cloned();
        if let Some(auth) = self.auth.as_ref().filter(|auth| auth.is_object()) {
            let of = |name: &str| auth.get(name).cloned();
            return match name {
                "token" => of("client_token"),
                "token_accessor" => of("accessor"),
                "token_duration" => of("lease_duration"),
                "token_renewable" => of("renewable"),
                "token_policies" | "identity_policies" | "policies" => of(name),
                _ => content(),
            };
        }
        if let Some(wrap) = self.wrap_info.as_ref().filter(|wrap| wrap.is_object()) {
            let of = |name: &str| wrap.get(name).cloned();
            return match name {
                "wrapping_token" => of("token"),
                "wrapping_accessor" => of("accessor"),
                "wrapping_token_ttl" => of("ttl"),
                "wrapping_token_creation_time" => of("creation_time"),
                "wrapping_token_creation_path" => of("creation_path"),
                "wrapped_accessor" => of("wrapped_accessor"),
                _ => content(),
            };
        }
        match name {
            "lease_duration" | "refresh_interval" => Some(self.lease_duration.into()),
            "lease_id" => Some(self.lease_id.clone().into()),
            "request_id" => Some(self.request_id.clone().into()),
            "renewable" => Some(self.renewable.into()),
            "data" => {
                data.map(|data| data.get("data").cloned().unwrap_or_else(|| data.clone().into()))
            }
            _ => content(),
        }
    }

    /// Prints the whole envelope, fields in Go's order.
    pub fn text(&self, format: Format) -> Result<String, Failure> {
        let mut fields = vec![
            ("request_id", json!(self.request_id)),
            ("lease_id", json!(self.lease_id)),
            ("lease_duration", json!(self.lease_duration)),
            ("renewable", json!(self.renewable)),
            ("data", json!(self.data)),
            ("warnings", json!(self.warnings)),
        ];
        fields.extend(self.auth.clone().map(|auth| ("auth", auth)));
        fields.extend(self.wrap_info.clone().map(|info| ("wrap_info", info)));
        let kind = self.mount_type.clone().filter(|kind| !kind.is_empty());
        fields.extend(kind.map(|kind| ("mount_type", kind.into())));
        if format != Format::Json {
            return print::data(format, &fields.into_iter().collect());
        }
        let texts = fields.iter().map(|(name, value)| match *name {
            "auth" => (*name, ordered(value, &AUTH)),
            "wrap_info" => (*name, ordered(value, &WRAP)),
            _ => (*name, go::json(value)),
        });
        Ok(go::json_texts(&texts.collect::<Vec<_>>()))
    }

    /// Prints what there is, or one field of it.
    pub fn print(&self, global: &Global, field: Option<&str>) -> anyhow::Result<Exit> {
        if let Some(name) = field {
            return print_field(global, self.field(name).as_ref(), name);
        }
        let format = global.format()?;
        if format != Format::Table {
            global.term.document(self.text(format)?)?;
            return Ok(Exit::OK);
        }
        self.say_warnings(global);
        let rows = self.rows();
        if !rows.is_empty() {
            global.term.line(table::table(&["Key", "Value"], &rows))?;
        }
        Ok(Exit::OK)
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
        if self.lease_duration > 0 {
            let duration = duration::short(self.lease_duration);
            if self.lease_id.is_empty() {
                row("refresh_interval", duration);
            } else {
                row("lease_id", self.lease_id.clone());
                row("lease_duration", duration);
                row("lease_renewable", self.renewable.to_string());
            }
        }
        if let Some(auth) = self.auth.as_ref().and_then(Value::as_object) {
            auth_rows(auth, &mut row);
        }
        if let Some(wrap) = self.wrap_info.as_ref().and_then(Value::as_object) {
            let text = |name: &str| wrap.get(name).map(go::value).unwrap_or_default();
            row("wrapping_token:", text("token"));
            row("wrapping_accessor:", text("accessor"));
            let ttl = wrap.get("ttl").and_then(Value::as_i64).unwrap_or(0);
            row("wrapping_token_ttl:", duration::short(ttl));
            row("wrapping_token_creation_time:", text("creation_time"));
            row("wrapping_token_creation_path:", text("creation_path"));
            if !text("wrapped_accessor").is_empty() {
                row("wrapped_accessor:", text("wrapped_accessor"));
            }
        }
        for (name, value) in self.data.iter().flat_map(go::sorted) {
            row(name, table::cell(name, value));
        }
        rows
    }
}

fn auth_rows(auth: &Map<String, Value>, row: &mut impl FnMut(&str, String)) {
    let text = |name: &str| auth.get(name).map(go::value).unwrap_or_default();
    row("token", text("client_token"));
    row("token_accessor", text("accessor"));
    let seconds = auth.get("lease_duration").and_then(Value::as_i64).unwrap_or(0);
    row("token_duration", if seconds == 0 { "∞".to_owned() } else { duration::short(seconds) });
    row("token_renewable", text("renewable"));
    for name in ["token_policies", "identity_policies", "policies"] {
        let items = auth.get(name).and_then(Value::as_array).into_iter().flatten();
        let items: Vec<_> =
            items.filter_map(Value::as_str).map(|text| format!("{text:?}")).collect();
        row(name, format!("[{}]", items.join(" ")));
    }
    let metadata = auth.get("metadata").and_then(Value::as_object);
    for (name, value) in metadata.into_iter().flat_map(go::sorted) {
        row(&format!("token_meta_{name}"), go::value(value));
    }
}

/// Prints an object with its fields in the order of a Go struct, absent ones as zero values;
/// further fields follow.
fn ordered(value: &Value, names: &[&str]) -> String {
    let Some(fields) = value.as_object() else { return go::json(value) };
    let known =
        names.iter().filter(|name| **name != "wrapped_accessor" || fields.contains_key(**name));
    let mut texts: Vec<(&str, String)> =
        known.map(|name| (*name, fields.get(*name).map_or("null".to_owned(), go::json))).collect();
    let more = go::sorted(fields).into_iter().filter(|(name, _)| !names.contains(&name.as_str()));
    // HashiCorp's client drops what its struct does not have; those two are of the server alone.
    let more = more.filter(|(name, _)| !matches!(name.as_str(), "token_type" | "num_uses"));
    texts.extend(more.map(|(name, value)| (name.as_str(), go::json(value))));
    go::json_texts(&texts)
}
