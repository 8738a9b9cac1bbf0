//! Tells one configuration of a target from another, over restarts and releases alike. Pure.

use serde_json::{Value, json};
use shared::hash::Hash;

use machine::config::{Hook, HookAction, Target};
use machine::render::{Layout, Multiline, Nested};

/// Returns the hash of all settings on which it depends how a hook ends: what the file holds, who
/// may read it, and what is run. Path and secrets are told apart elsewhere.
///
/// The encoding is frozen. A setting that is added later gets a pair of its own at the end, and
/// none at its default, so that a new release takes the same configuration for the same.
pub(super) fn settings(target: &Target) -> Hash {
    let Target {
        path: _,
        secrets: _,
        format,
        keys,
        owner,
        group,
        mode,
        existing: _,
        write: _,
        follow: _,
        on_change,
        after,
        max_stale: _,
        on_stale: _,
        rollback_on_failure: _,
        on_delete: _,
        git: _,
        drift: _,
        allow_names,
        multiline,
        rename,
        prefix,
        upper,
        nested,
        header,
        layout,
        require_mount: _,
        template,
        template_file,
    } = target;
    let pairs = json!([
        ["format", format.as_str()],
        ["keys", keys],
        ["owner", owner],
        ["group", group],
        ["mode", mode.unwrap_or(0o600)],
        ["on_change", on_change.as_ref().map(hook)],
        ["after", after],
        ["allow_names", allow_names],
        ["multiline", matches!(multiline, Multiline::Allow)],
        ["rename", rename],
        ["prefix", prefix],
        ["upper", upper],
        ["nested", matches!(nested, Nested::Flatten)],
        ["header", header],
        ["layout", matches!(layout, Layout::Block)],
        ["template", template],
        ["template_file", template_file],
    ]);
    Hash::of(&[pairs.to_string().as_bytes()])
}

fn hook(Hook { action, timeout, retries }: &Hook) -> Value {
    let run = match action {
        HookAction::Command(command) => json!(["command", command]),
        HookAction::Systemd { unit, action } => json!(["systemd", unit, action.as_str()]),
        HookAction::Signal { signal, pid_file } => json!(["signal", signal, pid_file]),
    };
    json!([run, timeout.as_millis().to_string(), retries])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use machine::config::Config;

    fn of(more: &str) -> Hash {
        let text = format!("[[target]]\npath = \"/a\"\nsecrets = [\"secret/a\"]\n{more}\n");
        settings(&Config::parse(&text, Path::new("t")).unwrap().targets[0])
    }

    /// Every setting that counts, away from its default.
    const ALL: &str = r#"format = "dotenv"
        keys = ["A", "B"]
        owner = "root"
        group = "0"
        mode = "0640"
        on_change = { command = ["a", "b c"], timeout = "90s", retries = 2 }
        after = ["/b"]
        allow_names = ["PATH"]
        multiline = "allow"
        rename = { B = "C", A = "D" }
        prefix = "P_"
        upper = true
        nested = "flatten"
        header = false
        layout = "block"
        [[target]]
        path = "/b"
        secrets = ["secret/b"]"#;

    #[test]
    fn the_encoding_is_frozen() {
        for (more, expected) in [
            ("", "299293c016ad1ecd86911a512a11e42c5c0afb5e99404a03306d17da24a6b2fb"),
            (ALL, "3c50264691b5cd01005f919c9838d72b0b76a08b01c9e5ce3d2734f0d0c89a1f"),
            (
                "on_change = { systemd = \"a.service\", action = \"reload\" }",
                "56e3375fe1963e4f2b06b6698083cc893d164ad5281855bfdd29b982efe5e022",
            ),
            (
                "on_change = { signal = \"HUP\", pid_file = \"/p\" }",
                "f52e7c591f8ec1dc01ce76ff7fca61f2c45b7aa372c022bb8c55b38de19fb61e",
            ),
            (
                "format = \"template\"\ntemplate = \"{{ A }}\"",
                "0006df69c00d60988c58bc6439180278d185b57113efc693ef41f9d9066dbb55",
            ),
            (
                "format = \"template\"\ntemplate_file = \"/t\"",
                "b08b861c9d78f05473d9aaef9c9f4be9f744ca2a4da4669fb626c07a3b7bbb4a",
            ),
        ] {
            assert_eq!(of(more).to_string(), expected, "{more}");
        }
    }

    #[test]
    fn every_setting_on_which_a_hook_depends_counts_and_no_other() {
        let mut seen = vec![of("")];
        let heads = [
            "format = \"sh\"",
            "keys = [\"A\"]",
            "owner = \"root\"",
            "group = \"root\"",
            "mode = \"0640\"",
            "on_change = \"a\"",
            "on_change = [\"a\"]",
            "on_change = { command = \"a\", timeout = \"1s\" }",
            "on_change = { command = \"a\", retries = 0 }",
            "allow_names = [\"A\"]",
            "multiline = \"allow\"",
            "rename = { A = \"B\" }",
            "prefix = \"A\"",
            "upper = true",
            "nested = \"flatten\"",
            "header = false",
            "layout = \"block\"",
        ];
        for more in heads {
            let hash = of(more);
            assert!(!seen.contains(&hash), "{more}");
            seen.push(hash);
        }
        for more in [
            "drift = \"report\"",
            "git = \"ignore\"",
            "existing = \"replace\"",
            "write = \"in_place\"",
            "follow = true",
            "on_delete = \"remove\"",
            "max_stale = \"1h\"\non_stale = \"keep\"",
            "mode = \"600\"",
            "format = \"dotenv\"",
        ] {
            assert_eq!(of(more), seen[0], "{more}");
        }
    }
}
