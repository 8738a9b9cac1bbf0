//! The log on the wire: its first records, lines of `GET`, body and answer of `POST`, and what a
//! server has lost.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::hash::Hash;
use crate::head::SignedHead;
use crate::limits;
use crate::signed::Envelope;
use crate::wire::list::at_most;

use super::blob::Inline;
use super::checkpoint::OWNERS;

/// Body of `POST /v1/genesis`; answered 201 without a body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GenesisRequest {
    /// The one-time claim code of the setup line.
    pub claim: Hash,
    /// Signed by root.
    pub genesis: Envelope,
    /// Entry 1, which adds the first machine: nobody could append it otherwise.
    pub entry: Envelope,
}

/// Body of `POST /v1/adopt`: a vault's first records, for a server that was made anew; answered 201
/// without a body. The server is then as one that was restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdoptRequest {
    /// The one-time claim code of the setup line.
    pub claim: Hash,
    /// Signed by root.
    pub genesis: Envelope,
    /// Entries from the first on, or from the checkpoint's own on, with the last of which the
    /// machine that sends them is in the vault.
    pub entries: Vec<Envelope>,
    /// Where the sender's log begins after a checkpoint: what it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// What a log that begins after a checkpoint does not hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Before {
    /// The entries up to the checkpoint by which root has changed who the owners are, in order.
    #[serde(deserialize_with = "at_most::<{ OWNERS }, _, _>")]
    pub owners: Vec<Envelope>,
    /// The rows of the state.
    pub state: String,
}

/// Header of every request for [`super::LOG`]: the newest head that the caller holds, as the
/// compact JSON of a [`SignedHead`]. Left out by a caller that has none yet.
pub const LAST_HEAD: &str = "vault-head";

/// Query of `GET /v1/log`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// Last entry the client has; 0 also brings the genesis first.
    pub after: u64,
    /// Whether the answer stays open and brings every later entry at once.
    pub follow: bool,
    /// Made anew at random at each start of an agent. Two that come in turn are two processes with
    /// one machine's keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Hash>,
}

/// One line of the answer to `GET /v1/log`. Without `follow` it ends at the head, or after the
/// entry that takes it past 8 MiB.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// The server's head: first of all lines; after each entry that is sent as it is committed; and
    /// at least once a page, for the last entry above it. Entries without one after them are not
    /// to be used.
    Head(SignedHead),
    /// The first record of the vault; only after `after=0`.
    Genesis(Envelope),
    /// An entry.
    Entry {
        /// The entry.
        envelope: Envelope,
        /// The blobs that the entry brought and the caller may read; only for entries committed
        /// while following. Their audit rows are on disk.
        #[serde(
            default,
            skip_serializing_if = "Vec::is_empty",
            deserialize_with = "at_most::<{ limits::OPS }, _, _>"
        )]
        blobs: Vec<Inline>,
    },
    /// Nothing happened for a while.
    Beat,
}

impl Frame {
    /// The names of all of them.
    pub(in crate::wire) const NAMES: [&'static str; 4] = ["head", "genesis", "entry", "beat"];

    /// Reads a line; nothing, if it is a frame of a newer program's.
    ///
    /// # Errors
    /// If it is none of any program's.
    pub fn read(line: &[u8]) -> serde_json::Result<Option<Self>> {
        match serde_json::from_slice(line) {
            Ok(frame) => Ok(Some(frame)),
            Err(_) if is_newer(line) => Ok(None),
            Err(why) => Err(why),
        }
    }
}

/// Tells whether a line has the shape of a frame, and a name that this program does not know.
fn is_newer(line: &[u8]) -> bool {
    let named = serde_json::from_slice(line);
    named.is_ok_and(|Named(name)| !Frame::NAMES.contains(&name.as_str()))
}

/// The name of a frame, whatever it holds: of what may be large nothing is kept.
struct Named(String);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl<'de> Visitor<'de> for Name {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or an object of one name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Named, E> {
                Ok(Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
                let first = map.next_entry::<String, IgnoredAny>()?;
                match (first, map.next_key::<IgnoredAny>()?) {
                    (Some((name, _)), None) => Ok(Named(name)),
                    (_, _) => Err(A::Error::custom("not one name")),
                }
            }
        }

        deserializer.deserialize_any(Name)
    }
}

/// Body of `POST /v1/log`. Answers: 201 with the [`SignedHead`] that the entry made, also for the
/// very same bytes sent again; 409 with the one it should have been built on; 422
/// [`super::error::ErrorBody`] with the code of `apply`, or `E_BLOB_ABSENT`; 503 with the code
/// [`super::error::RESTORED`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppendRequest {
    /// The entry, signed by the caller, or by an admin or root on the caller's machine.
    pub envelope: Envelope,
    /// Blobs that the entry brings, unless uploaded before.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<{ limits::OPS }, _, _>"
    )]
    pub blobs: Vec<Inline>,
    /// With an entry that resumes: the one-time code that the server's host shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Hash>,
}

/// Body of `POST /v1/heal`: an unbroken run of entries that follow the server's head, whoever
/// signed them, up to a head that the server itself has signed; all are taken or none. Without
/// entries it only asks which blobs are wanted. Answers: 200 [`HealReply`]; 422
/// [`super::error::ErrorBody`] with the code of `apply`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HealRequest {
    /// The entries, in order; those that the server has already are passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Envelope>,
    /// The head that the last of them makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<SignedHead>,
    /// The one-time code that the server's host shows: its owner vouches for a head by a key that
    /// the server knows only from the entries that lead there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Hash>,
}

/// Answer 200 to a heal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealReply {
    /// Where the server's log ends now.
    pub head: SignedHead,
    /// Whether the server still takes no entry but lost ones.
    pub restored: bool,
    /// Blobs of versions still kept that are not here: from now on an upload of one is taken to
    /// its version.
    pub wanted: Vec<Hash>,
}
