//! The page of another host's agent, seen from here: its link, and a port of this host that leads
//! there.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result, bail};

use super::connection::{Connection, Step};
use super::script::Rights;
use host::hint::Failure;
use machine::local::UiLink;

/// A way from a port of this host's loopback to another host's page; ended when dropped.
pub struct Tunnel {
    connection: Connection,
}

impl Tunnel {
    /// Asks the agent of a host for a link to its page, and leads the link's port there.
    ///
    /// # Errors
    /// If ssh does not get there or leads no port, or no agent answers its user there.
    pub fn open(program: &str, host: &str) -> Result<(Self, UiLink)> {
        let connection = Connection::open(program, host)?;
        let port = free_port()?;
        // A shell that nobody has logged in to knows few folders.
        let ask = format!(
            "PATH=\"$PATH:$HOME/.local/bin:/usr/local/bin\"; \
             exec vault -format=json ui --print --through {port}"
        );
        let (line, _) = Rights::Own.line(&ask);
        let ran = connection.run(Step::new("asking for the page"), &line, &[])?;
        if !ran.status.success() {
            let said = ran.said();
            let failure = Failure::remote(format!("`{host}` shows no page: {}", said.trim()));
            let advice = ran.advice(host).map(|advice| advice.to_string());
            let hint = advice.unwrap_or_else(|| {
                "name a user who may use the agent's socket there, such as root@HOST".to_owned()
            });
            bail!(failure.hint(hint));
        }
        let link: UiLink = serde_json::from_str(ran.out.trim())
            .with_context(|| format!("`{host}` answers with no link"))?;
        // What another host says is not opened unseen.
        let expected = format!("http://127.0.0.1:{port}/open/");
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let token = link.link.strip_prefix(&expected);
        if !token.is_some_and(|token| !token.is_empty() && token.chars().all(is_token)) {
            bail!(Failure::remote(format!("`{host}` answers with a link that leads elsewhere")));
        }
        connection.forward(port, link.port)?;
        Ok((Self { connection }, link))
    }

    /// Tells whether it still stands.
    ///
    /// # Errors
    /// If ssh cannot be looked at.
    pub fn stands(&mut self) -> Result<bool> {
        self.connection.stands()
    }
}

/// Finds a port that nobody listens on.
fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
