//! The trust rules through their public door: a world of keys, each rule by its code, random
//! histories, golden bytes, and the Wycheproof vectors.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod blobs;
mod checkpoints;
mod golden;
mod histories;
mod machines;
mod rules;
mod world;
mod wycheproof_vectors;
