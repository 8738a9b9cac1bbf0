//! The screens, one file each: a function from a visit to an answer, a template, and the words that
//! this screen alone says. No code lives here. Below the screens: `kinds` names findings, `matrix`
//! lays hosts and files out, `opened` opens versions, `reads` asks who has read, `rotation` says
//! what is due.

pub(super) mod alarms;
pub(super) mod audit;
#[cfg(test)]
pub(super) mod catalogues;
pub(super) mod change;
pub(super) mod exposed;
pub(super) mod fleet;
mod kinds;
pub(super) mod machines;
mod matrix;
mod opened;
pub(super) mod readers;
mod reads;
mod rotation;
pub(super) mod secret;
pub(super) mod secrets;
pub(super) mod widget;
