//! `vault export`: secrets as a file that other programs read. Later paths win over earlier ones.

use std::path::{Path, PathBuf};

use shared::path::SecretPath;

use crate::client::Client;
use crate::context::Global;
use crate::kv::{Typed, content, read, say_age};
use host::files::{self, Access, Exchanged, FileError, LARGEST, Swapped};
use host::hint::{Exit, Failure};
use machine::render::{self, Contact, Field, Format, Multiline, Nested, Rules};
use machine::written::Written;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "-format is dotenv (default), compose, docker, systemd, sh, json, yaml, toml, raw or template.

Examples:
  vault export secret/app > .env
  vault export --format sh secret/app secret/vps    later paths win
  vault export --format raw --key ca secret/tls     one value, byte for byte
  vault export --out .env secret/app                at once; a new file is for you alone (0600)"
)]
pub struct Args {
    /// Mount of the KV engine; PATH is then below it
    #[arg(long, value_name = "MOUNT")]
    mount: Option<String>,
    /// Secrets, e.g. secret/app
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// Write this file instead of printing
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a file of --out that holds something else; a copy stays beside it
    #[arg(long, requires = "out")]
    replace: bool,
    /// Only this key; repeatable
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Allow this name although it changes what programs run, e.g. PATH; repeatable
    #[arg(long, value_name = "NAME")]
    allow_name: Vec<String>,
    /// Write KEY as NAME; repeatable
    #[arg(long, value_name = "KEY=NAME", value_parser = pair)]
    rename: Vec<(String, String)>,
    /// Put this before all other names
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Write all other names in upper case
    #[arg(long)]
    upper: bool,
    /// Lists and objects: refuse, or flatten to names joined by __ [default: refuse]
    #[arg(long, value_name = "HOW", value_parser = nested)]
    nested: Option<Nested>,
    /// Values of several lines in a .env file: refuse, or allow [default: refuse]
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "allow",
          value_parser = multiline)]
    multiline: Option<Multiline>,
    /// Template for -format=template
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
}

pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, name) = text.split_once('=').ok_or("expected KEY=NAME")?;
    Ok((key.to_owned(), name.to_owned()))
}

pub(crate) fn nested(text: &str) -> Result<Nested, String> {
    match text {
        "refuse" => Ok(Nested::Refuse),
        "flatten" => Ok(Nested::Flatten),
        _ => Err("expected refuse or flatten".to_owned()),
    }
}

fn multiline(text: &str) -> Result<Multiline, String> {
    match text {
        "refuse" => Ok(Multiline::Refuse),
        "allow" => Ok(Multiline::Allow),
        _ => Err("expected refuse or allow".to_owned()),
    }
}

pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format: Format = match &global.flags.format {
        Some(text) => text.parse().map_err(Failure::local)?,
        None => Format::default(),
    };
    let client = global.client()?;
    let mut secrets = Vec::with_capacity(args.paths.len());
    for path in &args.paths {
        let place = Typed { mount: args.mount.clone(), path: path.clone() };
        secrets.push(fields(global, &client, &place)?);
    }
    let template = template(format, args.template.as_deref())?;
    let rules = Rules {
        keys: (!args.keys.is_empty()).then_some(args.keys.as_slice()),
        rename: &args.rename,
        prefix: &args.prefix,
        upper: args.upper,
        nested: args.nested.unwrap_or_default(),
        multiline: args.multiline.unwrap_or_default(),
        allow_names: &args.allow_name,
        template: &template,
        ..Rules::default()
    };
    let text = content::rendered(global, format, &secrets, &rules)?;
    match &args.out {
        None => global.term.value(text.expose())?,
        Some(file) => {
            let file = files::absolute(file)?;
            let records = records(global);
            let rules = (args.replace, records.as_ref());
            let Wrote { copy, unnoted } = write(&file, format, text.expose(), rules)?;
            global.term.say(format!("wrote `{}`", file.display()));
            if let Some(copy) = copy {
                global.term.say(format!("what it held before is in `{}`", copy.display()));
            }
            if let Some(why) = unnoted {
                global.term.say(format!("{why}; the next export over it may need `--replace`"));
            }
        }
    }
    Ok(Exit::OK)
}

/// Returns where it is noted what this user's exports wrote; nowhere for one without a home.
fn records(global: &Global) -> Option<Written> {
    let place = |name| global.env(name).map(PathBuf::from).filter(|place| place.is_absolute());
    let state = place("XDG_STATE_HOME").or_else(|| Some(place("HOME")?.join(".local/state")))?;
    Some(Written::new(&state.join("vault")))
}

/// What became of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wrote {
    /// The copy of what it held before, if anything of that would be lost.
    copy: Option<PathBuf>,
    /// Why it is not noted what it holds now.
    unnoted: Option<String>,
}

