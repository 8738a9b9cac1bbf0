//! The agent; no code lives here.

mod api;
mod arguments;
mod daemon;
mod engine;
mod install;
mod join;
mod place;
mod run;
mod state;
mod status;
mod targets;

pub use arguments::main;
