//! The server over real TLS, driven by a client of a few lines; one feature per file.

mod audit;
mod client;
mod edge;
mod follow;
mod restart;
mod world;
mod write;
