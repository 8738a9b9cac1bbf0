//! What could stand where the cursor is: commands, flags, and from the local API the names of
//! secrets, keys and machines. Shells ask `vault __complete`; their scripts are in `completions`.
//! Nothing is said, nothing fails, nothing waits.

mod ask;

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

use crate::context::Global;
use host::hint::Exit;
use shared::text::is_invisible;

use ask::Ask;

/// The hidden verb.
pub(crate) const VERB: &str = "__complete";

/// What the words before the cursor mean.
struct Line<'a> {
    command: &'a Command,
    /// Names of the commands on the way there.
    path: Vec<&'a str>,
    positionals: Vec<&'a str>,
    /// The flag whose value is being typed.
    flag: Option<&'a Arg>,
    mount: Option<String>,
}

/// Answers a shell: `vault __complete SHELL WORD…`, the last word being the one at the cursor; or
/// with bash the whole line.
pub(crate) fn run(global: &Global, args: &[OsString], mut cli: Command) -> Exit {
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let Some((shell, rest)) = words.split_first() else { return Exit::OK };
    let words = if shell == "bash" { split(&rest.concat()) } else { rest.to_vec() };
    cli.build();
    let (current, before) = words.split_last().map_or(("", &[][..]), |(last, all)| (last, all));
    let mut found = candidates(global, &cli, before, current);
    // A name that cannot be seen whole would be shown, and put on the line, as something else.
    found.retain(|(word, _)| word.starts_with(current) && !word.chars().any(is_invisible));
    // bash breaks words at these and wants what follows only.
    let cut = if shell == "bash" { current.rfind(['=', ':']).map_or(0, |at| at + 1) } else { 0 };
    let lines = found.iter().map(|(word, about)| match about {
        Some(about) if shell == "fish" => format!("{}\t{about}\n", &word[cut..]),
        Some(_) | None => format!("{}\n", &word[cut..]),
    });
    // A shell that went away needs no answer.
    let _ = global.term.data(lines.collect::<String>());
    Exit::OK
}

/// Splits a line as a shell does, as far as that matters here; the first word, the program, is left
/// out.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let word = words.last_mut().expect("there is always a word");
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => word.extend(chars.next()),
            (None, ' ' | '\t') if !word.is_empty() => words.push(String::new()),
            (None, ' ' | '\t') => {}
            (_, c) => word.push(c),
        }
    }
    if words.len() > 1 { words.split_off(1) } else { vec![String::new()] }
}

fn candidates(
    global: &Global,
    cli: &Command,
    before: &[String],
    current: &str,
) -> Vec<(String, Option<String>)> {
    let Some(line) = read(cli, before) else { return Vec::new() };
    let ask = Ask { global, mount: line.mount.clone() };
    let bare = |words: Vec<String>| words.into_iter().map(|word| (word, None)).collect();
    if let Some(flag) = line.flag {
        return bare(values(&ask, &line, flag, current));
    }
    if current.starts_with('-') {
        if let Some((name, value)) = current.split_once('=') {
            let flag = find(line.command, name);
            let all = flag.map(|flag| values(&ask, &line, flag, value)).unwrap_or_default();
            return bare(all.into_iter().map(|value| format!("{name}={value}")).collect());
        }
        return flags(line.command, current);
    }
    if line.positionals.is_empty() && line.command.has_subcommands() {
        let commands = line.command.get_subcommands().filter(|command| !command.is_hide_set());
        let about = |command: &Command| command.get_about().map(ToString::to_string);
        return commands.map(|c| (c.get_name().to_owned(), about(c))).collect();
    }
    let places = line.command.get_positionals().filter(|arg| !arg.is_last_set());
    let place = places.take(line.positionals.len() + 1).last();
    bare(place.map(|place| values(&ask, &line, place, current)).unwrap_or_default())
}

