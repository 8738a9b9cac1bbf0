//! From the keys of secrets to the names in a file: flattened, chosen, renamed, each once. Whether
//! a dialect takes a name is not decided here.

use std::collections::{BTreeSet, HashMap, HashSet};

use shared::path::SecretPath;

use super::fields::{Field, Value, members};
use super::refusal::{RefusedField, Why};
use super::rules::{Nested, Rules};

/// Stands between the names of nested values.
const JOINT: &str = "__";

/// Takes the allowed fields of all secrets under their names in the file, each at the place where
/// it first stands. Where two secrets have the same name, the later one wins and a warning says so;
/// within one secret it is a fault. What `rules` name and no secret has comes back beside the
/// fields.
pub(super) fn choose(
    secrets: &[(SecretPath, Vec<Field>)],
    rules: &Rules<'_>,
    warnings: &mut Vec<String>,
    faults: &mut Vec<RefusedField>,
) -> (Vec<Field>, Vec<String>) {
    let mut place: HashMap<String, (usize, &SecretPath)> = HashMap::new();
    let mut seen = HashSet::new();
    let mut chosen: Vec<Field> = Vec::new();
    for (path, fields) in secrets {
        let mut here: HashMap<String, String> = HashMap::new();
        for Keyed { top, key, value } in flattened(fields, rules.nested) {
            let allowed =
                |keys: &[String]| keys.iter().any(|allowed| *allowed == key || *allowed == top);
            let wanted = rules.keys.is_none_or(allowed);
            let name = rules.name(&key);
            seen.extend([top, key.clone()]);
            if !wanted {
                continue;
            }
            if let Some(other) = here.insert(name.clone(), key.clone()) {
                let both = [other.escape_debug(), key.escape_debug()];
                let text = format!("would be both `{}` and `{}`", both[0], both[1]).into();
                let hint = "give one of them another name with `rename`";
                faults.push(Why { text, hint }.of(&name));
                continue;
            }
            match place.get_mut(&name) {
                None => {
                    place.insert(name.clone(), (chosen.len(), path));
                    chosen.push(Field { name, value });
                }
                Some((at, owner)) => {
                    warnings.push(format!("`{name}` of `{path}` replaces that of `{owner}`"));
                    chosen[*at].value = value;
                    *owner = path;
                }
            }
        }
    }
    let renamed = rules.rename.iter().map(|(key, _)| key);
    let named: BTreeSet<&String> = rules.keys.unwrap_or_default().iter().chain(renamed).collect();
    let absent = named.into_iter().filter(|key| !seen.contains(*key)).cloned().collect();
    (chosen, absent)
}

/// A value with its key, and the key it stands under at the top of its secret.
struct Keyed {
    top: String,
    key: String,
    value: Value,
}

fn flattened(fields: &[Field], nested: Nested) -> Vec<Keyed> {
    let mut flat = Vec::with_capacity(fields.len());
    for Field { name, value } in fields {
        match nested {
            Nested::Refuse => {
                flat.push(Keyed { top: name.clone(), key: name.clone(), value: value.clone() });
            }
            Nested::Flatten => flatten(name, name.clone(), value.clone(), &mut flat),
        }
    }
    flat
}

/// Takes a value apart into text; what is null or empty stays as it is, so that it is not lost
/// unseen.
fn flatten(top: &str, key: String, value: Value, flat: &mut Vec<Keyed>) {
    let inner = match &value {
        Value::Structure(json) => members(json),
        Value::Text(_) | Value::Scalar(_) | Value::Bytes(_) => Vec::new(),
    };
    if inner.is_empty() {
        flat.push(Keyed { top: top.to_owned(), key, value });
        return;
    }
    for Field { name, value } in inner {
        flatten(top, format!("{key}{JOINT}{name}"), value, flat);
    }
}

impl Rules<'_> {
    /// Returns the name in the file: as `rename` says, else with prefix and in upper case if asked
    /// for.
    fn name(&self, key: &str) -> String {
        if let Some((_, name)) = self.rename.iter().find(|(from, _)| from == key) {
            return name.clone();
        }
        let name = format!("{}{key}", self.prefix);
        if self.upper { name.to_uppercase() } else { name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fields;

    fn check(secrets: &[&str], rules: &Rules<'_>, expected: &str, warned: &[&str]) {
        let parsed: Vec<_> = secrets
            .iter()
            .zip(["secret/a", "secret/b"])
            .map(|(json, path)| (path.parse().unwrap(), fields(json.as_bytes()).unwrap()))
            .collect();
        let (mut warnings, mut faults) = (Vec::new(), Vec::new());
        let (chosen, absent) = choose(&parsed, rules, &mut warnings, &mut faults);
        warnings.extend(absent.iter().map(|key| format!("no {key}")));
        let shown = chosen.iter().map(|f| format!("{}={}", f.name, f.value.text().unwrap_or("…")));
        let faults = faults.iter().map(ToString::to_string);
        assert_eq!(shown.chain(faults).collect::<Vec<_>>().join(" "), expected, "{secrets:?}");
        assert_eq!(warnings, warned, "{secrets:?}");
    }

    #[test]
    fn names_are_prefixed_put_in_upper_case_and_renamed() {
        let rename = [("db-password".to_owned(), "Db_Password".to_owned())];
        let rules = Rules { prefix: "app_", upper: true, rename: &rename, ..Rules::default() };
        check(&[r#"{"key":"1","db-password":"2"}"#], &rules, "APP_KEY=1 Db_Password=2", &[]);
        let keys = ["key".to_owned(), "gone".to_owned()];
        let rules = Rules { keys: Some(&keys), ..rules };
        let warned = ["no gone"];
        check(&[r#"{"key":"1","db-password":"2"}"#], &rules, "APP_KEY=1", &warned);
        let warned = ["no db-password", "no gone"];
        check(&[r#"{"key":"1"}"#], &rules, "APP_KEY=1", &warned);
    }

    #[test]
    fn the_later_secret_wins_and_one_secret_must_agree_with_itself() {
        let rules = Rules { upper: true, ..Rules::default() };
        let warned = ["`A` of `secret/b` replaces that of `secret/a`"];
        check(&[r#"{"a":"1","b":"2"}"#, r#"{"A":"3"}"#], &rules, "A=3 B=2", &warned);
        check(&[r#"{"a":"1","A":"2"}"#], &rules, "A=1 `A` would be both `a` and `A`", &[]);
    }

    #[test]
    fn nested_values_are_kept_or_taken_apart() {
        let json = r#"{"db":{"user":"u","ports":[1,{"x":true}]},"e":{},"n":null,"k":"v"}"#;
        check(&[json], &Rules::default(), "db=… e=… n=… k=v", &[]);
        let rules = Rules { nested: Nested::Flatten, ..Rules::default() };
        let flat = "db__ports__0=1 db__ports__1__x=true db__user=u e=… n=… k=v";
        check(&[json], &rules, flat, &[]);
        let keys = ["db".to_owned(), "k".to_owned()];
        let rules = Rules { keys: Some(&keys), upper: true, ..rules };
        check(&[json], &rules, "DB__PORTS__0=1 DB__PORTS__1__X=true DB__USER=u K=v", &[]);
        let keys = ["db__user".to_owned()];
        check(&[json], &Rules { keys: Some(&keys), ..rules }, "DB__USER=u", &[]);
        let rules = Rules { nested: Nested::Flatten, ..Rules::default() };
        let both = "a__b=1 `a__b` would be both `a__b` and `a__b`";
        check(&[r#"{"a":{"b":1},"a__b":2}"#], &rules, both, &[]);
    }
}
