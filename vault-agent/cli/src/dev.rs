//! `vault dev`: a real server and a real agent on this machine under one folder, for trying out.
//!
//! Order of things only; each thing is done in a file of `dev/`.

mod child;
mod first;
mod folder;
mod imports;
mod outs;
mod pairs;
mod plan;
mod ready;
mod screen;
mod settings;

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::child::{Child, Program};
use self::folder::{Environment, Folder, read_line};
use self::plan::Plan;
use self::ready::{Ready, check_length};
use self::settings::Settings;
use crate::context::{Flags, Global};
use crate::sibling;
use host::files;
use host::hint::{Exit, Failure};
use host::term::Term;
use machine::paths::Paths;

/// Try everything out on this machine: a server and an agent until Ctrl-C
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
}

/// The daemons that run.
#[derive(Default)]
struct Daemons {
    server: Option<Child>,
    agent: Option<Child>,
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

/// Runs `vault dev`.
///
/// # Errors
/// Before anything is started if an argument is wrong, the port or the folder is in use, or a
/// program is absent; later if a daemon fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit> {
    let plan = plan(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stop = runtime.block_on(async { Stop::new() })?;
    let mut daemons = Daemons::default();
    let outcome = match start(&plan, &mut daemons, &mut stop, &runtime, global) {
        Ok(true) => runtime.block_on(daemons.until(&mut stop)),
        Ok(false) => Ok(()),
        Err(fault) => Err(fault),
    };
    global.term.say("stopping");
    let stopped = runtime.block_on(daemons.stop());
    outcome.and(stopped)?;
    Ok(Exit::OK)
}

fn plan(args: &Args) -> Result<Plan> {
    let (imports, outs) = (pairs::imports(&args.imports)?, pairs::outs(&args.outs)?);
    check_listen(args.listen)?;
    let (server, agent) = (sibling::find("server")?, sibling::find("agent")?);
    let folder = Folder::open(&args.data)?;
    let paths = Paths::resolve(Some(folder.agent()), None)?;
    check_length(&paths.socket)?;
    Ok(Plan { folder, paths, listen: args.listen, imports, outs, server, agent })
}

/// Refuses an address that others can reach, or that another program has.
fn check_listen(listen: SocketAddr) -> Result<()> {
    if !listen.ip().is_loopback() {
        bail!(
            Failure::local(format!("`{listen}` can be reached from other machines"))
                .hint("listen on a loopback address, such as 127.0.0.1:8200")
        );
    }
    let Err(fault) = TcpListener::bind(listen) else { return Ok(()) };
    if fault.kind() == std::io::ErrorKind::AddrInUse {
        bail!(Failure::local(format!("`{listen}` is in use by another program")).hint(format!(
            "`ss -ltnp 'sport = {}'` names it; or choose another with `--listen 127.0.0.1:0`",
            listen.port()
        )));
    }
    Err(fault).context(format!("listening on `{listen}`"))
}

/// Starts everything; false if it was interrupted.
fn start(
    plan: &Plan,
    daemons: &mut Daemons,
    stop: &mut Stop,
    runtime: &Runtime,
    global: &Global,
) -> Result<bool> {
    let Plan { folder, paths, .. } = plan;
    // It is there when this run is ready, not before.
    files::remove(&folder.env())?;
    let joined = first::is_joined(paths)?;
    if !joined {
        first::make_server(&plan.server, folder)?;
    }
    let Some(server) = runtime.block_on(start_server(plan, daemons, stop))? else {
        return Ok(false);
    };
    if !joined {
        global.term.say("first start: making a vault for trying out");
        runtime.block_on(first::make_vault(&server, folder, paths, global))?;
    }
    configure(plan, &server, &global.term)?;
    let Some(listen) = runtime.block_on(start_agent(plan, daemons, stop))? else {
        return Ok(false);
    };
    let inner = inside(folder);
    for pair in &plan.imports {
        imports::import(pair, folder)?;
    }
    for out in &plan.outs {
        let expected = outs::expected(out, &inner)?;
        match runtime.block_on(stop.or(outs::wait(out, expected, &inner.term)))? {
            Some(true) => {}
            Some(false) => outs::report(out, &inner)?,
            None => return Ok(false),
        }
    }
    let token = read_line(&folder.token())?.unwrap_or_default();
    Environment { listen: &listen, token: &token, folder }.write()?;
    screen::show(plan, &listen, global, &inner)?;
    Ok(true)
}

/// Starts the server and returns its address, `None` if interrupted.
async fn start_server(
    plan: &Plan,
    daemons: &mut Daemons,
    stop: &mut Stop,
) -> Result<Option<String>> {
    let program = Program {
        name: "the server",
        file: &plan.server,
        arguments: vec![
            "run".into(),
            "--data".into(),
            plan.folder.server().into(),
            "--listen".into(),
            "127.0.0.1:0".into(),
            "--exit-with-stdin".into(),
        ],
        log: plan.folder.at("server.log"),
    };
    let ready = Ready::bind(&plan.folder.path, "server.ready")?;
    let child = daemons.server.insert(Child::start(program, ready)?);
    listening(child, stop).await
}

/// Starts the agent and returns the address of its API, `None` if interrupted.
async fn start_agent(
    plan: &Plan,
    daemons: &mut Daemons,
    stop: &mut Stop,
) -> Result<Option<String>> {
    let program = Program {
        name: "the agent",
        file: &plan.agent,
        arguments: vec![
            OsString::from("run"),
            "--state".into(),
            plan.folder.agent().into(),
            "--exit-with-stdin".into(),
        ],
        log: plan.folder.at("agent.log"),
    };
    let ready = Ready::bind(&plan.folder.path, "agent.ready")?;
    let child = daemons.agent.insert(Child::start(program, ready)?);
    listening(child, stop).await
}

async fn listening(child: &mut Child, stop: &mut Stop) -> Result<Option<String>> {
    let Some(notice) = stop.or(child.ready()).await? else { return Ok(None) };
    match notice.listen {
        Some(address) => Ok(Some(address)),
        None => bail!(child.failure("is ready but does not say where it listens")),
    }
}

/// Brings `agent.toml` up to date.
fn configure(plan: &Plan, server: &str, term: &Term) -> Result<()> {
    let file = &plan.paths.config;
    let old = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(fault) => return Err(fault).context(format!("reading `{}`", file.display())),
    };
    let outs = outs::prepare(&plan.outs, &old, &plan.folder, term)?;
    let settings = Settings {
        server,
        listen: &plan.listen.to_string(),
        token_file: &plan.folder.token(),
        outs: &outs,
    };
    let new = settings::edit(&old, &settings)?;
    files::replace(file, new.as_bytes(), files::Access::PRIVATE)?;
    Ok(())
}

/// Returns what commands know that talk to this run's agent, whatever the environment says.
fn inside(folder: &Folder) -> Global {
    let flags = Flags { state: Some(folder.agent()), ..Flags::default() };
    Global::new(flags, Term::std(), Box::new(|_| None), host::clock::now)
}

impl Stop {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
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

impl Daemons {
    /// Waits for the signal to stop.
    ///
    /// # Errors
    /// If a daemon ends before.
    async fn until(&mut self, stop: &mut Stop) -> Result<()> {
        let (Some(server), Some(agent)) = (&mut self.server, &mut self.agent) else {
            return Ok(());
        };
        tokio::select! {
            () = stop.wait() => Ok(()),
            failure = server.ended() => Err(failure.into()),
            failure = agent.ended() => Err(failure.into()),
        }
    }

    /// Stops the agent, then the server: what the agent still has to say is heard.
    async fn stop(self) -> Result<()> {
        let agent = match self.agent {
            Some(agent) => agent.stop().await,
            None => Ok(()),
        };
        let server = match self.server {
            Some(server) => server.stop().await,
            None => Ok(()),
        };
        agent.and(server)
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
