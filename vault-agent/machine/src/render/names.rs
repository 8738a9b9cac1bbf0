//! Which names may become environment variables.

use super::format::Names;
use super::parse::is_name;
use super::refusal::Why;

/// Names that shells keep for themselves: read-only, or with a meaning that an assignment loses.
const SHELL_OWN: &[&str] = &[
    "UID",
    "EUID",
    "PPID",
    "SHELLOPTS",
    "BASHOPTS",
    "BASH_VERSINFO",
    "LINENO",
    "RANDOM",
    "SECONDS",
    "_",
];

/// Names that zsh ties to something else.
const ZSH_OWN: &[&str] = &["status", "path", "argv"];

/// Names that make loaders, shells, interpreters and tools run other code, sorted.
const DENIED: &[&str] = &[
    "BASH_ENV",
    "BROWSER",
    "CDPATH",
    "CLASSPATH",
    "EDITOR",
    "ENV",
    "FPATH",
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "GLOBIGNORE",
    "HOME",
    "HOSTALIASES",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LESSCLOSE",
    "LESSOPEN",
    "LOCALDOMAIN",
    "LOCPATH",
    "LUA_CPATH",
    "LUA_INIT",
    "LUA_PATH",
    "MALLOC_TRACE",
    "MANPAGER",
    "NIS_PATH",
    "NLSPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "PAGER",
    "PATH",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "PYTHONBREAKPOINT",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "RES_OPTIONS",
    "RESOLV_HOST_CONF",
    "RUBYLIB",
    "RUBYOPT",
    "SHELL",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "TMPDIR",
    "TZDIR",
    "VISUAL",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
];

/// Families of such names.
const DENIED_PREFIXES: &[&str] = &["BASH_FUNC_", "DYLD_", "GIT_", "LD_", "PERL5", "PERLLIB"];

/// Variables that begin like a dangerous family and are ordinary settings.
const HARMLESS: &[&str] = &[
    "GIT_TOKEN",
    "GIT_USER",
    "GIT_USERNAME",
    "GIT_PASSWORD",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
];

const RENAME: &str =
    "give it another name with `rename`, leave it out with `keys`, or use format = \"json\"";
const NO_NAME: Why =
    Why::new("is not a variable name (letters, digits and `_`, not starting with a digit)", RENAME);
const SHELLS: Why = Why::new("belongs to the shells, which do not let it be set", RENAME);
const DANGEROUS: Why = Why::new(
    "changes what other programs run",
    "list it in `allow_names` of this target if you mean it",
);

/// Judges `name`, and returns what is odd about it; `allowed` lists dangerous names that the owner
/// of the target wants.
pub(super) fn judge(
    name: &str,
    names: Names,
    allowed: &[String],
) -> Result<Option<&'static str>, Why> {
    if names == Names::Keys {
        Ok(None)
    } else if !is_name(name) {
        Err(NO_NAME)
    } else if names == Names::Shell && SHELL_OWN.contains(&name) {
        Err(SHELLS)
    } else if is_denied(name) && !allowed.iter().any(|allow| allow == name) {
        Err(DANGEROUS)
    } else if names == Names::Shell && ZSH_OWN.contains(&name) {
        Ok(Some("has a meaning of its own in zsh"))
    } else {
        Ok(None)
    }
}

/// Tells whether `name` makes other programs run code, so that a target must allow it by name.
pub fn is_denied(name: &str) -> bool {
    DENIED.contains(&name)
        || (DENIED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !HARMLESS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_names_need_an_allow() {
        for name in [
            "LD_PRELOAD",
            "PATH",
            "BASH_ENV",
            "GIT_SSH_COMMAND",
            "PERL5OPT",
            "NODE_OPTIONS",
            "_JAVA_OPTIONS",
        ] {
            assert!(judge(name, Names::Shell, &[]) == Err(DANGEROUS), "{name}");
            assert!(judge(name, Names::Shell, &[name.to_owned()]) == Ok(None), "{name}");
        }
        for name in
            ["OPENAI_API_KEY", "GIT_TOKEN", "PATH_PREFIX", "LDAP_URL", "DATABASE_URL", "a", "_x"]
        {
            assert!(judge(name, Names::Shell, &[]) == Ok(None), "{name}");
        }
    }

    #[test]
    fn an_allow_does_not_help_what_shells_own() {
        for name in SHELL_OWN {
            assert!(judge(name, Names::Shell, &[(*name).to_owned()]) == Err(SHELLS), "{name}");
        }
        assert!(matches!(judge("path", Names::Shell, &[]), Ok(Some(_))));
        assert!(judge("path", Names::Environment, &[]) == Ok(None));
        assert!(judge("UID", Names::Environment, &[]) == Ok(None));
        assert!(judge("PATH", Names::Environment, &[]) == Err(DANGEROUS));
        assert!(judge("a.b", Names::Keys, &[]) == Ok(None));
        for name in ["", "a.b", "a-b", "1a", "ä", "a b", "a\n"] {
            assert!(judge(name, Names::Shell, &[]) == Err(NO_NAME), "{name:?}");
        }
    }
}
