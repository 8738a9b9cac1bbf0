//! The page, asked as browsers ask, and as those who should get nothing.

mod doors;
mod listening;
mod review;
mod screens;
mod values;
mod world;