/// Writes a file, 0600 if it is new. What an export wrote and nobody has changed is nobody else's.
///
/// # Errors
/// Refuses to lose anything, unless `replace` has a copy kept.
fn write(
    file: &Path,
    format: Format,
    content: &[u8],
    (replace, records): (bool, Option<&Written>),
) -> Result<Wrote, Failure> {
    let fault = |why: FileError| Failure::local(why.to_string()).hint(why.hint());
    let note = |found: Option<&[u8]>, access| {
        let records = records?;
        records.forget_gone(&[]);
        records.note(file, found, content, access).err().map(|why| format!("{why:#}"))
    };
    let Some(before) = files::read(file, LARGEST).map_err(fault)? else {
        let unnoted = note(None, Access::PRIVATE);
        let made = files::create_when(file, content, Access::PRIVATE, || Ok(()));
        return match made.map_err(fault)? {
            Swapped::Done => Ok(Wrote { copy: None, unnoted }),
            Swapped::Moved => Err(moved(file)),
        };
    };
    let found = before.content.expose();
    let known = records.and_then(|records| records.of(file));
    let is_ours = known.is_some_and(|known| known.is(found));
    let met = render::contact(format, found, content);
    if let Some(loss) = met.loss().filter(|_| !replace && !is_ours) {
        let text = format!("`{}` holds something else: {loss}", file.display());
        return Err(Failure::local(text).hint(
            "`--replace` keeps a copy beside it, `vault import` publishes it first; a file that \
             is to follow its secrets is one for `vault-agent target add`",
        ));
    }
    let kept = if is_ours || met == (Contact::Covered { lines: false }) {
        None
    } else {
        let kept = files::keep_before(file, &before, host::clock::now());
        Some(kept.map_err(|why| Failure::local(why.to_string()).hint(why.hint()))?)
    };
    let unnoted = note(Some(found), before.access);
    match files::exchange(file, found, content, before.access).map_err(fault)? {
        Exchanged::Done(_) => Ok(Wrote { copy: kept.map(|kept| kept.copy), unnoted }),
        Exchanged::Moved => Err(moved(file)),
    }
}

fn moved(file: &Path) -> Failure {
    Failure::local(format!("`{}` is being edited", file.display())).hint("run the command again")
}

/// Reads the template; one is needed by the format of that name, and by no other.
fn template(format: Format, file: Option<&Path>) -> Result<String, Failure> {
    match (format, file) {
        (Format::Template, None) => Err(Failure::local("format `template` needs a template")
            .hint("name it with `--template FILE`")),
        (Format::Template, Some(file)) => std::fs::read_to_string(file)
            .map_err(|why| Failure::local(format!("template `{}`: {why}", file.display()))),
        (_, Some(_)) => Err(Failure::local(format!("format `{format}` has no template"))),
        (_, None) => Ok(String::new()),
    }
}

/// Reads a secret's newest version as fields.
pub(crate) fn fields(
    global: &Global,
    client: &Client,
    place: &Typed,
) -> anyhow::Result<(SecretPath, Vec<Field>)> {
    let (route, data) = read::content(client, place, |answer| {
        say_age(global, answer);
        Ok(())
    })?;
    content::fields(&route, &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_file_held_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().canonicalize().unwrap().join(".env");
        let put = |content: &str, replace| {
            write(&file, Format::Dotenv, content.as_bytes(), (replace, None))
        };
        let is = |content: &str| assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
        assert_eq!(put("A=1\n", false).unwrap(), Wrote::default());
        assert_eq!(put("A=1\nB=2\n", false).unwrap(), Wrote::default());
        let refused = put("A=2\n", false).unwrap_err();
        let shown = format!("{} {:?}", refused.text, refused.hint);
        assert!(shown.contains("`B` would go, `A` would change") && shown.contains("--replace"));
        is("A=1\nB=2\n");
        let copy = put("A=2\n", true).unwrap().copy.unwrap();
        is("A=2\n");
        assert_eq!(std::fs::read_to_string(copy).unwrap(), "A=1\nB=2\n");
        files::replace(&file, b"# mine\nA=2\n", Access { mode: 0o640, ..Access::PRIVATE }).unwrap();
        assert!(put("A=2\n", false).unwrap().copy.is_some());
        is("A=2\n");
        let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap());
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn an_export_goes_over_an_older_one_that_nobody_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (file, written) = (root.join(".env"), Written::new(&root.join("state")));
        let put = |content: &str| {
            write(&file, Format::Dotenv, content.as_bytes(), (false, Some(&written)))
        };
        for content in ["A=1\nB=2\n", "A=2\n", "A=2\n", "C=3\n"] {
            assert_eq!(put(content).unwrap(), Wrote::default(), "{content}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
        }
        files::replace(&file, b"C=3\nMINE=1\n", Access::PRIVATE).unwrap();
        // Refused more than once: what was not written is no record of ours.
        for _ in 0..3 {
            let refused = put("C=4\n").unwrap_err();
            assert!(refused.text.contains("`MINE` would go"), "{}", refused.text);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "C=3\nMINE=1\n");
        }
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 2, "no copy was needed");
        // Without a place for records it goes on, and says so.
        files::replace(&root.join("plain"), b"", Access::PRIVATE).unwrap();
        let nowhere = Written::new(&root.join("plain"));
        let other = root.join("other");
        let wrote = write(&other, Format::Dotenv, b"A=1\n", (false, Some(&nowhere))).unwrap();
        assert!(wrote.unnoted.unwrap().contains("cannot note what"));
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "A=1\n");
    }
}
