//! Users and groups of this host by name: reads the two files, then asks `getent` for directories
//! beyond them. And where the folders of this user are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
    /// The home folder.
    pub home: PathBuf,
}

/// Returns the user with the given name or number.
pub fn user(name: &str) -> Option<User> {
    find("/etc/passwd", "passwd", name).as_deref().and_then(read_user)
}

/// Returns the number of the group with the given name or number.
pub fn group(name: &str) -> Option<u32> {
    match find("/etc/group", "group", name) {
        Some(line) => line.split(':').nth(2)?.parse().ok(),
        None => name.parse().ok(),
    }
}

/// Returns the login name of a user that is this host's own; directories are not asked.
pub fn login(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let own = text.lines().find(|line| line.split(':').nth(2) == Some(&*uid.to_string()))?;
    own.split(':').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Returns the login name of this process's user, its number where it has none.
pub fn own_name() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    user(&uid).map_or(uid, |user| user.name)
}

/// Returns the home folder of a user.
pub fn home(uid: u32) -> Option<PathBuf> {
    user(&uid.to_string()).map(|user| user.home)
}

/// Returns the people of this host, and root, as far as they are its own; directories are not
/// asked.
pub fn people() -> Vec<User> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is_person = |user: &User| user.uid == 0 || (1_000..65_534).contains(&user.uid);
    text.lines().filter_map(read_user).filter(is_person).collect()
}

/// Returns the folder that a variable of the environment names, else the one below this user's
/// home; `None` where neither is known.
pub fn folder(variable: &str, below: &str) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set(variable).or_else(|| Some(set("HOME")?.join(below)))
}

/// Shows a file as its owner calls it: `~/…` below the home folder of `owner`, or of this
/// process's user where nobody is named.
pub fn tilde(file: &Path, owner: Option<&str>) -> String {
    let home = match owner {
        Some(owner) => user(owner).map(|user| user.home),
        None => std::env::var_os("HOME").map(PathBuf::from),
    };
    let below = home.as_deref().filter(|home| home.components().count() > 1);
    match below.and_then(|home| file.strip_prefix(home).ok()) {
        Some(rest) => format!("~/{}", rest.display()),
        None => file.display().to_string(),
    }
}

fn read_user(line: &str) -> Option<User> {
    let mut columns = line.split(':');
    let name = columns.next()?.to_owned();
    let uid = columns.nth(1)?.parse().ok()?;
    let gid = columns.next()?.parse().ok()?;
    let home = PathBuf::from(columns.nth(1)?);
    Some(User { name, uid, gid, home })
}

/// Returns the line whose name or number is `key`.
fn find(file: &str, database: &str, key: &str) -> Option<String> {
    if key.is_empty() || key.starts_with('-') || key.contains(':') {
        return None;
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let is_key = |line: &&str| line.split(':').step_by(2).take(2).any(|column| column == key);
    if let Some(line) = text.lines().find(is_key) {
        return Some(line.to_owned());
    }
    let mut getent = Command::new("getent");
    getent.args([database, key]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = getent.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_by_name_and_number() {
        let root = user("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(user("0").unwrap(), root);
        assert_eq!(home(0).unwrap(), root.home);
        assert_eq!(group("root"), Some(0));
        assert_eq!(group("54321"), Some(54321));
    }

    #[test]
    fn nobody_else_is_made_up() {
        for name in ["", "no-such-user", "-x", "root:x"] {
            assert_eq!(user(name), None, "{name}");
            assert_eq!(group(name), None, "{name}");
        }
    }

    #[test]
    fn lines_are_read_by_column() {
        let user = read_user("jonas:x:1000:1001:Jonas,,,:/home/jonas:/bin/bash").unwrap();
        assert_eq!(
            user,
            User {
                name: "jonas".to_owned(),
                uid: 1000,
                gid: 1001,
                home: PathBuf::from("/home/jonas")
            }
        );
        assert_eq!(read_user("jonas:x:no"), None);
    }
}