/// Goes through the words before the cursor; `None` behind `--`, where words are somebody else's.
fn read<'a>(cli: &'a Command, before: &'a [String]) -> Option<Line<'a>> {
    let (path, positionals) = (Vec::new(), Vec::new());
    let mut line = Line { command: cli, path, positionals, flag: None, mount: None };
    for word in before {
        if let Some(flag) = line.flag.take() {
            if flag.get_id() == "mount" {
                line.mount = Some(word.clone());
            }
            continue;
        }
        if word == "--" {
            return None;
        }
        if word.starts_with('-') && word.len() > 1 {
            let (name, value) =
                word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
            let Some(flag) = find(line.command, name) else { continue };
            match value {
                Some(value) if flag.get_id() == "mount" => line.mount = Some(value.to_owned()),
                None if takes_value(flag) => line.flag = Some(flag),
                Some(_) | None => {}
            }
            continue;
        }
        match line.command.find_subcommand(word).filter(|_| line.positionals.is_empty()) {
            Some(command) => {
                line.command = command;
                line.path.push(command.get_name());
            }
            None => line.positionals.push(word),
        }
    }
    Some(line)
}

fn find<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.trim_start_matches('-');
    let mut all = command.get_arguments();
    all.find(|arg| {
        let short: Option<char> = name.parse().ok();
        arg.get_long() == Some(name)
            || (short.is_some() && arg.get_short() == short)
            || arg.get_visible_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

/// Tells whether the next word belongs to the flag.
fn takes_value(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Set | ArgAction::Append) && !flag.is_require_equals_set()
}

/// The flags, with as many dashes as were typed.
fn flags(command: &Command, current: &str) -> Vec<(String, Option<String>)> {
    let dashes = if current.starts_with("--") { "--" } else { "-" };
    // Help leaves out the flags of every command; here they follow a command's own.
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set() || arg.is_global_set());
    shown
        .filter_map(|arg| {
            let name = arg.get_long()?;
            let end = if takes_value(arg) { "=" } else { "" };
            let about = arg.get_help().map(ToString::to_string);
            Some((format!("{dashes}{name}{end}"), about))
        })
        .collect()
}

/// What an argument could be: by its possible values, else by what its value is called.
fn values(ask: &Ask<'_>, line: &Line<'_>, arg: &Arg, current: &str) -> Vec<String> {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        return possible.iter().map(|value| value.get_name().to_owned()).collect();
    }
    let secret = line.positionals.first().map(|secret| match secret.rsplit_once('@') {
        Some((path, _)) if line.path.first() == Some(&"blast") => path,
        _ => *secret,
    });
    let keys = || secret.map(|secret| ask.keys(secret)).unwrap_or_default();
    let called = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name);
    match (called, arg.get_id().as_str()) {
        ("PATH" | "FROM" | "TO" | "SECRET", _) if line.path.first() != Some(&"list") => {
            // Paths of `vault read` and its like are the API's, not ours.
            let generic = matches!(line.path.as_slice(), ["read" | "write" | "delete"]);
            if generic { Vec::new() } else { ask.paths(current) }
        }
        ("PATH[@V]", _) => match current.rsplit_once('@') {
            Some((path, _)) => {
                ask.versions(path).into_iter().map(|ver| format!("{path}@{ver}")).collect()
            }
            None => ask.paths(current),
        },
        ("PREFIX", _) => list(current, |part| ask.paths(part)),
        ("KEY", _) => keys(),
        ("DATA", _) => keys().into_iter().map(|key| key + "=").collect(),
        ("MOUNT", _) => ask.mounts(),
        ("MACHINE" | "OLD" | "NAME|NUMBER", _) | ("NAME", "machine" | "name") => ask.machines(),
        ("N" | "N,…", "version" | "versions") => {
            let versions = secret.map(|secret| ask.versions(secret)).unwrap_or_default();
            list(current, |_| versions.clone())
        }
        ("FORMAT", _) => ["table", "json", "yaml", "env", "raw"].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    }
}

/// Completes the last of several values with commas between them.
fn list(current: &str, of: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let at = current.rfind(',').map_or(0, |at| at + 1);
    let (before, part) = current.split_at(at);
    of(part).into_iter().map(|value| format!("{before}{value}")).collect()
}

#[cfg(test)]
mod tests;
