//! `vault ui`: asks this host's agent, or another one's over ssh, for a link that opens its page
//! once, and shows it in the browser. The page itself is the agent's.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Client;
use crate::context::Global;
use crate::owner::ssh::{SSH, Tunnel};
use crate::print::Format;
use host::account;
use host::hint::{Exit, Failure, hinted};
use host::shown::Shown;
use machine::local::{UI, UiLink, UiRequest, UiState, UiWidget};

/// The program that opens the browser.
const OPENER: &str = "xdg-open";
/// Looks at whether it has failed, and the time between them.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);
/// Between two looks whether the tunnel still stands.
const TUNNEL: Duration = Duration::from_secs(1);

/// Open a page that answers whether all is well
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The agent of this host shows the page on 127.0.0.1, to the browser that opens the link: it is good
once, for a minute, for programs of the user who asks. The page shows how everybody stands, who reads what, and what to type;
nothing is changed on it. It ends when nobody has used it for half an hour.

Examples:
  vault ui
  vault ui --print
  vault ui --ssh rtx1080")]
pub struct Args {
    /// Show the page of this host's agent, through a tunnel that stands until Ctrl-C
    #[arg(long, value_name = "[USER@]HOST", conflicts_with_all = ["close", "widget"])]
    ssh: Option<String>,
    /// Print the link instead of opening the browser
    #[arg(long)]
    print: bool,
    /// End the page and everybody's session now
    #[arg(long, conflicts_with_all = ["print", "widget"])]
    close: bool,
    /// Print the addresses of the widget and the badge, which `[ui] widget` turns on
    #[arg(long, conflicts_with = "print")]
    widget: bool,
    /// As root: make the link for this user's browser
    #[arg(long = "for", value_name = "USER", conflicts_with_all = ["ssh", "close", "widget"])]
    user: Option<String>,
    /// The port that the browser sees, where a tunnel leads here
    #[arg(long, value_name = "PORT", hide = true, value_parser = clap::value_parser!(u16).range(1..))]
    through: Option<u16>,
}

/// Opens the page.
pub(crate) fn run(global: &Global, args: &Args) -> Result<Exit> {
    if let Some(host) = &args.ssh {
        return over_ssh(global, host, args.print);
    }
    let client = global.client()?;
    if args.close {
        client.send(Method::DELETE, UI, &[], None)?.success()?;
        global.term.say("the page is closed");
        return Ok(Exit::OK);
    }
    if args.widget {
        return widget(global, &client);
    }
    let user = args.user.as_deref().map(numbered).transpose()?;
    let link: UiLink = client.post(UI, &UiRequest { through: args.through, user })?;
    let format = global.format()?;
    if format != Format::Table {
        return global.show(format, Shown::default, &link);
    }
    present(global, &link, args.print)?;
    if user.is_none() && rustix::process::geteuid().is_root() {
        global.term.say("only root's programs may: `--for USER` makes a link for a user's browser");
    }
    Ok(Exit::OK)
}

/// Returns the number of a user of this host, by name or number.
fn numbered(name: &str) -> Result<u32> {
    let known = account::user(name).map(|user| user.uid);
    known.or_else(|| name.parse().ok()).ok_or_else(|| {
        let text = format!("user `{name}` is not known on this host");
        hinted(text, "`getent passwd` lists who is")
    })
}

/// Opens the browser, or prints the link where there is none to open.
fn present(global: &Global, link: &UiLink, print: bool) -> Result<()> {
    if !print && has_display(global) && open_browser(&link.link) {
        global.term.say("the page is in your browser; `vault ui --print` prints a link instead");
        return Ok(());
    }
    global.term.line(&link.link)?;
    global.term.say(format!("open it within {} s: it is good once", link.seconds));
    Ok(())
}

/// Tells whether there is a screen with a browser of this user's: root's would be one with root's
/// rights.
fn has_display(global: &Global) -> bool {
    let is_set = |name| global.env(name).is_some_and(|value| !value.is_empty());
    !rustix::process::geteuid().is_root() && (is_set("WAYLAND_DISPLAY") || is_set("DISPLAY"))
}

/// Starts the browser; tells whether it did not fail at once.
#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at the program there is nothing else to wait for"
)]
fn open_browser(link: &str) -> bool {
    let mut opener = Command::new(OPENER);
    opener.arg(link).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut opener): std::io::Result<Child> = opener.spawn() else { return false };
    for _ in 0..LOOKS {
        match opener.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(PAUSE),
            Err(_) => return false,
        }
    }
    // It is the browser itself, and stays.
    true
}

fn widget(global: &Global, client: &Client) -> Result<Exit> {
    let state: UiState = client.get(UI, &[])?;
    let Some(UiWidget { json, badge }) = &state.widget else {
        return Err(Failure::remote("this host's agent shows no widget")
            .hint(
                "`[ui]` with `widget = true` and a `port` in `agent.toml`, and start the agent again",
            )
            .into());
    };
    let shown = || Shown::lines([json.as_str(), badge.as_str()]);
    global.show(global.format()?, shown, &state.widget)
}

/// Shows the page of another host's agent, and keeps the tunnel to it until it is interrupted.
fn over_ssh(global: &Global, host: &str, print: bool) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Taken over first: the tunnel is taken down however this ends.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (mut tunnel, link) = Tunnel::open(SSH, host)?;
        present(global, &link, print)?;
        global.term.say(format!("the tunnel to `{host}` stands until Ctrl-C"));
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(Exit::OK),
                _ = terminate.recv() => return Ok(Exit::OK),
                _ = hangup.recv() => return Ok(Exit::OK),
                () = tokio::time::sleep(TUNNEL) => if !tunnel.stands()? {
                    return Err(hinted(
                        format!("the connection to `{host}` was cut"),
                        "type the same again for a new one",
                    ));
                }
            }
        }
    })
}
