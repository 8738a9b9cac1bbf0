//! The agent, in the order of its layers; no code lives here.

mod state;

mod engine;

mod scan;

mod daemon;

mod api;

mod ask;
mod halts;
mod join;
mod place;
mod run;
mod status;
mod targets;

mod hook;
mod sources;

mod install;

mod uninstall;

mod arguments;

pub use arguments::main;
