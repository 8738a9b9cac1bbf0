//! The script for bash, in a real bash: secrets, keys and versions come from the running agent, and
//! nothing where none runs.

use tests::{Host, World, bins, run, watch};

/// Completes the end of `line` as bash does when Tab is pressed.
fn complete(host: &Host, line: &str) -> Vec<String> {
    let script = format!(
        "source <({vault} completions bash)\nCOMP_LINE={line:?}\n\
         COMP_POINT=${{#COMP_LINE}}\n_vault {vault}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        vault = host.bins.vault,
    );
    let out = run(host.command("bash").args(["-c", &script]), "").ok();
    out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Waits until the line is completed so: a busy machine may not answer within the time of a
/// keystroke.
fn check(host: &Host, line: &str, expected: &[&str]) {
    watch::poll(line, || (complete(host, line) == expected).then_some(()));
}

#[test]
fn bash_completes_what_the_agent_knows() {
    let world = World::new(bins!());
    let mut host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", "secret/jjeco/api-keys", "OPENAI=x", "OTHER=y"]).ok();
    check(&host, "vault kv g", &["get"]);
    check(&host, "vault kv get ", &["secret/"]);
    check(&host, "vault kv get secret/jj", &["secret/jjeco/"]);
    check(&host, "vault kv get secret/jjeco/", &["secret/jjeco/api-keys"]);
    check(&host, "vault kv get secret/jjeco/api-keys -field=O", &["OPENAI", "OTHER"]);
    check(&host, "vault kv delete secret/jjeco/api-keys -versions=", &["1"]);
    check(&host, "vault access show ", &["rtx1080"]);
    host.stop();
    check(&host, "vault kv get secret/jj", &[]);
    check(&host, "vault kv g", &["get"]);
}
