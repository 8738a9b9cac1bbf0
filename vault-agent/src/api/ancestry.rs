//! Which AI agent a process works for, from `/proc`: its own program and environment, those of its
//! parents, and the leader of its session (proc(5)). A process that clears its environment and
//! leaves its parents behind is not found: this is a record, not a wall.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use machine::ai_tools;
use shared::audit::Agent;

/// How many parents are looked at.
const DEPTH: usize = 64;
/// How much of an environment is read, and of a command line.
const ENVIRONMENT: u64 = 256 << 10;
const COMMAND: u64 = 8 << 10;

/// Finds AI agents among processes.
#[derive(Clone, Debug)]
pub(super) struct Ancestry {
    proc: PathBuf,
    /// Further programs that count, as the configuration names them.
    more: Vec<String>,
}

/// A process, as it was for as long as it was looked at.
struct Process {
    parent: i32,
    session: i32,
    /// When it started, in ticks since boot: a number that was given to another process since is
    /// known by it.
    started: u64,
    name: String,
    arguments: Vec<String>,
    environment: HashMap<String, String>,
}

impl Ancestry {
    /// `more` are names of programs beside those of the table.
    pub(super) fn new(more: &[String]) -> Self {
        Self { proc: "/proc".into(), more: more.iter().map(|name| name.to_lowercase()).collect() }
    }

    /// Returns the AI agent nearest to a process. Reads files: not for the thread that answers.
    pub(super) fn agent_of(&self, pid: i32) -> Option<Agent> {
        let own = self.process(pid)?;
        let (mut born, leader) = (own.started, own.session);
        let (mut process, mut seen) = (own, vec![pid]);
        loop {
            if let Some(found) = self.judged(&process) {
                return Some(found);
            }
            let parent = process.parent;
            if parent <= 0 || seen.len() >= DEPTH {
                break;
            }
            // Nobody is younger than their child.
            let Some(next) = self.process(parent).filter(|it| it.started <= born) else { break };
            seen.push(parent);
            (born, process) = (next.started, next);
        }
        // A process whose parent has ended stays in the session that it was started in.
        let leader = Some(leader).filter(|leader| *leader > 1 && !seen.contains(leader))?;
        self.judged(&self.process(leader)?)
    }

    /// Returns what a record calls an agent that says of itself what it is called.
    pub(super) fn claimed(&self, name: &str) -> Agent {
        Agent::lossy(&ai_tools::recorded(name, &self.more))
    }

    fn judged(&self, process: &Process) -> Option<Agent> {
        let programs = programs(&process.name, &process.arguments);
        let by_name = programs.iter().find_map(|name| {
            let more = self.more.iter().find(|more| *more == name);
            more.map(String::as_str).or_else(|| ai_tools::by_program(name)).map(Agent::lossy)
        });
        let lookup = |name: &str| process.environment.get(name).cloned();
        by_name.or_else(|| ai_tools::by_environment(lookup).map(|name| self.claimed(&name)))
    }

