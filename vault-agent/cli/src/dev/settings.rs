//! The agent's configuration under `vault dev`: the text of `agent.toml`, edited and not rewritten,
//! so that what people add by hand stays.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use host::hint::hinted;
use shared::path::SecretPath;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

/// A file to keep right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// The file; absolute.
    pub file: std::path::PathBuf,
    /// What it holds, later ones win.
    pub secrets: Vec<SecretPath>,
    /// Whether git has to be told to ignore it.
    pub git_ignore: bool,
    /// Whether a file that holds something else is replaced, and a copy kept.
    pub replace: bool,
}

/// Returns the configuration of an agent that uses `server`, and whose API listens at `listen` with
/// the token in `token_file`; everything else stays as it was.
///
/// # Errors
/// If the text is no TOML, or has something else in the place of a setting.
pub fn edit(
    text: &str,
    server: &str,
    listen: &str,
    token_file: &Path,
    outs: &[Out],
) -> Result<String> {
    let mut document: DocumentMut = text.parse().context("reading agent.toml")?;
    let mut servers = toml_edit::Value::from(Array::from_iter([server]));
    if let Some(old) = document.get("server").and_then(Item::as_value) {
        *servers.decor_mut() = old.decor().clone();
    }
    document["server"] = Item::Value(servers);
    let api = document.entry("api").or_insert_with(toml_edit::table);
    let api = api.as_table_like_mut().ok_or_else(|| wrong("api", "a table"))?;
    api.insert("listen", value(listen));
    api.insert("token_file", value(text_of(token_file)?));
    if outs.is_empty() {
        return Ok(document.to_string());
    }
    let targets =
        document.entry("target").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let targets =
        targets.as_array_of_tables_mut().ok_or_else(|| wrong("target", "a list of [[target]]"))?;
    for out in outs {
        set_target(targets, out)?;
    }
    Ok(document.to_string())
}

fn set_target(targets: &mut ArrayOfTables, out: &Out) -> Result<()> {
    if !targets.iter().any(|target| is_for(target, &out.file)) {
        targets.push(Table::from_iter([("path", value(text_of(&out.file)?))]));
    }
    for target in targets.iter_mut().filter(|target| is_for(target, &out.file)).take(1) {
        let secrets = out.secrets.iter().map(SecretPath::as_str);
        target.insert("secrets", value(Array::from_iter(secrets)));
        if out.git_ignore {
            target.insert("git", value("ignore"));
        }
        if out.replace {
            target.insert("existing", value("replace"));
        }
    }
    Ok(())
}

fn is_for(target: &Table, file: &Path) -> bool {
    target.get("path").and_then(Item::as_str).is_some_and(|path| Path::new(path) == file)
}

fn text_of(path: &Path) -> Result<String> {
    let text = path.to_str();
    Ok(text.ok_or_else(|| anyhow!("the name of `{}` is not UTF-8", path.display()))?.to_owned())
}

fn wrong(key: &str, expected: &str) -> anyhow::Error {
    hinted(format!("`{key}` in agent.toml is not {expected}"), "mend it, or remove the file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::config::Config;

    fn out(file: &str, secrets: &[&str], git_ignore: bool) -> Out {
        let secrets = secrets.iter().map(|path| path.parse().unwrap()).collect();
        Out { file: file.into(), secrets, git_ignore, replace: git_ignore }
    }

    fn edited(text: &str, outs: &[Out]) -> String {
        let token = Path::new("/d/agent/token");
        let text = edit(text, "127.0.0.1:41", "127.0.0.1:8200", token, outs).unwrap();
        Config::parse(&text, Path::new("/agent.toml")).unwrap();
        text
    }

    #[test]
    fn a_first_configuration_is_complete() {
        let text = edited("", &[out("/w/.env", &["secret/dev"], true)]);
        insta::assert_snapshot!(text, @r#"
        server = ["127.0.0.1:41"]

        [api]
        listen = "127.0.0.1:8200"
        token_file = "/d/agent/token"

        [[target]]
        path = "/w/.env"
        secrets = ["secret/dev"]
        git = "ignore"
        existing = "replace"
        "#);
    }

    #[test]
    fn what_people_wrote_stays() {
        let text = "# mine\nserver = [\"127.0.0.1:1\"]     # tried in order\n\n[[target]]\n\
            path = \"/w/.env\"\nsecrets = [\"secret/old\"]\nmode = \"0640\"\n\n[[target]]\n\
            path = \"/w/other\"\nsecrets = [\"secret/other\"]\n\n[log]\nlevel = \"debug\"\n";
        let text = edited(text, &[out("/w/.env", &["secret/a", "secret/b"], false)]);
        insta::assert_snapshot!(text, @r#"
        # mine
        server = ["127.0.0.1:41"]     # tried in order

        [[target]]
        path = "/w/.env"
        secrets = ["secret/a", "secret/b"]
        mode = "0640"

        [[target]]
        path = "/w/other"
        secrets = ["secret/other"]

        [log]
        level = "debug"

        [api]
        listen = "127.0.0.1:8200"
        token_file = "/d/agent/token"
        "#);
        assert_eq!(edited(&text, &[out("/w/.env", &["secret/a", "secret/b"], false)]), text);
    }

    #[test]
    fn other_things_in_a_settings_place_are_refused() {
        for text in ["api = 5\n", "target = 5\n"] {
            let outs = [out("/w/.env", &["secret/dev"], false)];
            let fault = edit(text, "a:1", "b:1", Path::new("/t"), &outs).unwrap_err();
            assert!(host::hint::hint(&fault).unwrap().starts_with("mend it"));
        }
    }
}
