//! `vault dev`: a real server and a real agent on this machine under one folder, for trying out.
//!
//! Order of things only; each thing is done in a file of `dev/`.

mod child;
mod first;
mod folder;
mod imports;
mod outs;
mod pairs;
mod screen;
mod settings;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::child::{Child, check_length};
use self::folder::{AGENT, ENV, Folder, SERVER, TOKEN, read, read_line};
use self::pairs::Pair;
use self::settings::Out;
use crate::context::{Flags, Global};
use crate::sibling;
use host::files;
use host::hint::{Exit, hinted};
use host::term::Term;
use machine::identity::Pins;
use machine::paths::Paths;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep everything in this folder
    #[arg(long, value_name = "DIR", default_value = ".vault-dev")]
    data: PathBuf,

    /// Serve the local API here; port 0 lets the system choose
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8200")]
    listen: SocketAddr,

    /// Import a .env or JSON file whenever it has changed; PATH is secret/dev by default;
    /// repeatable
    #[arg(long = "import", value_name = "FILE[=PATH]")]
    imports: Vec<String>,

    /// Keep a .env file right; PATH is secret/dev by default; repeatable
    #[arg(long = "out", value_name = "FILE[=PATH]")]
    outs: Vec<String>,

    /// Replace files of --out that hold something else; a copy stays beside each
    #[arg(long)]
    replace: bool,
}

/// What this run is to do.
struct Plan {
    folder: Folder,
    paths: Paths,
    listen: SocketAddr,
    imports: Vec<Pair>,
    outs: Vec<Out>,
    replace: bool,
    server: PathBuf,
    agent: PathBuf,
}

/// SIGINT and SIGTERM.
struct Stop([Signal; 2]);

/// Runs `vault dev`.
///
/// # Errors
/// Before anything is started if an argument is wrong, the port or the folder is in use, or a
/// program is absent; later if a daemon fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit> {
    let plan = plan(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stop = runtime.block_on(async { Stop::new() })?;
    let mut daemons = Vec::new();
    let outcome = match start(&plan, &mut daemons, &mut stop, &runtime, global) {
        Ok(true) => runtime.block_on(until(&mut stop, &mut daemons)),
        Ok(false) => Ok(()),
        Err(fault) => Err(fault),
    };
    global.term.say("stopping");
    let mut stopped = Ok(());
    // The agent first: what it still has to say is heard.
    while let Some(daemon) = daemons.pop() {
        stopped = stopped.and(runtime.block_on(daemon.stop()));
    }
    outcome.and(stopped)?;
    Ok(Exit::OK)
}

fn plan(args: &Args) -> Result<Plan> {
    let (imports, outs) = (pairs::imports(&args.imports)?, pairs::outs(&args.outs)?);
    check_listen(args.listen)?;
    let (server, agent) = (sibling::find("server")?, sibling::find("agent")?);
    let folder = Folder::open(&args.data)?;
    let paths = Paths::resolve(Some(folder.at(AGENT)), None)?;
    check_length(&paths.socket)?;
    let (listen, replace) = (args.listen, args.replace);
    Ok(Plan { folder, paths, listen, imports, outs, replace, server, agent })
}

/// Refuses an address that others can reach, or that another program has.
fn check_listen(listen: SocketAddr) -> Result<()> {
    if !listen.ip().is_loopback() {
        return Err(hinted(
            format!("`{listen}` can be reached from other machines"),
            "listen on a loopback address, such as 127.0.0.1:8200",
        ));
    }
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(fault) if fault.kind() == std::io::ErrorKind::AddrInUse => Err(hinted(
            format!("`{listen}` is in use by another program"),
            format!(
                "`ss -ltnp 'sport = {}'` names it; or choose another with `--listen 127.0.0.1:0`",
                listen.port()
            ),
        )),
        Err(fault) => Err(fault).context(format!("listening on `{listen}`")),
    }
}

