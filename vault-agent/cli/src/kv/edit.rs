//! `vault kv edit`: a secret in an editor. The text lies in memory-backed storage, for this user
//! alone; it is wiped when it has been written, and kept when anything went wrong, so that no edit
//! is lost.

mod draft;

use std::path::PathBuf;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::content::{self, Dialect};
use super::diff::changes;
use super::read;
use super::route::{Route, Typed};
use super::secret::Secret;
use super::write::{self, Put};
use crate::client::Client;
use crate::context::Global;
use crate::print::{Format, exit, yaml};
use host::hint::{Exit, Failure};
use machine::render;

use draft::Draft;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The editor is $VISUAL or $EDITOR, else vi. The text is JSON; -format=yaml and -format=env change that.
If the editor fails, the text is kept and its file named. If somebody else wrote meanwhile, you are asked what to do."
)]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// Start with this text, which an earlier edit has kept
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// A secret being edited.
struct Edit<'a> {
    global: &'a Global,
    client: Client,
    route: Route,
    dialect: Dialect,
    /// What is stored.
    old: Map<String, Value>,
    /// The version that this is, 0 for none.
    version: u64,
}

/// How an edit ended well.
enum Done {
    Unchanged,
    /// The API's answer to the write.
    Written(Box<Option<Secret>>),
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let (dialect, extension) = match global.format()? {
        Format::Table | Format::Json => (Dialect::Json, "json"),
        Format::Yaml => (Dialect::Yaml, "yaml"),
        Format::Env => (Dialect::Env, "env"),
        Format::Pretty | Format::Raw => {
            return Err(Failure::local("a secret is edited as json, yaml or env").into());
        }
    };
    let client = global.client()?;
    let (route, secret) = read::before(&client, &args.place, 0)?;
    route.requires_versions("edit support")?;
    let (old, version) = held(secret.as_ref());
    let mut edit = Edit { global, client, route, dialect, old, version };
    let start = match &args.from {
        Some(file) => Zeroizing::new(
            std::fs::read(file)
                .map_err(|why| Failure::local(format!("`{}`: {why}", file.display())))?,
        ),
        None => edit.text()?,
    };
    let mut draft = Draft::new(global, extension, &start)?;
    match edit.rounds(&mut draft) {
        Ok(done) => {
            draft.wipe()?;
            // What an earlier edit has kept has served its purpose.
            let kept = args.from.as_ref().and_then(|file| Draft::folder_of(file));
            kept.map_or(Ok(()), |folder| host::files::wipe_folder(&folder))?;
            match done {
                Done::Unchanged => {
                    global.term.say("nothing was changed");
                    Ok(Exit::OK)
                }
                Done::Written(answer) => {
                    write::written(global, &edit.route.api("data"), *answer, None)
                }
            }
        }
        Err(error) if draft.is_worth_keeping() => {
            let (file, secret) = (draft.file.display(), edit.route.logical());
            global.term.say_hinted(
                format!("your text is kept in `{file}`"),
                format!("`vault kv edit -from {file} {secret}` goes on with it"),
            );
            Err(error)
        }
        Err(error) => {
            draft.wipe()?;
            Err(error)
        }
    }
}

fn held(secret: Option<&Secret>) -> (Map<String, Value>, u64) {
    let data = secret.and_then(|secret| secret.part("data")).cloned().unwrap_or_default();
    (data, secret.and_then(Secret::version).unwrap_or(0))
}

