//! `vault completions`: scripts for shells. Those of bash, zsh and fish ask `vault __complete`
//! what could follow.

use clap_complete::Shell;

use crate::context::Global;
use host::hint::Exit;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "bash, zsh and fish complete secrets, keys and machines too, while the agent runs.

Examples:
  vault completions bash > ~/.local/share/bash-completion/completions/vault
  vault completions zsh > ~/.zfunc/_vault
  vault completions fish > ~/.config/fish/completions/vault.fish"
)]
pub struct Args {
    /// Shell to complete for
    shell: Shell,
}

pub(crate) fn run(
    global: &Global,
    args: &Args,
    command: &mut clap::Command,
) -> anyhow::Result<Exit> {
    match args.shell {
        Shell::Bash => global.term.data(BASH)?,
        Shell::Zsh => global.term.data(ZSH)?,
        Shell::Fish => global.term.data(FISH)?,
        other => {
            let mut script = Vec::new();
            clap_complete::generate(other, command, "vault", &mut script);
            global.term.data(script)?;
        }
    }
    Ok(Exit::OK)
}

/// bash passes the line up to the cursor: it has broken words at `=` and `:` by then.
const BASH: &str = r#"_vault() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        printf -v line '%q' "$line"
        COMPREPLY+=("$line")
    done < <("$1" __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=] ]]; then
        compopt -o nospace
    fi
}
complete -o bashdefault -o default -F _vault vault
"#;

const ZSH: &str = r#"#compdef vault
_vault() {
    local -a lines open done
    local line
    lines=("${(@f)$("${words[1]}" __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for line in "${lines[@]}"; do
        case "$line" in
            '') ;;
            */ | *=) open+=("$line") ;;
            *) done+=("$line") ;;
        esac
    done
    if (( ${#open} + ${#done} == 0 )); then
        _files
        return
    fi
    compadd -S '' -a open
    compadd -a done
}
if [[ "${funcstack[1]}" == _vault ]]; then
    _vault "$@"
else
    compdef _vault vault
fi
"#;

const FISH: &str = r#"function __vault_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    command $program __complete fish $words (commandline -ct) 2>/dev/null
end
complete -c vault -f -a '(__vault_complete)'
complete -c vault -n 'test (count (__vault_complete)) -eq 0' -F
"#;
