//! The programs on another host: whether they have to be sent, sending this host's own over the
//! connection, and proving that they run there before anything else is done.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shared::hash::Hash;
use shared::version::Version;

use super::connection::{Connection, Step};
use super::probe::Probe;
use super::script::{OURS, Rights, Script};
use crate::sibling;
use host::hint::{Failure, hinted};
use host::shown::Shown;
use host::version;

/// Most bytes of one program.
const LARGEST: u64 = 1 << 30;
/// Room in KiB that is left beside the programs.
const SPARE: u64 = 16 << 10;

/// Where programs are installed: for the whole host, or for one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// `/usr/local/bin`
    Host,
    /// `~/.local/bin`
    User,
}

impl Folder {
    /// Returns it as a word of a shell, in double quotes.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "\"/usr/local/bin\"",
            Self::User => "\"$HOME/.local/bin\"",
        }
    }

    /// Returns the file of a program in it.
    pub fn file(self, probe: &Probe, name: &str) -> String {
        match self {
            Self::Host => format!("/usr/local/bin/{name}"),
            Self::User => format!("{}/.local/bin/{name}", probe.home),
        }
    }
}

/// One program of this host.
struct Own {
    name: &'static str,
    bytes: Vec<u8>,
    hash: Hash,
}

/// Tells whether the agent that is there is as new as this program.
pub fn is_new_enough(probe: &Probe) -> bool {
    let there = probe.agent.as_ref().and_then(|(_, version)| Version::of(version));
    there >= Version::of(version::own()) && there.is_some()
}

/// Returns the programs that run on a host, `vault` and `vault-agent`: this installation's, or
/// those that a package brings along for its architecture.
///
/// # Errors
/// What is in the way, and the way round it; nothing is sent yet.
pub fn fitting(host: &str, probe: &Probe, folder: Folder) -> Result<[PathBuf; 2]> {
    let (ours, there) = (std::env::consts::ARCH, &*probe.arch);
    let is_ours = family(there) == ours;
    let others = if is_ours { None } else { sibling::carried(there)? };
    if !is_ours && others.is_none() {
        return Err(foreign(host, there, &format!("`{host}` is {there}, and this host {ours}")));
    }
    let musl = probe.libc.as_deref() == Some("musl");
    if musl && cfg!(target_env = "gnu") {
        let text =
            format!("`{host}` has musl as its C library, and this host's programs need glibc");
        return Err(foreign(host, there, &text));
    }
    if let Some(noexec) = &probe.noexec {
        let way = match folder {
            Folder::User => "leave `--user` out: as root they go to /usr/local/bin",
            Folder::Host => "mount it without `noexec`, or add `--user`: they go to ~/.local/bin",
        };
        bail!(hinted(format!("no program may run in `{noexec}` on `{host}` (noexec)"), way));
    }
    match others {
        Some(files) => Ok(files),
        None => Ok([sibling::vault()?, sibling::find("agent")?]),
    }
}

/// Returns what Rust calls the family of an architecture that `uname -m` names.
fn family(arch: &str) -> &str {
    match arch {
        "armv6l" | "armv7l" | "armv8l" => "arm",
        "i386" | "i486" | "i586" | "i686" => "x86",
        other => other,
    }
}

/// Says which package brings the programs to a host that takes none of ours.
fn foreign(host: &str, arch: &str, text: &str) -> anyhow::Error {
    let debian = match family(arch) {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "armhf",
        "x86" => "i386",
        other => other,
    };
    hinted(
        format!("{text}: none of ours would run there"),
        format!(
            "install the package for hosts for {debian} on `{host}`, or build the programs there; \
             then run the same command again"
        ),
    )
}

/// Sends `vault` and `vault-agent`, proves that they are whole and run there, and puts them into
/// their places, each at once. Returns the agent's file.
///
/// # Errors
/// If none of this host's fit, there is no room, or they do not run there: nothing is replaced.
pub fn send(
    connection: &Connection,
    probe: &Probe,
    folder: Folder,
    rights: &Rights,
) -> Result<String> {
    let host = connection.host();
    let [vault, agent] = fitting(host, probe, folder)?;
    let own = [("vault", vault), ("vault-agent", agent)].map(|(name, file)| read(name, &file));
    let own: Vec<Own> = own.into_iter().collect::<Result<_>>()?;
    let need = own.iter().map(|it| it.bytes.len() as u64 / 1024 + 1).sum::<u64>() + SPARE;
    if probe.free.is_some_and(|free| free < need) {
        let (free, need) = (probe.free.unwrap_or_default() / 1024, need / 1024);
        let text = format!("`{host}` has room for {free} MiB where programs go, {need} are needed");
        bail!(hinted(text, "make room there, then run the same command again"));
    }
    refuse_others(connection, folder, rights)?;
    for Own { name, bytes, .. } in &own {
        let (line, mut input) = rights.line(&receive(name, folder));
        input.push(bytes);
        let ran = connection.run(Step::new("sending the programs"), &line, &input)?;
        if !ran.status.success() {
            let text = format!("`{name}` cannot be written on `{host}`: {}", ran.said());
            bail!(hinted(text, "mend it there, then run the same command again"));
        }
    }
    let mut script = Script::new().then(OURS);
    script = script.then(&format!("cd {}", folder.word())).then(PROVE);
    for Own { name, hash, .. } in &own {
        script = script.arguments([*name, &hash.to_string()]).then("prove \"$1\" \"$2\"");
    }
    let sent = own.iter().map(|it| format!(" {} {}/{}", it.hash, folder.word(), it.name));
    script = script.then(&format!("note{}", sent.collect::<String>()));
    for Own { name, .. } in own.iter().rev() {
        script = script.then(&format!("mv -f .{name}.new {name}"));
    }
    let (line, mut input) = rights.line("exec sh -s");
    let script = script.then("sync vault vault-agent 2>/dev/null || sync");
    input.push(script.text().as_bytes());
    let ran = connection.run(Step::slow("trying the programs"), &line, &input)?;
    match ran.status.code() {
        Some(0) => Ok(folder.file(probe, "vault-agent")),
        Some(BROKEN) => bail!(hinted(
            format!(
                "what arrived on `{host}` is not what was sent: {}",
                Shown::line(ran.out.trim())
            ),
            "run the same command again; if it stays so, its disk or its memory is broken"
        )),
        Some(ALIEN) => {
            let why = Shown::line(ran.out.trim());
            Err(foreign(host, &probe.arch, &format!("this host's programs end at once: {why}")))
        }
        Some(_) | None => {
            let text = format!("the programs cannot be installed on `{host}`: {}", ran.said());
            bail!(Failure::local(text).hint("mend it there, then run the same command again"))
        }
    }
}

