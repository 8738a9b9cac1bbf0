//! What is known of a local process, from `/proc`: how the audit log names it, and its groups.

use std::fmt::Write as _;
use std::fs;

use host::account;
use shared::audit::Who;

/// Describes a process, e.g. `python3[812] uid 1000 (jonas) in ghost.service`. A process chooses
/// its own name, a user their units': behind the last ` uid `, which this program writes, nothing
/// that others choose holds a space.
pub(super) fn describe(pid: Option<i32>, uid: u32) -> Who {
    let mut text = String::new();
    if let Some(pid) = pid {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // A process names itself: nothing of that may break the log's lines.
        let _ = write!(text, "{}[{pid}] ", name.trim_end_matches('\n').escape_debug());
    }
    let _ = write!(text, "uid {uid}");
    if let Some(name) = account::login(uid) {
        let _ = write!(text, " ({})", single(&name));
    }
    let groups = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
    if let Some(home) = groups.as_deref().and_then(home) {
        let _ = write!(text, " in {home}");
    }
    Who::lossy(&text)
}

/// Writes a name that others have chosen as one word.
fn single(name: &str) -> String {
    name.escape_debug().to_string().replace(char::is_whitespace, "\\u{20}")
}

/// Returns a process's supplementary groups, if it still is the user's.
pub(super) fn groups(pid: i32, uid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.into_iter()
            .flat_map(str::split_whitespace)
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    if numbers("Uid:").get(1) == Some(&uid) { numbers("Groups:") } else { Vec::new() }
}

/// Reads the container or the service that a process belongs to out of its control groups
/// (cgroups(7)): the innermost of them. Sessions and the managers of users say nothing.
fn home(cgroups: &str) -> Option<String> {
    let line = |prefix| cgroups.lines().find_map(|line| line.split_once(prefix));
    let (_, path) =
        line("0::").filter(|(_, path)| *path != "/").or_else(|| line(":name=systemd:"))?;
    path.rsplit('/').find_map(|group| {
        let id = group.strip_suffix(".scope").unwrap_or(group);
        // `docker-ID.scope`, `libpod-ID.scope`, or `docker/ID`.
        let id = id.rsplit_once('-').map_or(id, |(_, id)| id);
        if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(format!("container {}", &id[..12]));
        }
        let service = group.ends_with(".service") && !group.starts_with("user@");
        service.then(|| single(group))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_named() {
        let (own, uid) = (std::process::id(), rustix::process::getuid().as_raw());
        let text = describe(i32::try_from(own).ok(), uid);
        assert!(text.as_str().contains(&format!("[{own}] uid {uid}")), "{text}");
        let nobody = 4_000_000_000;
        let gone = describe(Some(i32::MAX), nobody);
        assert_eq!(gone.as_str(), format!("[{}] uid {nobody}", i32::MAX));
        assert_eq!(describe(None, nobody).as_str(), format!("uid {nobody}"));
        assert_eq!(describe(None, 0).as_str(), "uid 0 (root)");
    }

    #[test]
    fn the_innermost_container_or_service_counts() {
        let id = "0123456789abcdef".repeat(4);
        let check = |cgroups: &str, expected: Option<&str>| {
            assert_eq!(home(cgroups).as_deref(), expected, "{cgroups}");
        };
        let container = Some("container 0123456789ab");
        check("0::/system.slice/ghost.service\n", Some("ghost.service"));
        check("0::/system.slice/ghost.service/worker\n", Some("ghost.service"));
        check(&format!("0::/system.slice/docker-{id}.scope\n"), container);
        check(&format!("0::/docker/{id}\n"), container);
        check(&format!("0::/machine.slice/libpod-{id}.scope/container\n"), container);
        check(&format!("0::/system.slice/ghost.service/libpod-payload-{id}\n"), container);
        let user = "/user.slice/user-1000.slice/user@1000.service";
        check(&format!("0::{user}/app.slice/app-term.scope\n"), None);
        check(&format!("0::{user}/app.slice/backup.service\n"), Some("backup.service"));
        check("0::/user.slice/user-1000.slice/session-3.scope\n", None);
        check("2:cpu:/\n1:name=systemd:/system.slice/a.service\n0::/\n", Some("a.service"));
        let forged = "0::/a.slice/x[1] uid 0 (root) in y.service\n";
        check(forged, Some(r"x[1]\u{20}uid\u{20}0\u{20}(root)\u{20}in\u{20}y.service"));
        check("0::/\n", None);
        check("", None);
    }
}
