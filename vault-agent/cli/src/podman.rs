//! `vault-agent podman`: the four commands of Podman's secret driver `shell`. Podman makes up an id
//! for each secret and passes it in `SECRET_ID`; the value goes over standard input and output,
//! byte for byte.

use hyper::Method;
use serde_json::{Value, json};
use shared::path::SecretPath;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::context::Global;
use crate::kv::{Route, Secret, Typed, context, data, walk, write};
use crate::vault::export;
use host::hint::{Exit, Failure};
use machine::binary;
use machine::render::{self, Format, Rules};

/// The key under which text is kept.
const KEY: &str = "value";

#[derive(Debug, clap::Args)]
#[command(after_help = "Podman calls these with the id of a secret in SECRET_ID:
  podman secret create --driver shell \\
    --driver-opts list='vault-agent podman list',lookup='vault-agent podman lookup' \\
    --driver-opts store='vault-agent podman store',delete='vault-agent podman delete' NAME FILE")]
pub struct Args {
    /// Folder of Podman's secrets
    #[arg(long, global = true, value_name = "PATH", default_value = "secret/podman")]
    prefix: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the ids of all secrets, one a line
    List,
    /// Print the value of the secret SECRET_ID
    Lookup,
    /// Store standard input as the new secret SECRET_ID
    Store,
    /// Remove the secret SECRET_ID with all versions
    Delete,
}

/// Runs what Podman asks for.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let store = Store { global, client: global.client()?, prefix: &args.prefix };
    match args.command {
        Command::List => store.list(),
        Command::Lookup => store.lookup(),
        Command::Store => store.store(),
        Command::Delete => store.delete(),
    }
}

/// A folder of secrets, by the ids that Podman gives them.
struct Store<'a> {
    global: &'a Global,
    client: Client,
    prefix: &'a str,
}

impl Store<'_> {
    fn list(&self) -> anyhow::Result<Exit> {
        let folder = Typed { mount: None, path: self.prefix.to_owned() }.for_read(&self.client)?;
        let names = walk::names(&self.client, &folder);
        let names = names.map_err(|error| context(error, "listing", &folder.api("metadata")))?;
        for id in names.unwrap_or_default().iter().filter(|name| !name.ends_with('/')) {
            self.global.term.line(id)?;
        }
        Ok(Exit::OK)
    }

    fn lookup(&self) -> anyhow::Result<Exit> {
        let secret = export::fields(self.global, &self.client, &self.place()?)?;
        let value = render::render(Format::Raw, &[secret], &Rules::default());
        let value = value.map_err(|refused| Failure::local(format!("the secret {refused}")))?;
        self.global.term.data(value.content.expose())?;
        Ok(Exit::OK)
    }

    fn store(&self) -> anyhow::Result<Exit> {
        let route = self.route()?;
        let bytes = Zeroizing::new(self.global.term.read_all()?);
        let (key, value) = kept(&bytes);
        let body = json!({ "data": { (key): value }, "options": { "cas": 0 } });
        write::put(&self.client, &route.api("data"), &body)?;
        Ok(Exit::OK)
    }

    fn delete(&self) -> anyhow::Result<Exit> {
        let route = self.route()?;
        let path = route.api("metadata");
        let send = |method| self.client.send(method, &path, &[], None);
        if send(Method::GET)?.status == 404 {
            return Err(Failure::remote(format!("No value found at {path}")).into());
        }
        Secret::answered(send(Method::DELETE), "deleting", &path)?;
        Ok(Exit::OK)
    }

    fn route(&self) -> anyhow::Result<Route> {
        Ok(self.place()?.for_write(&self.client)?)
    }

    /// Returns where the secret of this call lies: in the folder itself, whatever the id.
    fn place(&self) -> Result<Typed, Failure> {
        let id = self.global.env("SECRET_ID").ok_or_else(|| {
            Failure::local("SECRET_ID is not set")
                .hint("Podman sets it; by hand: SECRET_ID=… vault-agent podman lookup")
        })?;
        let path = format!("{}/{id}", self.prefix.trim_end_matches('/'));
        match path.parse::<SecretPath>() {
            Ok(_) if !id.contains('/') => Ok(Typed { mount: None, path }),
            Ok(_) => Err(Failure::local(format!("SECRET_ID `{}` is a path", id.escape_debug()))),
            Err(why) => Err(Failure::local(why.to_string()).hint(why.code.hint())),
        }
    }
}

/// Returns how a value is kept: as text where that is what it is, else as a file.
fn kept(bytes: &[u8]) -> (&'static str, Value) {
    match std::str::from_utf8(bytes).ok().filter(|text| data::fits(text)) {
        Some(text) => (KEY, text.into()),
        None => (binary::FILE, json!({ (binary::MARK): *binary::base64(bytes) })),
    }
}
