//! Owner acts while a fork has stopped updates and writes: shutting a machine out must not wait for
//! its end (design/trust, *Client*, reports). This machine is connected for the act's duration
//! only, on its own branch, and nothing that comes along is delivered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::error::Code;
use shared::log::Op;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::follow;
use super::parts::Parts;
use super::reach::beside;

/// How long catching up may take.
const CATCH_UP: Duration = Duration::from_secs(30);

/// Checks that the operations are such as a fork does not stop; none at all are what is left of
/// them: re-encryptions.
///
/// # Errors
/// `E_FORK`.
pub(super) fn check(ops: &[Op]) -> Result<()> {
    let is_allowed = |op: &&Op| {
        matches!(
            op,
            Op::MachineRemove { .. } | Op::AccessSet(_) | Op::ServerSet { .. } | Op::Rewrap(_)
        )
    };
    match ops.iter().find(|op| !is_allowed(op)) {
        None => Ok(()),
        Some(op) => {
            let why = format!("`{}` waits until the fork is resolved", op.name());
            bail!(Code::Fork.because(why))
        }
    }
}

/// Runs `act` with a connection that has caught up with the log.
///
/// # Errors
/// If another act is under way, the server is not reached, or shows another history.
pub(super) async fn connected<T>(
    parts: &Arc<Parts>,
    act: impl Future<Output = Result<T>>,
) -> Result<T> {
    let _acting = parts.link.act().context("another owner's act is under way")?;
    let client = beside(parts).await?;
    let before = parts.link.look(|link| link.tries);
    let mut following = JoinSet::new();
    let own = Arc::clone(parts);
    following.spawn(async move { follow::follow(&own, client).await });
    let mut link = parts.link.subscribe();
    let settled =
        async { link.wait_for(|link| link.tries > before).await.map(|now| now.caught_up) };
    if !matches!(timeout(CATCH_UP, settled).await, Ok(Ok(true))) {
        bail!("this machine's history is not the server's: {}", parts.link.now().reason());
    }
    act.await
}

#[cfg(test)]
mod tests {
    use shared::grant::Grants;
    use shared::hash::Hash;
    use shared::log::Access;
    use shared::text::Text;

    use super::*;

    #[test]
    fn what_shuts_a_machine_out_is_never_stopped() {
        let (number, was, none) = (1, Hash::ZERO, Grants::default());
        let access = Access { number, was, read: none.clone(), write: none };
        check(&[
            Op::MachineRemove { number, reason: Text::default() },
            Op::AccessSet(access),
            Op::ServerSet { keys: Vec::new(), was },
        ])
        .unwrap();
        let rename = Op::MachineRename { number, to: "vps".parse().unwrap() };
        let refused = check(&[rename]).unwrap_err().to_string();
        assert_eq!(refused, "E_FORK: `machine_rename` waits until the fork is resolved");
    }
}
