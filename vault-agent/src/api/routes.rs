//! Every route that wants a caller who was let in: its path, its verb, and whether callers of whom
//! `require_reason` demands it say why they ask. What a route does lives in its own file; pure.

use shared::audit::Op;

use Verb::{Delete, List, Patch, Read, Write};
use Why::{ForPath, Free, Signed, Wanted};

use super::error::ApiFault;
use super::request::Verb;

/// One way to ask for something.
#[derive(Debug)]
pub(super) struct Route {
    /// What follows `sys/`, `auth/` or `agent/`, or the kind of a KV path; `*` is any text.
    pub(super) path: &'static str,
    pub(super) verb: Verb,
    pub(super) why: Why,
}

/// Whether a route wants a reason.
#[derive(Debug)]
pub(super) enum Why {
    /// No: it hands out no value and no names of keys, and changes nothing.
    Free,
    /// No: what it does has an admin's signature, and stands in the log.
    Signed,
    /// Yes; what is recorded of those who give none.
    Wanted(Op),
    /// Yes, where a secret is named by `path`.
    ForPath(Op),
}

const fn route(path: &'static str, verb: Verb, why: Why) -> Route {
    Route { path, verb, why }
}

/// Below `sys/`.
pub(super) const SYS: &[Route] = &[
    route("mounts", Read, Free),
    route("internal/ui/mounts", Read, Free),
    route("internal/ui/mounts/*", Read, Free),
    route("capabilities-self", Write, Free),
    route("metrics", Read, Free),
    route("mounts/*/tune", Read, Free),
    // It says that nothing can be tuned.
    route("mounts/*/tune", Write, Free),
    route("mounts/*", Read, Free),
    route("mounts/*", Write, Wanted(Op::LocalMetaSet)),
    route("mounts/*", Delete, Wanted(Op::LocalForget)),
];

/// Below `auth/`.
pub(super) const AUTH: &[Route] = &[
    route("token/lookup-self", Read, Free),
    route("token/lookup-self", Write, Free),
    route("token/renew-self", Write, Free),
    // To give up one's own right needs no reason.
    route("token/revoke-self", Write, Free),
    route("token/create", Write, Wanted(Op::LocalPut)),
    route("token/accessors", List, Free),
    route("token/lookup", Write, Free),
    route("token/lookup-accessor", Write, Free),
    route("token/revoke", Write, Wanted(Op::LocalDelete)),
    route("token/revoke-accessor", Write, Wanted(Op::LocalDelete)),
];

/// Below `agent/`.
pub(super) const AGENT: &[Route] = &[
    route("status", Read, Free),
    route("wait", Read, Free),
    route("join", Read, Free),
    route("machines", Read, Free),
    route("exposure", Read, Wanted(Op::LocalSubkeys)),
    route("audit", Read, Free),
    route("log", Read, Free),
    route("names", Read, Free),
    route("checkpoint", Read, Free),
    route("removed", Read, Free),
    route("admins", Read, Free),
    route("writers", Read, Free),
    route("past", Read, Wanted(Op::LocalSubkeys)),
    route("blast", Read, Wanted(Op::LocalSubkeys)),
    route("paths", Read, Free),
    route("keys", Read, Wanted(Op::LocalSubkeys)),
    route("audit/verify", Read, Free),
    route("prepare", Write, Signed),
    route("submit", Write, Signed),
    route("sync", Write, Free),
    route("hook", Write, Wanted(Op::LocalPut)),
    route("forwards", Read, Free),
    route("forward", Write, Wanted(Op::LocalPut)),
    route("kept", Read, Free),
    route("sealed", Read, Free),
    route("given", Write, Signed),
    route("acts", Read, Free),
    route("scan", Read, Wanted(Op::LocalSubkeys)),
    route("scan", Write, Wanted(Op::LocalPut)),
    route("heal", Write, Wanted(Op::LocalPut)),
    route("server", Read, Free),
    route("server", Write, Wanted(Op::LocalPut)),
    route("adopt", Write, Signed),
    route("resume", Read, Free),
    route("resume", Write, Signed),
    route("accept", Write, Wanted(Op::LocalPut)),
    route("set-aside", Read, ForPath(Op::LocalRead)),
    route("set-aside", Delete, Wanted(Op::LocalDelete)),
    route("ui", Read, Free),
    // Whoever has the page open reads by it.
    route("ui", Write, Wanted(Op::LocalRead)),
    route("ui", Delete, Wanted(Op::LocalDelete)),
];

/// Below a mount.
pub(super) const KV: &[Route] = &[
    route("config", Read, Free),
    route("config", Write, Wanted(Op::LocalMetaSet)),
    route("data", Read, Wanted(Op::LocalRead)),
    route("data", Write, Wanted(Op::LocalPut)),
    route("data", Patch, Wanted(Op::LocalPatch)),
    route("data", Delete, Wanted(Op::LocalDelete)),
    route("subkeys", Read, Wanted(Op::LocalSubkeys)),
    route("delete", Write, Wanted(Op::LocalDelete)),
    route("undelete", Write, Wanted(Op::LocalUndelete)),
    route("destroy", Write, Wanted(Op::LocalDestroy)),
    route("metadata", List, Free),
    route("metadata", Read, Free),
    route("metadata", Write, Wanted(Op::LocalMetaSet)),
    route("metadata", Patch, Wanted(Op::LocalMetaSet)),
    route("metadata", Delete, Wanted(Op::LocalForget)),
];

/// Finds the route that a request is for.
///
/// # Errors
/// If there is none of that path, or it knows no such verb.
pub(super) fn find(
    list: &'static [Route],
    path: &str,
    verb: Verb,
) -> Result<&'static Route, ApiFault> {
    let first = list.iter().find(|route| fits(route.path, path));
    let Route { path, .. } = first.ok_or(ApiFault::UnsupportedPath)?;
    let found = list.iter().find(|route| route.path == *path && route.verb == verb);
    found.ok_or(ApiFault::UnsupportedOperation)
}

fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((start, end)) => {
            path.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).is_some()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_found_by_path_and_verb() {
        let found = |list, path: &str, verb| match find(list, path, verb) {
            Ok(route) => route.path,
            Err(ApiFault::UnsupportedPath) => "no path",
            Err(ApiFault::UnsupportedOperation) => "no verb",
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(found(SYS, "mounts", Read), "mounts");
        assert_eq!(found(SYS, "mounts", Write), "no verb");
        assert_eq!(found(SYS, "mounts/secret", Delete), "mounts/*");
        assert_eq!(found(SYS, "mounts/secret/tune", Write), "mounts/*/tune");
        assert_eq!(found(SYS, "mounts/secret/tune", Delete), "no verb");
        assert_eq!(found(SYS, "other", Read), "no path");
        assert_eq!(found(AGENT, "status", Delete), "no verb");
        assert_eq!(found(AGENT, "status/x", Read), "no path");
    }

    #[test]
    fn what_changes_something_wants_a_reason_or_a_signature() {
        let free: Vec<&str> = [SYS, AUTH, AGENT, KV]
            .into_iter()
            .flatten()
            .filter(|route| matches!(route.verb, Write | Patch | Delete))
            .filter(|route| matches!(route.why, Free))
            .map(|route| route.path)
            .collect();
        // They look, but for the one who gives up a right and the one who asks for what is new.
        let expected = [
            "capabilities-self",
            "mounts/*/tune",
            "token/lookup-self",
            "token/renew-self",
            "token/revoke-self",
            "token/lookup",
            "token/lookup-accessor",
            "sync",
        ];
        assert_eq!(free, expected);
    }
}
