//! What a run of `vault dev` is to do.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::folder::Folder;
use super::pairs::Pair;
use super::settings::Out;
use machine::paths::Paths;

/// What this run is to do.
pub(super) struct Plan {
    pub(super) folder: Folder,
    pub(super) paths: Paths,
    pub(super) listen: SocketAddr,
    pub(super) imports: Vec<Pair>,
    pub(super) outs: Vec<Out>,
    pub(super) server: PathBuf,
    pub(super) agent: PathBuf,
}
