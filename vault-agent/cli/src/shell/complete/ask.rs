//! Asks the local API for names, within the time that a keystroke may take. Where nobody answers
//! there are no names.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::context::Global;
use crate::kv::{Route, Typed};
use machine::local;

/// How long a shell is kept waiting at most; tests on a busy machine look at answers, not at time.
const PATIENCE: Duration =
    if cfg!(test) { Duration::from_secs(20) } else { Duration::from_millis(45) };

/// Names for completion.
pub(super) struct Ask<'a> {
    pub(super) global: &'a Global,
    pub(super) mount: Option<String>,
}

impl Ask<'_> {
    fn json(&self, path: &str, query: &[(&str, String)]) -> Option<Value> {
        let client = self.global.hasty_client(PATIENCE)?;
        client.ask(path, query).ok()?.success().ok()?.json().ok()
    }

    /// Returns an object in the data of an answer.
    fn object(&self, path: &str, query: &[(&str, String)], name: &str) -> Map<String, Value> {
        let mut answer = self.json(path, query).unwrap_or_default();
        let object = answer.pointer_mut(&format!("/data/{name}")).map(Value::take);
        if let Some(Value::Object(fields)) = object { fields } else { Map::new() }
    }

    fn route(&self, path: &str) -> Route {
        Typed { mount: self.mount.clone(), path: path.to_owned() }.guess()
    }

    /// Returns the paths that go on from `current`: mounts, then folders and secrets.
    pub(super) fn paths(&self, current: &str) -> Vec<String> {
        let slash = current.rfind('/');
        let Some(folder) = slash.map(|at| &current[..=at]).or(self.mount.as_ref().map(|_| ""))
        else {
            return self.mounts().into_iter().map(|mount| mount + "/").collect();
        };
        let list = [("list", "true".to_owned())];
        let answer = self.json(&self.route(folder).api("metadata"), &list).unwrap_or_default();
        let names = answer["data"]["keys"].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(|name| format!("{folder}{name}")).collect()
    }

    /// Returns the names of the keys of a secret; values are not asked for.
    pub(super) fn keys(&self, secret: &str) -> Vec<String> {
        let depth = [("depth", "1".to_owned())];
        let keys = self.object(&self.route(secret).api("subkeys"), &depth, "subkeys");
        keys.into_iter().map(|(key, _)| key).collect()
    }

    /// Returns the numbers of the versions of a secret, the newest first.
    pub(super) fn versions(&self, secret: &str) -> Vec<String> {
        let versions = self.object(&self.route(secret).api("metadata"), &[], "versions");
        let mut numbers: Vec<u64> = versions.keys().filter_map(|n| n.parse().ok()).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.iter().map(u64::to_string).collect()
    }

    pub(super) fn mounts(&self) -> Vec<String> {
        let mounts = self.object("sys/internal/ui/mounts", &[], "secret");
        let kv = mounts.iter().filter(|(_, mount)| mount["type"] == "kv");
        kv.map(|(path, _)| path.trim_end_matches('/').to_owned()).collect()
    }

    pub(super) fn machines(&self) -> Vec<String> {
        let answer = self.json(local::MACHINES, &[]).unwrap_or_default();
        let machines = answer["machines"].as_array().into_iter().flatten();
        let names = machines.filter(|machine| machine["active"] == true);
        names.filter_map(|machine| machine["name"].as_str()).map(str::to_owned).collect()
    }
}
