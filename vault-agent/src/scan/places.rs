//! Where a scan looks and where it does not, made of the settings and of the homes of this host.
//! No disk is looked at here: one that does not answer would be waited for.

use std::path::{Component, Path, PathBuf};

use machine::config::{Containers, Preset, Scan};
use shared::text::like;

/// What shells and other prompts remember, below each home.
const SHELL_HISTORIES: [&str; 21] = [
    ".bash_history",
    ".zsh_history",
    ".zhistory",
    ".zsh_sessions",
    ".histfile",
    ".history",
    ".sh_history",
    ".ash_history",
    ".ksh_history",
    ".local/share/fish/fish_history",
    ".local/share/powershell/PSReadLine",
    ".python_history",
    ".node_repl_history",
    ".irb_history",
    ".psql_history",
    ".mysql_history",
    ".mariadb_history",
    ".sqlite_history",
    ".rediscli_history",
    ".lesshst",
    ".viminfo",
];

/// What AI tools have heard and said, below each home.
const AI_TRANSCRIPTS: [&str; 20] = [
    ".claude",
    ".claude.json",
    ".codex",
    ".cursor",
    ".cursor-server/data/User",
    ".config/Cursor/User",
    ".config/Code/User/globalStorage",
    ".config/Code/User/workspaceStorage",
    ".vscode-server/data/User",
    ".aider*",
    "*/.aider*",
    "*/*/.aider*",
    ".gemini",
    ".qwen",
    ".continue",
    ".copilot",
    ".codeium",
    ".openclaw",
    ".local/share/goose",
    ".local/share/opencode",
];

/// Where container engines keep logs: Docker's of root and of users, Podman's of both.
const CONTAINERS: [&str; 4] = [
    "/var/lib/docker/containers",
    "/var/lib/containers/storage/overlay-containers",
    "~/.local/share/docker/containers",
    "~/.local/share/containers/storage/overlay-containers",
];

/// The logs of a container below such a folder.
const LOGS: [&str; 3] = ["*/*-json.log*", "*/local-logs", "*/userdata/ctr.log*"];

/// Whose home it is, and where.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) user: String,
    pub(super) folder: PathBuf,
}

/// Something to be searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where it begins: links up to here are followed.
    pub(super) base: PathBuf,
    /// The names from there, `*` being any text; links on this way and below are not followed.
    pub(super) names: Vec<String>,
    /// Whether it is a container's log.
    pub(super) container: bool,
    /// Whether somebody has named it, and wants to know where it is not there.
    pub(super) named: bool,
}

/// What is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Except {
    /// Names, wherever they are.
    names: Vec<String>,
    /// Places, name by name.
    places: Vec<Vec<String>>,
}

/// Returns the homes of this host: all for root, else this user's own.
pub(super) fn homes() -> Vec<Home> {
    let own = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let user = host::account::own_name();
    let mut all: Vec<Home> = own.map(|folder| Home { user, folder }).into_iter().collect();
    if rustix::process::geteuid().is_root() {
        all.extend(
            host::account::people()
                .into_iter()
                .map(|user| Home { user: user.name, folder: user.home }),
        );
    }
    let mut seen = std::collections::BTreeSet::new();
    // A home that is `/` is none.
    all.retain(|home| home.folder.parent().is_some() && seen.insert(home.folder.clone()));
    all
}

/// Returns the places to search.
pub(super) fn of(settings: &Scan, homes: &[Home]) -> Vec<Place> {
    let mut all = Vec::new();
    for preset in &settings.presets {
        match preset {
            Preset::Homes => all.extend(expanded("~", homes, false)),
            Preset::ShellHistories => below_homes(&SHELL_HISTORIES, homes, &mut all),
            Preset::AiTranscripts => below_homes(&AI_TRANSCRIPTS, homes, &mut all),
        }
    }
    for path in &settings.paths {
        all.extend(expanded(path, homes, true));
    }
    let folders: Vec<&str> = match &settings.containers {
        Containers::Usual(false) => Vec::new(),
        Containers::Usual(true) => CONTAINERS.to_vec(),
        Containers::Below(folders) => folders.iter().map(String::as_str).collect(),
    };
    for folder in folders {
        for log in LOGS {
            let places = expanded(&format!("{folder}/{log}"), homes, false);
            all.extend(places.into_iter().map(|place| Place { container: true, ..place }));
        }
    }
    all
}

fn below_homes(names: &[&str], homes: &[Home], all: &mut Vec<Place>) {
    for name in names {
        all.extend(expanded(&format!("~/{name}"), homes, false));
    }
}

