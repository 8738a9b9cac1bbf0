//! `vault setup` once more with something else in the line, or where something else is at its port:
//! what is taken, and what is refused or named, never dropped in silence.

use std::fs;

use tests::{Port, bins, run};

use crate::setup::{Bare, SECRET, goes_on, refused};

/// Where `agent.toml` and the pins say that the server is.
fn looked_for(bare: &Bare) -> [String; 2] {
    let config = fs::read_to_string(bare.state("agent.toml")).unwrap();
    let servers = config.lines().find(|line| line.starts_with("server = ")).unwrap();
    let pins = fs::read_to_string(bare.state("pins.json")).unwrap();
    let pins: serde_json::Value = serde_json::from_str(&pins).unwrap();
    [servers.to_owned(), pins["addresses"].to_string()]
}

#[test]
fn a_wrong_address_or_port_is_mended_by_the_same_line_until_the_vault_is_made() {
    let bare = Bare::new(bins!());
    let wrong = Port::reserve();
    let (old, new) = (wrong.address().port(), bare.port.address().port());
    // Nobody has 192.0.2.1 (RFC 5737); there is no such folder.
    let stopped = run(&mut bare.line("192.0.2.1", old, &bare.at("none/kit.txt")), "");
    refused(&stopped, "none");
    assert_eq!(bare.processes().len(), 1, "the server runs, the vault is not made");

    let kit = bare.at("kit.txt");
    let said = run(&mut bare.line("192.0.2.2", new, &kit), "");
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains(&format!("192.0.2.2:{new}")), "{}", said.err);
    assert!(said.out.contains(&format!("the vault's server is 192.0.2.2:{new}")), "{}", said.out);
    let near = format!("127.0.0.1:{new}");
    let [servers, pins] = looked_for(&bare);
    assert!(
        servers.starts_with(&format!("server = [\"{near}\", \"192.0.2.2:{new}\"]")),
        "{servers}"
    );
    assert_eq!(pins, format!("[\"192.0.2.2:{new}\"]"), "others are not told of loopback");
    let server = fs::read_to_string(bare.at("server/server.toml")).unwrap();
    assert!(server.contains(&format!("listen = \"0.0.0.0:{new}\"")), "{server}");
    assert_eq!(bare.processes().len(), 2, "the server that listened elsewhere has ended");

    let late = run(&mut bare.line("192.0.2.3", new, &kit), "");
    refused(&late, &format!("machines look for it at 192.0.2.2:{new}"));
    refused(&late, "set `server` in `");
    refused(&run(&mut bare.line("192.0.2.2", old, &kit), ""), "the vault is made");
    let again = run(&mut bare.line("192.0.2.2", new, &kit), "");
    assert_eq!(again.code, 0, "{}", again.err);
}

#[test]
fn something_else_at_the_port_is_not_taken_for_the_server() {
    let bare = Bare::new(bins!());
    bare.check(&bare.setup());
    bare.cut_power();
    let stranger = std::net::TcpListener::bind(bare.port.address()).unwrap();
    std::thread::spawn(move || stranger.incoming().flatten().for_each(drop));
    let ran = bare.setup();
    refused(&ran, "something else than a vault's server answers at 127.0.0.1:");
    refused(&ran, "hint: `ss -ltnp 'sport = ");
    assert!(bare.processes().is_empty(), "nothing was started");
}

#[test]
fn what_is_said_otherwise_of_a_vault_that_is_made_is_named_or_refused() {
    let bare = Bare::new(bins!());
    bare.check(&bare.setup());
    let hooked = run(bare.whole().args(["--on-change", "true"]), "");
    goes_on(&hooked, "without what is said now by --on-change");
    let mut named = bare.host.command(bare.host.bins.vault);
    named.env("VAULT_SERVER_DATA", bare.at("server"));
    refused(&run(named.args(["setup", "--user", "--yes", "--name", "nas"]), ""), "too late");
    let bare_line = run(&mut bare.command(&[]), "");
    assert_eq!(bare_line.code, 0, "{}", bare_line.err);
    assert!(!bare_line.out.contains("vault import"), "there are secrets: {}", bare_line.out);

    // The same line without the path publishes no copy.
    let (master, file) = (bare.at("env.master"), bare.host.env_file());
    let [master, file] = [&master, &file].map(|path| path.to_str().unwrap());
    let copy = run(&mut bare.command(&["--import", master, "--target", file]), "");
    refused(&copy, "is a target already: it holds secret/jjeco/api-keys, and not secret/");
    refused(&copy, &format!("`--import {master} {SECRET}`"));
    assert_eq!(bare.host.vault(&["kv", "list", "secret"]).ok().trim(), "Keys\n----\njjeco/");
}
