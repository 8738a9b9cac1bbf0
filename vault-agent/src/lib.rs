//! The agent, in the order of its layers; no code lives here.

pub mod state;

pub mod engine;

pub mod daemon;

pub mod api;

mod join;
mod place;
mod run;
mod status;
mod targets;

mod install;

mod arguments;

pub use arguments::main;