    /// Reads a process; `None` if it has ended.
    fn process(&self, pid: i32) -> Option<Process> {
        let folder = self.proc.join(pid.to_string());
        let (name, [parent, session], started) = stat(&folder)?;
        let parts = |file: &str, most: u64| -> Vec<String> {
            let bytes = start_of(&folder.join(file), most);
            let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
            parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
        };
        let arguments = parts("cmdline", COMMAND);
        // That of another user's process is nobody's to read but root's.
        let variables = parts("environ", ENVIRONMENT);
        let pair = |text: &String| {
            let (name, value) = text.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        let environment = variables.iter().filter_map(pair).collect();
        let is_same = stat(&folder).is_some_and(|(_, _, again)| again == started);
        is_same.then_some(Process { parent, session, started, name, arguments, environment })
    }
}

/// Reads name, parent, session and start; a name may hold spaces and parentheses.
fn stat(folder: &Path) -> Option<(String, [i32; 2], u64)> {
    let text = String::from_utf8_lossy(&start_of(&folder.join("stat"), 4096)).into_owned();
    let (head, rest) = text.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    let started = fields.get(19)?.parse().ok()?;
    Some((name.to_owned(), [number(1)?, number(3)?], started))
}

/// Reads the start of a file; nothing if it cannot be read.
fn start_of(path: &Path, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read before a fault counts.
    let _ = File::open(path).map(|file| file.take(most).read_to_end(&mut bytes));
    bytes
}

/// Returns what a process runs, as names without folder and ending: its program, and the script of
/// an interpreter, with the package that the script lies in.
fn programs(name: &str, arguments: &[String]) -> Vec<String> {
    let mut found = vec![bare(name)];
    let Some((first, rest)) = arguments.split_first() else { return found };
    let program = bare(first.trim_start_matches('-'));
    if is_interpreter(&program) {
        let mut rest = rest.iter().skip_while(|word| word.starts_with('-') && *word != "-m");
        let script =
            rest.next().and_then(|word| if word == "-m" { rest.next() } else { Some(word) });
        if let Some(script) = script {
            found.push(bare(script));
            found.extend(package(script));
        }
    }
    found.push(program);
    found
}

/// Returns the last part of a path, in small letters and without the ending of a script.
fn bare(path: &str) -> String {
    let name = path.trim_end().rsplit('/').next().unwrap_or_default().to_lowercase();
    let endings = [".js", ".mjs", ".cjs", ".ts", ".py", ".sh", ".rb", ".exe", ".appimage"];
    let ending = endings.iter().find(|ending| name.ends_with(**ending));
    ending.and_then(|ending| name.strip_suffix(ending)).unwrap_or(&name).to_owned()
}

/// Returns the package that a script lies in, without the scope of one of npm's.
fn package(script: &str) -> Option<String> {
    let below = |folder: &str| script.rsplit_once(folder).map(|(_, rest)| rest);
    let rest = below("/node_modules/").or_else(|| below("/site-packages/"))?;
    rest.split('/').find(|part| !part.starts_with('@')).map(str::to_lowercase)
}

fn is_interpreter(program: &str) -> bool {
    const NAMES: [&str; 16] = [
        "sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox", "node", "nodejs", "bun",
        "deno", "tsx", "ruby", "perl", "env",
    ];
    NAMES.contains(&program) || program.starts_with("python") || program.starts_with("pypy")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// One process: number, parent, session, start, name, arguments, environment.
    type Row<'a> = (i32, i32, i32, u64, &'a str, &'a [&'a str], &'a [&'a str]);

    fn found(rows: &[Row<'_>], more: &[&str], pid: i32) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for (pid, parent, session, started, name, arguments, environment) in rows {
            let own = folder.path().join(pid.to_string());
            fs::create_dir(&own).unwrap();
            let zeros = "0 ".repeat(15);
            let stat = format!("{pid} ({name}) S {parent} 1 {session} {zeros}{started} 0 0\n");
            let put = |name: &str, text: String| {
                host::files::write_private(&own.join(name), text.as_bytes()).unwrap();
            };
            put("stat", stat);
            put("cmdline", arguments.join("\0") + "\0");
            put("environ", environment.join("\0") + "\0");
        }
        let more: Vec<String> = more.iter().map(|name| (*name).to_owned()).collect();
        let ancestry = Ancestry { proc: folder.path().to_owned(), ..Ancestry::new(&more) };
        ancestry.agent_of(pid).map(|agent| agent.to_string())
    }

    const INIT: Row<'_> = (1, 0, 1, 1, "systemd", &["/sbin/init"], &[]);

    #[test]
    fn an_agent_is_found_among_the_parents() {
        let vault: Row<'_> = (9, 8, 5, 90, "vault", &["vault", "kv", "get", "secret/a"], &[]);
        let shell: Row<'_> = (8, 7, 5, 80, "bash", &["-bash"], &["PATH=/bin"]);
        let agent: Row<'_> = (7, 1, 5, 70, "claude", &["claude"], &[]);
        let check = |rows: &[Row<'_>], expected: Option<&str>| {
            assert_eq!(found(rows, &[], 9).as_deref(), expected);
        };
        check(&[INIT, agent, shell, vault], Some("claude-code"));
        check(&[INIT, (7, 1, 5, 70, "tmux", &["tmux"], &[]), shell, vault], None);
        // Its number was given to another since.
        check(&[INIT, (7, 1, 5, 85, "claude", &["claude"], &[]), shell, vault], None);
        check(&[shell, vault], None);
        // Its parents have ended: the environment is left, or the leader of the session.
        let orphan: Row<'_> = (9, 1, 5, 90, "vault", &["vault"], &[]);
        let marked: Row<'_> = (9, 1, 5, 90, "vault", &["vault"], &["HOME=/root", "GEMINI_CLI=1"]);
        check(&[INIT, marked], Some("gemini-cli"));
        check(&[INIT, (5, 1, 5, 50, "codex", &["codex"], &[]), orphan], Some("codex"));
        check(&[INIT, orphan], None);
        // A circle, which no kernel shows, ends.
        check(&[(8, 9, 5, 1, "a", &[], &[]), (9, 8, 5, 1, "b", &[], &[])], None);
    }

    #[test]
    fn the_nearest_agent_counts_and_the_configuration_may_name_more() {
        let rows: [Row<'_>; 3] = [
            (3, 0, 3, 30, "cursor", &["cursor"], &[]),
            (4, 3, 3, 40, "python3", &["python3", "/opt/MyTool.py"], &[]),
            (5, 4, 3, 50, "vault", &["vault"], &[]),
        ];
        assert_eq!(found(&rows, &[], 5).as_deref(), Some("cursor"));
        assert_eq!(found(&rows, &["MyTool"], 5).as_deref(), Some("mytool"));
        assert_eq!(found(&rows, &[], 6), None);
    }

    #[test]
    fn scripts_are_known_by_name_and_package() {
        let check = |name: &str, line: &str, expected: &str| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let programs = programs(name, &arguments);
            let found = programs.iter().find_map(|name| ai_tools::by_program(name));
            assert_eq!(found.unwrap_or_default(), expected, "{line}: {programs:?}");
        };
        check("claude", "/bin/sh /home/j/bin/claude", "claude-code");
        check("sh", "sh -e ./claude -p x", "claude-code");
        check("node", "node /usr/bin/codex exec", "codex");
        check("node", "node /usr/lib/node_modules/@openai/codex/bin/codex.js", "codex");
        check(
            "node",
            "node --max-old-space-size=4096 /x/node_modules/@google/gemini-cli/dist/index.js",
            "gemini-cli",
        );
        check("python3", "/usr/bin/python3 -m aider --model x", "aider");
        check(
            "python3.12",
            "python3.12 /v/lib/python3.12/site-packages/aider/__main__.py",
            "aider",
        );
        check("opencode", "opencode", "opencode");
        check("MainThread", "/opt/cursor/cursor --type=zygote", "cursor");
        check("vim", "vim /home/j/bin/claude", "");
        check("bash", "bash -c claude-ish", "");
        check("python3", "python3 /home/j/claude/deploy.py claude", "");
        check("node", "node", "");
        check("", "", "");
    }

    #[test]
    fn this_very_process_is_read() {
        let own = Ancestry::new(&[]).process(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.started > 0 && own.parent > 0, "{}", own.name);
        assert!(own.environment.contains_key("PATH") && !own.arguments.is_empty());
        assert!(Ancestry::new(&[]).process(i32::MAX).is_none());
    }
}