/// Starts everything; false if it was interrupted.
fn start(
    plan: &Plan,
    daemons: &mut Vec<Child>,
    stop: &mut Stop,
    runtime: &Runtime,
    global: &Global,
) -> Result<bool> {
    let Plan { folder, paths, .. } = plan;
    // It is there when this run is ready, not before.
    files::remove(&folder.at(ENV))?;
    let joined = Pins::load(paths)?.is_some();
    if !joined {
        first::make_server(&plan.server, folder)?;
    }
    let mut server = Command::new(&plan.server);
    server.args(["run", "--listen", "127.0.0.1:0", "--data"]).arg(folder.at(SERVER));
    let server = runtime.block_on(launch("server", server, folder, daemons, stop))?;
    let Some(server) = server else { return Ok(false) };
    if !joined {
        global.term.say("first start: making a vault for trying out");
        runtime.block_on(first::make_vault(&server, folder, paths, global))?;
    }
    configure(plan, &server, &global.term)?;
    let mut agent = Command::new(&plan.agent);
    agent.args(["run", "--state"]).arg(folder.at(AGENT));
    let listen = runtime.block_on(launch("agent", agent, folder, daemons, stop))?;
    let Some(listen) = listen else { return Ok(false) };
    // What commands know that talk to this run's agent, whatever the environment says.
    let flags = Flags { state: Some(folder.at(AGENT)), ..Flags::default() };
    let inner = Global::new(flags, Term::std(), Box::new(|_| None), host::clock::now);
    for pair in &plan.imports {
        imports::import(pair, folder, &inner)?;
    }
    for out in &plan.outs {
        let expected = outs::expected(out, &inner)?;
        match runtime.block_on(stop.or(outs::wait(out, expected, &inner.term)))? {
            Some(true) => {}
            Some(false) => outs::report(out, &inner)?,
            None => return Ok(false),
        }
    }
    folder.write_env(&listen, &read_line(&folder.at(TOKEN))?.unwrap_or_default())?;
    screen::show(folder, &plan.imports, &plan.outs, &listen, global, &inner)?;
    Ok(true)
}

/// Starts a daemon and returns the address where it listens, `None` if interrupted.
async fn launch(
    name: &'static str,
    program: Command,
    folder: &Folder,
    daemons: &mut Vec<Child>,
    stop: &mut Stop,
) -> Result<Option<String>> {
    let mut child = Child::start(name, program, &folder.path)?;
    let listen = stop.or(child.ready()).await;
    daemons.push(child);
    listen
}

/// Waits for the signal to stop.
///
/// # Errors
/// If a daemon ends before.
async fn until(stop: &mut Stop, daemons: &mut [Child]) -> Result<()> {
    let [server, agent] = daemons else { return Ok(()) };
    tokio::select! {
        () = stop.wait() => Ok(()),
        failure = server.ended() => Err(failure.into()),
        failure = agent.ended() => Err(failure.into()),
    }
}

/// Brings `agent.toml` up to date.
fn configure(plan: &Plan, server: &str, term: &Term) -> Result<()> {
    let file = &plan.paths.config;
    let old = read(file)?.unwrap_or_default();
    let outs = outs::prepare(&plan.outs, plan.replace, term)?;
    let listen = plan.listen.to_string();
    let new = settings::edit(&old, server, &listen, &plan.folder.at(TOKEN), &outs)?;
    files::replace(file, new.as_bytes(), files::Access::PRIVATE)?;
    Ok(())
}

impl Stop {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    /// Does some work, or stops waiting for it: `None`.
    async fn or<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        tokio::select! {
            biased;
            () = self.wait() => Ok(None),
            done = work => done.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_free_loopback_addresses_are_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let fault = check_listen(address).unwrap_err();
        assert_eq!(fault.to_string(), format!("`{address}` is in use by another program"));
        assert!(host::hint::hint(&fault).unwrap().contains("--listen 127.0.0.1:0"));
        let fault = check_listen("0.0.0.0:0".parse().unwrap()).unwrap_err();
        assert_eq!(fault.to_string(), "`0.0.0.0:0` can be reached from other machines");
        check_listen("127.0.0.1:0".parse().unwrap()).unwrap();
    }

    #[test]
    fn an_absent_daemon_is_named() {
        let fault = sibling::find("nothing").unwrap_err().to_string();
        assert!(fault.starts_with("there is no program `") && fault.ends_with("-nothing`"));
    }
}
