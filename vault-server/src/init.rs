//! `vault-server init`: the server key, the database, the configuration, and the setup line.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use anyhow::{Context as _, Result};
use shared::hash::Hash;
use shared::keys::{VerifyKey, random};
use shared::token::{Line as _, SetupLine};

use crate::config::{Config, EXAMPLE, Places, is_host_port};
use crate::datadir::{DataDir, public_key};
use crate::store::{Source, claim, log, snapshot};
use host::files;
use host::hint::hinted;

/// What a new server is asked to be.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// Address to listen on
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address under which agents reach this server, in the order to try; may be repeated
    #[arg(long = "address", value_name = "HOST:PORT", num_args = 1..)]
    pub addresses: Vec<String>,
}

/// A server that was made.
#[derive(Debug)]
pub struct Made {
    /// What it is started with.
    pub config: Config,
    /// Its setup line.
    pub line: String,
    /// Whether some of it was there, and a line of before is void.
    pub again: bool,
}

/// Makes a server and its setup line. One that has no vault yet, or was only half made, keeps its
/// key and gets another line.
///
/// # Errors
/// If there is one in the data directory that has a vault, or something cannot be written.
pub fn init(places: &Places, wanted: &Wanted) -> Result<Made> {
    if let Some(bad) = wanted.addresses.iter().find(|address| !is_host_port(address)) {
        let hint = "write it as host:port, e.g. 10.8.0.3:8443";
        return Err(hinted(format!("address `{bad}` is not host:port"), hint));
    }
    let config = configuration(places, wanted)?;
    let source = Source::of(&config.data, &config.store)?;
    let dir = DataDir::create(&config.data)?;
    let again = public_key(&config.data)?.is_some();
    let (key, claim) = fill(&dir, &source)?;
    write_configuration(&places.config, &config)?;
    let setup = SetupLine { addresses: addresses(&config), server: key, claim };
    let line = setup.to_line().context("cannot write the setup line")?;
    Ok(Made { config, line, again })
}

/// Makes a further server of the vault that the configured database holds, with a copy of the key
/// of the first one.
///
/// # Errors
/// If the database is not one that servers share, holds no vault, or lists another key.
pub fn join(places: &Places, wanted: &Wanted, key: &Path) -> Result<Config> {
    let config = configuration(places, wanted)?;
    let source = Source::of(&config.data, &config.store)?;
    if !source.is_shared() {
        let way = format!("name the database as `url` in [store] of `{}`", places.config.display());
        return Err(hinted("only a database of PostgreSQL has several servers", way));
    }
    let (state, _) = snapshot::fold(&source.open_source()?)?;
    let Some(state) = state else {
        let way = "`vault-server init` on the first host, then `vault init`, make one";
        return Err(hinted(format!("database `{source}` holds no vault yet"), way));
    };
    let dir = DataDir::create(&config.data)?;
    let taken = dir.take_key(key)?;
    if let Some(other) = taken.filter(|key| !state.server().contains(key)) {
        let way = "copy `server.key` of a server that runs on it";
        return Err(hinted(format!("the vault there lists another key than {other}"), way));
    }
    write_configuration(&places.config, &config)?;
    Ok(config)
}

/// Returns where agents are told to look for a server.
pub fn addresses(config: &Config) -> Vec<String> {
    match &*config.addresses {
        [] => vec![guess(config.listen).to_string()],
        given => given.to_vec(),
    }
}

/// Makes the key and a database that waits for its claim code.
fn fill(dir: &DataDir, source: &Source) -> Result<(VerifyKey, Hash)> {
    let key = dir.key_or_new()?.context("the server key is sealed")?;
    if !source.is_shared() {
        dir.database_or_new()?;
    }
    let code = Hash::from_bytes(*random::<32>());
    let conn = source.open()?;
    if log::hash_at(&conn, 0).context("cannot read the log")?.is_some() {
        let way = "a further server of it takes a copy of the first one's key: `vault-server init \
                   --join FILE`";
        return Err(hinted(format!("database `{source}` holds a vault already"), way));
    }
    claim::set(&conn, &code).context("cannot store the claim code")?;
    conn.close().context("cannot close the database")?;
    Ok((key, code))
}

