//! The way out where this machine lacks a right: the command that would give it, for an admin.

use shared::path::SecretPath;

use crate::client::{Client, Error};
use crate::context::Global;
use machine::findings::access_command;
use machine::local::{MACHINES, Machines};

/// The words of a refusal that says no more, as Vault's.
const DENIED: &str = "permission denied";

/// Returns the command that would give this machine what its own agent has refused, and where to
/// run it; `None` if that is not why.
pub fn way(global: &Global, error: &anyhow::Error) -> Option<String> {
    let Error::Refused(refusal) = error.downcast_ref::<Error>()? else { return None };
    let is_plain = refusal.errors.as_ref().is_ok_and(|errors| errors == &[DENIED]);
    let client = global.client().ok().filter(Client::is_own_agent);
    if refusal.status != 403 || !is_plain || global.env("VAULT_TOKEN").is_some() {
        return None;
    }
    let (method, url) = refusal.call.split_once(' ')?;
    let path = asked(url)?;
    let all: Machines = client?.get(MACHINES, &[]).ok()?;
    let own = all.machines.iter().find(|row| row.active && Some(row.number) == all.own)?;
    let is_read = matches!(method, "GET" | "LIST");
    let (kind, held) = if is_read { ("read", &own.read) } else { ("write", &own.write) };
    if held.cover(&path) {
        return None;
    }
    let more = |wanted: bool| wanted.then_some(&path);
    let (read, write) = ((&own.read, more(is_read)), (&own.write, more(!is_read)));
    Some(format!(
        "`{}` has no grant to {kind} it; an admin gives one, where the admin key is: `{}`",
        own.name,
        access_command(&own.name, read, write)
    ))
}

/// Returns the secret that a URL of the API is about, unless a shell would need it quoted.
fn asked(url: &str) -> Option<SecretPath> {
    let (_, path) = url.split_once("/v1/")?;
    let path = path.split('?').next().filter(|path| !path.contains(['%', '\'']))?;
    let (mount, rest) = path.split_once('/')?;
    let (_, name) = rest.split_once('/')?;
    format!("{mount}/{name}").parse().ok()
}

#[cfg(test)]
mod tests {
    use shared::grant::Grants;
    use shared::keys::SignKey;

    use super::*;
    use crate::testing::World;
    use machine::local::MachineRow;

    fn row(number: u64, active: bool, read: &[&str]) -> MachineRow {
        MachineRow {
            name: "vps".parse().unwrap(),
            number,
            active,
            sleeps: false,
            sign: SignKey::from_seed(&[3; 32]).verify_key(),
            read: Grants::parse(read).unwrap(),
            write: Grants::default(),
            seen_at: None,
            agent: None,
        }
    }

    fn told(line: &str) -> String {
        let denied = r#"{"errors":["permission denied"]}"#;
        let machines = vec![row(1, false, &["*"]), row(2, true, &["secret/jjeco/"])];
        let all = Machines { machines, next: 3, own: Some(2), server: Vec::new() };
        let all = serde_json::to_string(&all).unwrap();
        let world = World::agent(&[
            ("GET /v1/agent/machines", 200, all.as_str()),
            ("GET /v1/secret/data/home/door", 403, denied),
            ("GET /v1/secret/data/jjeco/a", 403, denied),
            ("PUT /v1/secret/data/jjeco/a", 403, denied),
        ]);
        let run = world.run(line);
        assert_eq!(run.exit, 2);
        run.err.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default().to_owned()
    }

    #[test]
    fn what_would_give_the_right_is_named_and_takes_no_other_away() {
        assert_eq!(
            told("kv get secret/home/door"),
            "hint: `vps` has no grant to read it; an admin gives one, where the admin key is: \
             `vault access set vps --read secret/jjeco/,secret/home/door`"
        );
        assert_eq!(
            told("kv put secret/jjeco/a k=v"),
            "hint: `vps` has no grant to write it; an admin gives one, where the admin key is: \
             `vault access set vps --read secret/jjeco/ --write secret/jjeco/a`"
        );
        assert_eq!(told("kv get secret/jjeco/a"), "", "it may read it: something else is wrong");
    }
}
