//! Import from a running Vault or OpenBao: walks a KV mount and takes every secret over with all
//! its versions. Done again, it goes on where it stopped; what differs is named and left alone.

use super::args::Args;
use crate::client::{Client, Endpoint};
use crate::context::Global;
use crate::kv::replicate::{self, Done, End};
use crate::kv::{Route, Typed, context, walk};
use crate::print::{self, Format, exit};
use host::hint::{Exit, Failure};
use host::progress::Progress;
use host::shown::Shown;

use serde_json::{Value, json};

/// Vault's port.
const PORT: u16 = 8200;

/// Where the other Vault is, and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    base: String,
    /// Mount and folder.
    path: String,
}

impl Address {
    /// Reads an address; `None` for what is none. Without a choice it is TLS, but on this machine.
    pub(super) fn parse(text: &str, http: bool, https: bool) -> Result<Option<Self>, Failure> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
        let wrong = |why: &str| {
            Failure::local(format!("address `{text}`: {why}"))
                .hint("it reads vault://HOST[:PORT]/MOUNT[/FOLDER]")
        };
        let (host, path) = rest.split_once('/').ok_or_else(|| wrong("no mount"))?;
        let path = path.trim_matches('/');
        if host.is_empty() || host.contains('@') {
            return Err(wrong(if host.is_empty() { "no host" } else { "a name or token in it" }));
        }
        if path.is_empty() {
            return Err(wrong("no mount"));
        }
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                (name, port.parse::<u16>().map_err(|_| wrong("a port that is none"))?)
            }
            Some(_) | None => (host, PORT),
        };
        let here = matches!(name, "localhost" | "[::1]") || name.starts_with("127.");
        let secure = match scheme {
            "vault" => https || (!http && !here),
            "vault+https" | "https" => true,
            "vault+http" | "http" => false,
            _ => return Err(wrong("its scheme is not known")),
        };
        let scheme = if secure { "https" } else { "http" };
        Ok(Some(Self { base: format!("{scheme}://{name}:{port}"), path: path.to_owned() }))
    }
}

/// A secret, and what became of it.
type Outcome = (String, Result<Done, Shown>);

pub(super) fn run(global: &Global, args: &Args, address: &Address) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let source = source(global, args, address)?;
    // VAULT_TOKEN is for the source: this machine's agent is not shown it.
    let target = global.client_with(|place, options| {
        if matches!(place, Endpoint::Agent { .. }) {
            options.token = None;
        }
    })?;
    let from = Typed { mount: None, path: address.path.clone() };
    let from = from.ask(&source).map_err(|error| context(error, "looking at", &address.path))?;
    let to = match &args.file {
        Some(path) => path.to_str().unwrap_or_default().to_owned(),
        None => args.mount.as_ref().map_or_else(|| from.logical(), |_| String::new()),
    };
    let to = Typed { mount: args.mount.clone(), path: to }.for_read(&target)?;
    if source.base() == target.base() && from == to {
        let text = format!("`{}` is both where to import from and where to", address.base);
        return Err(Failure::local(text)
            .hint("unset VAULT_ADDR to import into this machine's vault")
            .into());
    }
    let pairs = pairs(&source, &from, &to)?;
    require_mount(&target, &to)?;
    let mut progress = Progress::start(&global.term, pairs.len());
    let mut outcomes = Vec::with_capacity(pairs.len());
    for (from, to) in &pairs {
        progress.step(&to.logical());
        let path = to.logical();
        let ends = (End { client: &source, route: from }, End { client: &target, route: to });
        let result = path.parse::<shared::path::SecretPath>().map_err(anyhow::Error::from);
        let result = result.and_then(|_| replicate::all(ends.0, ends.1));
        if let Ok(Done { barred: Some(n), .. }) = result {
            let why = "was deleted, destroyed or dropped here, and stays so";
            global.term.say(format!("warning: version {n} of `{path}` {why}"));
        }
        outcomes.push((path, result.map_err(|why| exit::shown(&why))));
    }
    progress.end();
    report(global, format, &outcomes)
}