/// Takes an existing configuration, if there is one; what was asked for goes before it.
///
/// # Errors
/// If the one that is there is refused.
pub fn configuration(places: &Places, wanted: &Wanted) -> Result<Config> {
    let mut config = if places.config.exists() {
        places.read()?
    } else {
        let example = Config::parse(Path::new("the built-in configuration"), EXAMPLE)?;
        Config { data: places.data.clone(), ..example }
    };
    if let Some(listen) = wanted.listen {
        config.listen = listen;
    }
    if !wanted.addresses.is_empty() {
        config.addresses.clone_from(&wanted.addresses);
    }
    Ok(config)
}

/// Writes the configuration unless there is one.
///
/// # Errors
/// If it cannot be written.
pub fn write_configuration(file: &Path, config: &Config) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    let parent = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot make directory `{}`", parent.display()))?;
    let data = config.data.to_str().context("the data directory's name is not UTF-8")?;
    let quoted: Vec<String> = config.addresses.iter().map(|a| format!("{a:?}")).collect();
    let text = EXAMPLE
        .replace("listen = \"0.0.0.0:8443\"", &format!("listen = \"{}\"", config.listen))
        .replace("data = \"/var/lib/vault-server\"", &format!("data = {data:?}"))
        .replace("addresses = []", &format!("addresses = [{}]", quoted.join(", ")));
    Ok(files::write_private(file, text.as_bytes())?)
}

/// Returns the address that agents most likely reach: the one listened on, or, when that is every
/// address, the one this machine would send from.
fn guess(listen: SocketAddr) -> SocketAddr {
    if !listen.ip().is_unspecified() {
        return listen;
    }
    // Connecting a datagram socket sends nothing; 192.0.2.1 is reserved (RFC 5737).
    let own = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    };
    SocketAddr::new(own().unwrap_or(IpAddr::from([127, 0, 0, 1])), listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NONE, schema};

    fn wanted(root: &Path) -> (Places, Wanted) {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let addresses = vec!["10.8.0.3:8443".to_owned(), "[::1]:8443".to_owned()];
        let places = Places::find(None, Some(&root.join("data"))).unwrap();
        (places, Wanted { listen, addresses })
    }

    #[test]
    fn the_written_configuration_reads_back() {
        let root = tempfile::tempdir().unwrap();
        let (places, wanted) = wanted(root.path());
        let Made { config, line, again } = init(&places, &wanted).unwrap();
        assert!(!again);
        assert_eq!(places.read().unwrap(), config);
        let setup = SetupLine::from_line(&line).unwrap();
        assert_eq!(setup.addresses, wanted.addresses);
        let key = DataDir::open(&config.data).unwrap().read_key(None).unwrap();
        assert_eq!(setup.server, key.verify_key());
    }

    #[test]
    fn a_second_init_makes_the_line_anew_until_there_is_a_vault() {
        let root = tempfile::tempdir().unwrap();
        let (places, wanted) = wanted(root.path());
        let made = [false, true].map(|again| {
            let made = init(&places, &wanted).unwrap();
            assert_eq!(made.again, again);
            SetupLine::from_line(&made.line).unwrap()
        });
        let [first, second] = made;
        assert_eq!(first.server, second.server);
        let database = schema::open(&places.data.join(schema::FILE)).unwrap();
        let holds = |claim| claim::matches(&database, claim).unwrap();
        assert!(!holds(&first.claim) && holds(&second.claim));
        let record = "INSERT INTO log VALUES (0, x'00', 'root', x'00', x'00')";
        database.execute(record, NONE).unwrap();
        assert!(init(&places, &wanted).unwrap_err().to_string().contains("already holds a server"));
        assert!(holds(&second.claim));
    }

    #[test]
    fn an_existing_configuration_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let (places, _) = wanted(root.path());
        let data = places.data.clone();
        std::fs::create_dir_all(&data).unwrap();
        std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        let text = format!("listen = \"127.0.0.1:7\"\ndata = {data:?}\n");
        files::write_private(&places.config, text.as_bytes()).unwrap();
        let wanted = Wanted { listen: None, addresses: vec![] };
        let config = init(&places, &wanted).unwrap().config;
        assert_eq!(config.listen.port(), 7);
        assert_eq!(std::fs::read_to_string(&places.config).unwrap(), text);
    }
}
