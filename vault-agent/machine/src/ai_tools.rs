//! Which programs are AI agents, and which variables they set for what they run: one table. Where
//! a process comes from does not live here.
//!
//! Names of variables as the tools set them for their children, gathered from
//! `@vercel/detect-agent` (the convention of `AI_AGENT`), the crates `is-ai-agent` and `ai_env`,
//! aws-cdk's `detect-agent.ts` and the tools' own documentation. Settings that people export for a
//! tool, such as `GEMINI_API_KEY`, `CODEX_HOME`, `CLAUDE_CODE_USE_BEDROCK` or aider's
//! `AIDER_MODEL`, are left out: they tell nothing of who runs a command.

/// Most characters of a name that a tool gives itself.
const NAME: usize = 32;
/// What an agent is called that gives itself no name.
const UNKNOWN: &str = "unknown";

/// One AI agent.
struct Tool {
    /// What records call it.
    name: &'static str,
    /// Its programs, and packages of scripts, in small letters.
    programs: &'static [&'static str],
    /// Variables that are set for what it runs: `NAME`, or `NAME=START` of the value.
    variables: &'static [&'static str],
}

const fn tool(
    name: &'static str,
    programs: &'static [&'static str],
    variables: &'static [&'static str],
) -> Tool {
    Tool { name, programs, variables }
}

/// The table. The first that fits counts.
const TOOLS: &[Tool] = &[
    tool(
        "claude-code",
        &["claude", "claude-code", "claude-agent-sdk"],
        &[
            "CLAUDECODE",
            "CLAUDE_CODE",
            "CLAUDE_CODE_ENTRYPOINT",
            "CLAUDE_CODE_CHILD_SESSION",
            "CLAUDE_CODE_SESSION_ID",
            "CLAUDE_CODE_IS_COWORK",
        ],
    ),
    tool(
        "codex",
        &["codex", "codex-cli"],
        &["CODEX_SANDBOX", "CODEX_SANDBOX_NETWORK_DISABLED", "CODEX_THREAD_ID", "CODEX_CI"],
    ),
    // A terminal inside the editor counts: what is typed there and what its agent types look alike.
    tool(
        "cursor",
        &["cursor", "cursor-agent"],
        &["CURSOR_AGENT", "CURSOR_TRACE_ID", "CURSOR_EXTENSION_HOST_ROLE=agent-exec"],
    ),
    tool("gemini-cli", &["gemini", "gemini-cli"], &["GEMINI_CLI"]),
    tool("aider", &["aider", "aider-chat"], &[]),
    tool(
        "opencode",
        &["opencode", "opencode-ai"],
        &["OPENCODE", "OPENCODE_CLIENT", "OPENCODE_SESSION_ID"],
    ),
    tool("goose", &["goose", "goosed"], &["GOOSE_TERMINAL"]),
    tool("amp", &["amp"], &["AMP_CURRENT_THREAD_ID"]),
    tool(
        "copilot",
        &["copilot", "copilot-cli", "github-copilot", "github-copilot-cli"],
        &[
            "COPILOT_CLI",
            "COPILOT_AGENT",
            "COPILOT_AGENT_JOB_ID",
            "COPILOT_AGENT_SESSION_ID",
            "GITHUB_COPILOT_CLI",
            "GITHUB_COPILOT_CLI_MODE",
        ],
    ),
    tool("crush", &["crush"], &["CRUSH"]),
    tool("cline", &["cline"], &["CLINE_ACTIVE"]),
    tool("augment", &["auggie"], &["AUGMENT_AGENT"]),
    tool("qwen-code", &["qwen", "qwen-code"], &["QWEN_CODE"]),
    tool("antigravity", &["antigravity"], &["ANTIGRAVITY_AGENT"]),
    tool("windsurf", &["windsurf"], &["WINDSURF_CASCADE_TERMINAL"]),
    tool("roo-code", &["roo-code"], &["ROO_ACTIVE", "ROO_CLI_RUNTIME"]),
    tool("kilo-code", &["kilocode"], &["KILOCODE_FEATURE=cli"]),
    tool("trae", &["trae", "trae-cli"], &["TRAE_AI_SHELL_ID"]),
    tool("iflow", &["iflow", "iflow-cli"], &["IFLOW_CLI"]),
    tool("amazon-q", &["qchat", "kiro-cli"], &["AWS_EXECUTION_ENV=AmazonQ-For-CLI"]),
    tool("pi", &["pi-coding-agent"], &["PI_CODING_AGENT"]),
    tool("grok", &["grok", "grok-cli"], &["GROK_AGENT=1"]),
    tool("devin", &["devin"], &[]),
    tool("droid", &["droid"], &[]),
    tool("openhands", &["openhands"], &[]),
    tool("openclaw", &["openclaw", "openclaw-gateway"], &[]),
];

/// Returns the agent that a program is, by its name without folder and ending.
pub fn by_program(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let found = TOOLS.iter().find(|tool| tool.programs.contains(&name.as_str()));
    found.map(|tool| tool.name)
}

