//! Tests of the engine against a small server in the same process.