/// Returns the line that takes a program as `.NAME.new`. Much of it may be on its way when ssh has
/// taken the last of it: as long as the file grows, the other side says so.
fn receive(name: &str, folder: Folder) -> String {
    let (folder, new) = (folder.word(), format!(".{name}.new"));
    format!(
        "umask 022; mkdir -p {folder} && cd {folder} || exit; \
         while sleep 2 >/dev/null 2>&1; do \
         n=$(wc -c <{new}); [ \"$n\" = \"$m\" ] || echo \"$n\"; m=$n; \
         done 2>/dev/null </dev/null & w=$!; \
         cat >{new}; r=$?; kill $w; [ $r = 0 ] && chmod 755 {new}"
    )
}

/// Refuses to replace another's program of the same name.
///
/// # Errors
/// Which, and the way round it.
pub fn refuse_others(connection: &Connection, folder: Folder, rights: &Rights) -> Result<()> {
    let host = connection.host();
    let script = Script::new().then(OURS).then(&format!("in_the_way {}", folder.word()));
    let (line, mut input) = rights.line("exec sh -s");
    input.push(script.text().as_bytes());
    let ran = connection.run(Step::new("looking at the programs"), &line, &input)?;
    if !ran.status.success() {
        let text = format!("`{host}` does not say which programs it has: {}", ran.said());
        bail!(hinted(text, "mend it there, then run the same command again"));
    }
    let Some(file) = ran.out.lines().next() else { return Ok(()) };
    let way = match folder {
        Folder::Host => "move it away there, or add `--user`: ours go to ~/.local/bin then",
        Folder::User => "move it away there, or leave `--user` out: ours go to /usr/local/bin then",
    };
    bail!(hinted(format!("`{file}` on `{host}` is another program than ours, and stays"), way))
}

/// What the script ends with where a program did not arrive whole, and where it does not run.
const BROKEN: i32 = 41;
const ALIEN: i32 = 42;

/// Proves that `.NAME.new` has a hash, and runs.
const PROVE: &str = r#"prove() {
  found=$(hash ".$1.new")
  [ "$found" = "$2" ] || { echo "$1 has the hash $found"; rm -f ".$1.new"; exit 41; }
  said=$("./.$1.new" --version 2>&1 </dev/null) ||
    { printf '%s\n' "$said" | tail -n 1; rm -f .vault.new .vault-agent.new; exit 42; }
}"#;

fn read(name: &'static str, file: &Path) -> Result<Own> {
    let shown = file.display().to_string();
    let mut bytes = Vec::new();
    let opened = File::open(file).with_context(|| format!("cannot read `{shown}`"))?;
    opened
        .take(LARGEST)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read `{shown}`"))?;
    let hash = Hash::of(&[&bytes]);
    Ok(Own { name, bytes, hash })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::ssh::probe::sample;

    fn probe(version: Option<&str>) -> Probe {
        let agent = version.map(|it| ("/usr/bin/vault-agent".to_owned(), it.to_owned()));
        Probe { agent, ..sample() }
    }

    #[test]
    fn an_older_agent_is_told_from_one_as_new() {
        for (version, expected) in [
            (Some("vault-agent 0.0.9"), false),
            (Some(concat!("vault-agent ", env!("CARGO_PKG_VERSION"))), true),
            (Some("vault-agent 999.0.0-dev"), true),
            (Some("vault-agent"), false),
            (Some("vault-agent 1.2"), false),
            (None, false),
        ] {
            assert_eq!(is_new_enough(&probe(version)), expected, "{version:?}");
        }
    }

    #[test]
    fn an_architecture_is_known_by_what_uname_calls_it() {
        for (said, expected) in
            [("armv7l", "arm"), ("i686", "x86"), ("x86_64", "x86_64"), ("riscv64", "riscv64")]
        {
            assert_eq!(family(said), expected);
        }
    }

    #[test]
    fn a_host_that_our_programs_do_not_run_on_is_told_what_to_install() {
        let other = Probe { arch: "armv7l".to_owned(), ..probe(None) };
        let fault = fitting("pi", &other, Folder::Host).unwrap_err();
        assert!(fault.to_string().starts_with("`pi` is armv7l, and this host "), "{fault}");
        assert!(host::hint::hint(&fault).unwrap().contains("for armhf on `pi`"));
        let closed = Probe { noexec: Some("/home/jonas".to_owned()), ..probe(None) };
        let fault = fitting("pi", &closed, Folder::User).unwrap_err();
        assert_eq!(fault.to_string(), "no program may run in `/home/jonas` on `pi` (noexec)");
        // Whether it has programs to send is another question.
        let fault = fitting("pi", &probe(None), Folder::User).err();
        assert!(fault.is_none_or(|it| it.to_string().starts_with("there is no program ")));
    }
}