/// Makes places of a text such as `/srv/*/log`, `~/notes` or `~jonas`.
fn expanded(text: &str, homes: &[Home], named: bool) -> Vec<Place> {
    let parts = |text: &str| -> Vec<String> {
        text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let Some(below) = text.strip_prefix('~') else {
        let mut names = parts(text);
        let plain = names.iter().position(|name| name.contains('*')).unwrap_or(names.len());
        let base: PathBuf = Path::new("/").join(names.drain(..plain).collect::<PathBuf>());
        return vec![Place { base, names, container: false, named }];
    };
    let (user, rest) = below.split_once('/').unwrap_or((below, ""));
    let homes = homes.iter().filter(|home| user.is_empty() || home.user == user);
    let place = |home: &Home| Place {
        base: home.folder.clone(),
        names: parts(rest),
        container: false,
        // Not everybody has everything.
        named: false,
    };
    homes.map(place).collect()
}

impl Except {
    /// Makes it of the settings.
    pub(super) fn of(settings: &Scan, homes: &[Home]) -> Self {
        let mut except = Self::default();
        for text in &settings.except {
            if !text.starts_with(['/', '~']) {
                except.names.push(text.clone());
                continue;
            }
            for place in expanded(text, homes, false) {
                except.places.push(parts(&place.base).chain(place.names).collect());
            }
        }
        except
    }

    /// Leaves out one more place, and all below it.
    pub(super) fn add(&mut self, path: &Path) {
        self.add_names(parts(path).collect());
    }

    /// Leaves out what names lead to from the root, and all below it.
    pub(super) fn add_names(&mut self, names: Vec<String>) {
        self.places.push(names);
    }

    /// Tells whether a path is left out.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if self.names.iter().any(|pattern| like(pattern, &name)) {
            return true;
        }
        let parts: Vec<String> = parts(path).collect();
        let is_it = |place: &Vec<String>| {
            place.len() == parts.len() && place.iter().zip(&parts).all(|(p, name)| like(p, name))
        };
        self.places.iter().any(is_it)
    }
}

fn parts(path: &Path) -> impl Iterator<Item = String> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homes() -> Vec<Home> {
        ["jonas", "anna"]
            .map(|user| Home { user: user.into(), folder: Path::new("/home").join(user) })
            .into()
    }

    fn shown(settings: &Scan) -> Vec<String> {
        let show = |place: Place| {
            let names: String = place.names.iter().map(|name| format!("|{name}")).collect();
            format!("{}{names}", place.base.display())
        };
        of(settings, &homes()).into_iter().map(show).collect()
    }

    #[test]
    fn links_are_followed_up_to_the_first_star_or_the_home() {
        let paths = ["/srv/*/log", "/opt/a", "~/notes/x", "~anna", "~nobody/y"];
        let paths = paths.map(str::to_owned).to_vec();
        let settings = Scan { presets: Vec::new(), paths, ..Scan::default() };
        assert_eq!(
            shown(&settings),
            ["/srv|*|log", "/opt/a", "/home/jonas|notes|x", "/home/anna|notes|x", "/home/anna",]
        );
        let all = of(&settings, &homes());
        assert_eq!(
            all.iter().map(|place| place.named).collect::<Vec<_>>(),
            [true, true, false, false, false]
        );
    }

    #[test]
    fn presets_are_below_every_home() {
        let settings = Scan { containers: Containers::Usual(true), ..Scan::default() };
        let all = shown(&settings);
        for place in [
            "/home/jonas|.bash_history",
            "/home/anna|.claude",
            "/home/anna|*|.aider*",
            "/var/lib/docker/containers|*|*-json.log*",
            "/home/jonas|.local|share|containers|storage|overlay-containers|*|userdata|ctr.log*",
        ] {
            assert!(all.iter().any(|known| known == place), "{place}: {all:?}");
        }
        assert!(!all.contains(&"/home/jonas".to_owned()));
        let homes = Scan { presets: vec![Preset::Homes], ..Scan::default() };
        assert_eq!(shown(&homes), ["/home/jonas", "/home/anna"]);
    }

    #[test]
    fn names_and_places_are_left_out() {
        let except = ["node_modules", "*.iso", "~/big", "/srv/*/cache"].map(str::to_owned).to_vec();
        let settings = Scan { except, ..Scan::default() };
        let mut except = Except::of(&settings, &homes());
        except.add(Path::new("/var/lib/vault-agent"));
        for (path, expected) in [
            ("/a/node_modules", true),
            ("/a/x.iso", true),
            ("/home/anna/big", true),
            ("/home/other/big", false),
            ("/srv/x/cache", true),
            ("/srv/x/y/cache", false),
            ("/var/lib/vault-agent", true),
            ("/var/lib", false),
        ] {
            assert_eq!(except.covers(Path::new(path)), expected, "{path}");
        }
    }
}