impl Edit<'_> {
    /// Shows what is stored as the text to edit.
    fn text(&self) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let value = Value::Object(self.old.clone());
        let text = match self.dialect {
            // Not as Go prints it: `&` is to be seen as what it is.
            Dialect::Json => serde_json::to_string_pretty(&value)? + "\n",
            Dialect::Yaml if self.old.is_empty() => String::new(),
            Dialect::Yaml => yaml::yaml(&value),
            Dialect::Env => {
                let secrets = [content::fields(&self.route, &self.old)?];
                let rules = render::Rules {
                    multiline: render::Multiline::Allow,
                    ..render::Rules::default()
                };
                let text = render::render(render::Format::Dotenv, &secrets, &rules);
                let text = text.map_err(|refused| {
                    Failure::local(format!("the secret {refused}")).hint("edit it as JSON")
                })?;
                return Ok(Zeroizing::new(text.content.expose().to_vec()));
            }
        };
        Ok(Zeroizing::new(text.into_bytes()))
    }

    /// Lets the user edit until the text is written, unchanged, or given up.
    fn rounds(&mut self, draft: &mut Draft) -> anyhow::Result<Done> {
        loop {
            match self.round(draft) {
                Ok(Some(done)) => return Ok(done),
                // Somebody else wrote: the text now goes on top of that.
                Ok(None) => {}
                Err(error) if !self.global.can_ask() => return Err(error),
                Err(error) => {
                    self.global.term.say(exit::shown(&error));
                    let question = "[e]dit again, or [q]uit and keep the text?";
                    if self.ask(question, &["e", "q"])? == "q" {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn round(&mut self, draft: &mut Draft) -> anyhow::Result<Option<Done>> {
        draft.edit(self.global)?;
        let text = draft.read()?;
        let mut new = content::read(self.dialect, &text, render::Backslashes::Refuse)?;
        if new == self.old {
            return Ok(Some(Done::Unchanged));
        }
        loop {
            match write::put_after(&self.client, &self.route.api("data"), &new, self.version)? {
                Put::Written(answer) => return Ok(Some(Done::Written(answer))),
                Put::Conflict => match self.conflict(new)? {
                    Some(next) => new = next,
                    None => return Ok(None),
                },
            }
        }
    }

    /// Reads what somebody else wrote, says which keys it changed, and asks what to do: returns
    /// what to write on top of that, `None` to let the user edit again.
    fn conflict(&mut self, new: Map<String, Value>) -> anyhow::Result<Option<Map<String, Value>>> {
        let typed = Typed { mount: None, path: self.route.logical() };
        let (_, secret) = read::before(&self.client, &typed, 0)?;
        let (theirs, version) = held(secret.as_ref());
        let keys: Vec<_> = changes(&self.old, &theirs).iter().map(|change| change.key).collect();
        let text = format!(
            "`{}` was changed meanwhile: version {} after {}, keys: {}",
            self.route.logical(),
            version,
            self.version,
            keys.join(", ")
        );
        let both = merged(&self.old, &new, &theirs);
        (self.old, self.version) = (theirs, version);
        if !self.global.can_ask() {
            return Err(Failure::remote(text).into());
        }
        self.global.term.say(text);
        let rest = "[e]dit your text again, [o]verwrite, or [q]uit and keep the text?";
        let answer = match &both {
            Some(_) => {
                let question = format!("[m]erge: your keys and theirs, {rest}");
                self.ask(&question, &["m", "e", "o", "q"])?
            }
            None => {
                self.global.term.say("both of you changed a key, so they cannot be merged");
                self.ask(rest, &["e", "o", "q"])?
            }
        };
        match answer {
            "m" => Ok(both),
            "e" => Ok(None),
            "o" => Ok(Some(new)),
            _ => Err(Failure::remote("nothing was written").into()),
        }
    }

    fn ask(
        &self,
        question: &str,
        answers: &'static [&'static str],
    ) -> anyhow::Result<&'static str> {
        loop {
            self.global.term.say(question);
            let typed = self.global.term.read_line()?.unwrap_or_else(|| "q".to_owned());
            if let Some(answer) = answers.iter().find(|answer| **answer == typed.trim()) {
                return Ok(answer);
            }
        }
    }
}

/// Returns `theirs` with the keys that `new` changes of `old`; `None` if both changed a key, not
/// alike.
fn merged(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    theirs: &Map<String, Value>,
) -> Option<Map<String, Value>> {
    let mut both = theirs.clone();
    for key in old.keys().chain(new.keys()) {
        let (was, mine, other) = (old.get(key), new.get(key), theirs.get(key));
        if mine == was || mine == other {
            continue;
        }
        if other != was {
            return None;
        }
        match mine {
            Some(mine) => both.insert(key.clone(), mine.clone()),
            None => both.remove(key),
        };
    }
    Some(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_different_keys_are_merged() {
        let map = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let old = map(r#"{"a":1,"b":2,"c":3}"#);
        for (new, theirs, expected) in [
            (r#"{"a":9,"b":2,"c":3}"#, r#"{"a":1,"b":8,"c":3}"#, Some(r#"{"a":9,"b":8,"c":3}"#)),
            (r#"{"a":1,"c":3,"d":4}"#, r#"{"a":1,"b":2}"#, Some(r#"{"a":1,"d":4}"#)),
            (r#"{"a":9,"b":2,"c":3}"#, r#"{"a":9,"b":2}"#, Some(r#"{"a":9,"b":2}"#)),
            (r#"{"a":9,"b":2,"c":3}"#, r#"{"a":8,"b":2,"c":3}"#, None),
            (r#"{"b":2,"c":3}"#, r#"{"a":8,"b":2,"c":3}"#, None),
        ] {
            assert_eq!(merged(&old, &map(new), &map(theirs)), expected.map(map), "{new} {theirs}");
        }
    }
}