fn source(global: &Global, args: &Args, address: &Address) -> anyhow::Result<Client> {
    let token = match &args.token_file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|why| Failure::local(format!("`{}`: {why}", file.display())))?;
            Some(text.trim().to_owned())
        }
        None => global.saved_token(),
    };
    Ok(Client::new(Endpoint::parse(&address.base)?, global.options(token)?)?)
}

/// Returns each secret's place there and here.
fn pairs(source: &Client, from: &Route, to: &Route) -> anyhow::Result<Vec<(Route, Route)>> {
    let names = walk::all(source, from)?;
    let mut pairs: Vec<_> = names.iter().map(|name| (from.below(name), to.below(name))).collect();
    // A secret may have the name of the folder.
    if from.parent().is_some() && (End { client: source, route: from }).is_there()? {
        pairs.insert(0, (from.clone(), to.clone()));
    }
    if pairs.is_empty() {
        let path = from.api("metadata");
        return Err(Failure::remote(format!("there is no secret below {path}")).into());
    }
    Ok(pairs)
}

fn require_mount(target: &Client, to: &Route) -> anyhow::Result<()> {
    let logical = to.logical();
    let mount = logical.split('/').next().unwrap_or_default();
    let known = walk::mounts(target)?;
    if known.iter().any(|known| logical == *known || logical.starts_with(&format!("{known}/"))) {
        return Ok(());
    }
    Err(Failure::remote(format!("this vault has no mount `{mount}`"))
        .hint(format!("`vault secrets enable -path={mount} kv` makes it, or name another place"))
        .into())
}

fn report(global: &Global, format: Format, outcomes: &[Outcome]) -> anyhow::Result<Exit> {
    let done: Vec<&Done> = outcomes.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let failed = outcomes.len() - done.len();
    if format == Format::Table {
        let sum = |of: fn(&Done) -> u64| done.iter().map(|done| of(done)).sum::<u64>();
        let (same, empty) = (sum(|done| done.same), sum(|done| done.empty));
        let of = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut line = format!(
            "{}: {} written, {same} there already",
            of(done.len() as u64, "secret"),
            of(sum(|done| done.written), "version")
        );
        if empty > 0 {
            line.push_str(&format!("; {empty} of them deleted or destroyed, without content"));
        }
        global.term.line(line)?;
        for (path, result) in outcomes {
            if let Err(why) = result {
                global.term.say(Shown::from(format!("{path}: ")) + why.clone());
            }
        }
    } else {
        let rows = outcomes.iter().map(|(path, result)| match result {
            Ok(done) => json!({
                "path": path, "written": done.written, "unchanged": done.same,
                "without_content": done.empty, "settings": done.settings,
            }),
            Err(why) => json!({ "path": path, "error": &**why }),
        });
        global.term.document(print::data(format, &rows.collect::<Value>())?)?;
    }
    if failed > 0 {
        let text = format!("{failed} of {} secrets were not imported whole", outcomes.len());
        return Err(Failure::remote(text).hint("run the import again once that is mended").into());
    }
    Ok(Exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let check = |text: &str, (http, https), expected: Option<(&str, &str)>| {
            let got = Address::parse(text, http, https).unwrap();
            let got = got.as_ref().map(|address| (address.base.as_str(), address.path.as_str()));
            assert_eq!(got, expected, "{text}");
        };
        let no = (false, false);
        check("secret/app", no, None);
        check("vault://vault.lan/kv/team/", no, Some(("https://vault.lan:8200", "kv/team")));
        check("vault://vault.lan/kv", (true, false), Some(("http://vault.lan:8200", "kv")));
        check("vault://127.0.0.1:1234/kv", no, Some(("http://127.0.0.1:1234", "kv")));
        check("vault://localhost/kv", (false, true), Some(("https://localhost:8200", "kv")));
        check("vault+http://a/kv", no, Some(("http://a:8200", "kv")));
        check("https://[::1]/kv", no, Some(("https://[::1]:8200", "kv")));
        for bad in [
            "vault://",
            "vault:///kv",
            "vault://a",
            "vault://a/",
            "vault://t@a/kv",
            "vault://a:x/kv",
            "ftp://a/kv",
        ] {
            assert!(Address::parse(bad, false, false).is_err(), "{bad}");
        }
    }
}
