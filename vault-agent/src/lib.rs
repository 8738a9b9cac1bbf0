//! The agent, in the order of its layers; no code lives here.

mod metrics;

mod state;

mod engine;

mod scan;

mod daemon;

mod forward;

mod loopback;

mod page;

mod api;

mod ask;
mod halts;
mod join;
mod place;
mod run;
mod status;
mod targets;

mod forwards;
mod hook;
mod sources;

mod install;

mod uninstall;

mod arguments;

pub use arguments::main;
