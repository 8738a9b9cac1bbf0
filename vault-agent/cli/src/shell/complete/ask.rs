//! Asks the local API for names, within the time that a keystroke may take. Where nobody answers
//! there are no names.

use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::context::Global;
use crate::kv::Typed;
use machine::local;

/// How long a shell is kept waiting at most; tests on a busy machine look at answers, not at time.
const PATIENCE: Duration =
    if cfg!(test) { Duration::from_secs(20) } else { Duration::from_millis(45) };

/// Names for completion.
pub(super) struct Ask<'a> {
    global: &'a Global,
    mount: Option<String>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(global: &'a Global, mount: Option<String>) -> Self {
        Self { global, mount }
    }

    fn client(&self) -> Option<Client> {
        self.global.hasty_client(PATIENCE)
    }

    fn json(&self, path: &str, query: &[(&str, String)]) -> Option<Value> {
        self.client()?.ask(path, query).ok()?.success().ok()?.json().ok()
    }

    /// Returns the paths that go on from `current`: mounts, then folders and secrets.
    pub(super) fn paths(&self, current: &str) -> Vec<String> {
        let slash = current.rfind('/');
        let Some(folder) = slash.map(|at| &current[..=at]).or(self.mount.as_ref().map(|_| ""))
        else {
            return self.mounts().into_iter().map(|mount| mount + "/").collect();
        };
        let typed = Typed { mount: self.mount.clone(), path: folder.to_owned() };
        let list = [("list", "true".to_owned())];
        let answer = self.json(&typed.guess().api("metadata"), &list);
        texts(answer.as_ref().map(|answer| &answer["data"]["keys"]))
            .into_iter()
            .map(|name| format!("{folder}{name}"))
            .collect()
    }

    /// Returns the names of the keys of a secret; values are not asked for.
    pub(super) fn keys(&self, secret: &str) -> Vec<String> {
        let typed = Typed { mount: self.mount.clone(), path: secret.to_owned() };
        let depth = [("depth", "1".to_owned())];
        let answer = self.json(&typed.guess().api("subkeys"), &depth);
        let keys = answer.as_ref().and_then(|answer| answer["data"]["subkeys"].as_object());
        keys.map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
    }

    /// Returns the numbers of the versions of a secret, the newest first.
    pub(super) fn versions(&self, secret: &str) -> Vec<String> {
        let typed = Typed { mount: self.mount.clone(), path: secret.to_owned() };
        let answer = self.json(&typed.guess().api("metadata"), &[]);
        let versions = answer.as_ref().and_then(|answer| answer["data"]["versions"].as_object());
        let mut numbers: Vec<u64> = versions
            .into_iter()
            .flat_map(|all| all.keys())
            .filter_map(|n| n.parse().ok())
            .collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.into_iter().map(|n| n.to_string()).collect()
    }

    pub(super) fn mounts(&self) -> Vec<String> {
        let answer = self.json("sys/internal/ui/mounts", &[]);
        let mounts = answer.as_ref().and_then(|answer| answer["data"]["secret"].as_object());
        let kv = mounts.into_iter().flatten().filter(|(_, mount)| mount["type"] == "kv");
        kv.map(|(path, _)| path.trim_end_matches('/').to_owned()).collect()
    }

    pub(super) fn machines(&self) -> Vec<String> {
        let answer = self.json(local::MACHINES, &[]);
        let machines = answer.as_ref().and_then(|answer| answer["machines"].as_array());
        let names = machines.into_iter().flatten().filter(|machine| machine["active"] == true);
        names.filter_map(|machine| machine["name"].as_str()).map(str::to_owned).collect()
    }
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
