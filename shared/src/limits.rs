//! Sizes past which a reader stops (design/trust, *Text forms and limits*). Only constants live
//! here.

/// Largest signed body in bytes.
pub const BODY: usize = 1 << 20;
/// Most operations in one entry.
pub const OPS: usize = 1000;
/// Largest blob (age file) in bytes.
pub const BLOB: usize = 1 << 20;
/// Largest secret content in bytes: leaves room for padding and a thousand recipients.
pub const CONTENT: usize = 768 << 10;
/// Soft end of one page of the log in bytes.
pub const LOG_PAGE: usize = 8 << 20;
/// Largest setup, machine or pin line in bytes.
pub const TOKEN: usize = 1 << 10;
/// Largest text of a machine's targets in bytes.
pub const REPORT: usize = 256 << 10;
/// Largest age file with what a machine's scan has found, in bytes: a report has room for it.
pub const SCAN: usize = 48 << 10;
/// Largest signed seen-record in bytes.
pub const SEEN: usize = 2 << 10;
/// Longest machine or admin name in bytes.
pub const NAME: usize = 32;
/// Longest secret path in bytes.
pub const PATH: usize = 1024;
/// Longest path segment in bytes.
pub const SEGMENT: usize = 255;
/// Most segments of a path, mount included.
pub const SEGMENTS: usize = 32;
/// Most prefixes in one access list.
pub const GRANTS: usize = 64;
/// Most former names of a machine that a state keeps, and most prefixes that it had once.
pub const FORMER: usize = 64;
/// Most custom metadata keys of a secret.
pub const CUSTOM_KEYS: usize = 64;
/// Longest custom metadata key in bytes.
pub const CUSTOM_KEY: usize = 128;
/// Longest custom metadata value in bytes.
pub const CUSTOM_VALUE: usize = 512;
/// Longest free-text reason in bytes.
pub const REASON: usize = 512;
/// Largest row of a state in bytes.
pub const STATE_ROW: usize = 1 << 20;
/// Forgotten paths of which a checkpoint keeps each one's own version counter.
pub const FORGOTTEN: usize = 1000;
/// Most versions that one operation may name, and that a setting may keep.
pub const VERSIONS: u64 = 1000;
/// Most addresses of a server.
pub const ADDRESSES: usize = 8;
/// Longest address of a server in bytes.
pub const ADDRESS: usize = 255;
/// The format of the state that every vault begins with.
pub const FIRST_FORMAT: u32 = 1;
/// The newest format of the state that this program knows.
pub const FORMAT: u32 = 1;
/// Versions kept where neither mount nor secret says otherwise.
pub const DEFAULT_MAX_VERSIONS: u64 = 10;
/// Microseconds by which an entry's time may differ from the server's clock, and up to which a
/// writer takes over the time of the entry before.
pub const CLOCK: u64 = 5 * 60 * 1_000_000;
/// Microseconds by which a machine's clock may differ from the server's without an alarm.
pub const CLOCK_UNNOTICED: u64 = 2 * 60 * 1_000_000;
/// Bytes of unreferenced blobs a machine may park on the server.
pub const PARKED_BLOBS: usize = 32 << 20;