/// Returns the agent that an environment tells of; `lookup` finds the value of a variable.
pub fn by_environment(lookup: impl Fn(&str) -> Option<String>) -> Option<String> {
    let is_set = |variable: &&str| {
        let (name, start) = variable.split_once('=').unwrap_or((variable, ""));
        lookup(name).is_some_and(|value| is_yes(&value) && value.starts_with(start))
    };
    let found = TOOLS.iter().find(|tool| tool.variables.iter().any(&is_set));
    if let Some(tool) = found {
        return Some(tool.name.to_owned());
    }
    if let Some(name) = lookup("AI_AGENT").and_then(|value| by_claim(&value)) {
        return Some(name);
    }
    // Others than AI agents set it, too: it has to name one.
    lookup("AGENT").and_then(|name| named(&name))
}

/// Returns the agent that says of itself what it is called, by a name that may stand in a record;
/// `None` if it says that it is none.
pub fn by_claim(value: &str) -> Option<String> {
    is_yes(value).then(|| named(value).unwrap_or_else(|| own_name(value)))
}

/// Returns what a record calls an agent that says what it is called: a name of the table, or one of
/// `more`, with or without a version. Any other could be a text of any kind, and is left out.
pub fn recorded(claimed: &str, more: &[String]) -> String {
    let (whole, name) = (claimed.trim().to_ascii_lowercase(), bare(claimed));
    let listed = || more.iter().find(|more| **more == whole || **more == name).cloned();
    named(claimed).or_else(listed).unwrap_or_else(|| UNKNOWN.to_owned())
}

fn is_yes(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "false" | "no" | "off")
}

/// Finds the agent that a value names, with or without a version: `goose@1.2`, `claude-code_2.1`.
fn named(value: &str) -> Option<String> {
    let name = bare(value);
    let is_it = |tool: &&Tool| tool.name == name || tool.programs.contains(&name.as_str());
    TOOLS.iter().find(is_it).map(|tool| tool.name.to_owned())
}

/// Returns a name in small letters, without a version.
fn bare(value: &str) -> String {
    let value = value.trim().to_ascii_lowercase();
    value.split(['@', '_', '/', ' ']).next().unwrap_or_default().to_owned()
}

/// The name that an agent gives itself, if it is one: records are no place for anything else.
fn own_name(value: &str) -> String {
    let value = value.trim().to_ascii_lowercase();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let is_name = value.len() <= NAME
        && value.chars().all(is_part)
        && value.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_name && !matches!(value.as_str(), "true" | "yes" | "on") {
        value
    } else {
        UNKNOWN.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_tells_of_the_agent_that_made_it() {
        for (variables, expected) in [
            (&[("CLAUDECODE", "1")][..], Some("claude-code")),
            (&[("CLAUDE_CODE_USE_BEDROCK", "1")], None),
            (&[("CODEX_SANDBOX", "seatbelt")], Some("codex")),
            (&[("CODEX_HOME", "/home/j/.codex")], None),
            (&[("GEMINI_CLI", "1"), ("AGENT", "amp")], Some("gemini-cli")),
            (&[("GEMINI_API_KEY", "x"), ("AIDER_MODEL", "y")], None),
            (&[("CURSOR_EXTENSION_HOST_ROLE", "agent-exec")], Some("cursor")),
            (&[("CURSOR_EXTENSION_HOST_ROLE", "user")], None),
            (&[("AWS_EXECUTION_ENV", "AmazonQ-For-CLI Version/1.13")], Some("amazon-q")),
            (&[("OPENCODE", "0"), ("CRUSH", "false"), ("AI_AGENT", "")], None),
            (&[("AI_AGENT", "Claude-Code_2.1_cli")], Some("claude-code")),
            (&[("AI_AGENT", "my-own@2")], Some("my-own@2")),
            (&[("AI_AGENT", "1")], Some("unknown")),
            (&[("AI_AGENT", "sk-12345678901234567890123456789012")], Some("unknown")),
            (&[("AI_AGENT", "a\nb")], Some("unknown")),
            (&[("AGENT", "goose")], Some("goose")),
            (&[("AGENT", "1")], None),
            (&[("AGENT", "ssh-agent")], None),
        ] {
            let lookup = |wanted: &str| {
                let found = variables.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(by_environment(lookup).as_deref(), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_record_has_names_of_the_table_and_of_the_configuration_alone() {
        let more = ["my-tool", "their_tool"].map(str::to_owned);
        for (claimed, expected) in [
            ("Claude-Code_2.1", "claude-code"),
            ("claude", "claude-code"),
            ("my-tool@2", "my-tool"),
            ("My-Tool", "my-tool"),
            ("their_tool", "their_tool"),
            ("other-tool", "unknown"),
            ("hunter2-hunter2", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(recorded(claimed, &more), expected, "{claimed}");
        }
    }

    #[test]
    fn programs_are_known_by_name() {
        for (name, expected) in [
            ("claude", Some("claude-code")),
            ("Cursor", Some("cursor")),
            ("gemini", Some("gemini-cli")),
            ("claudette", None),
            ("vault", None),
            ("", None),
        ] {
            assert_eq!(by_program(name), expected, "{name}");
        }
    }

    #[test]
    fn no_program_or_variable_stands_twice() {
        for names in [
            TOOLS.iter().flat_map(|tool| tool.programs).collect::<Vec<_>>(),
            TOOLS.iter().flat_map(|tool| tool.variables).collect(),
        ] {
            let mut once = names.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), names.len());
        }
    }
}
