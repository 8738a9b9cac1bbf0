//! Transcripts of whole command lines against a server with set answers: what a person or a script
//! sees.

mod fleet;
mod hostile;
mod kv_more;
mod kv_read;
mod kv_write;
mod leak;
mod reasons;
mod refused;
mod review;
mod transfer;
mod usage;
mod vaults;

use crate::testing::World;

/// Runs each line and writes down what came out.
fn transcript(world: &World, lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let shown = world.run(line).shown();
        text.push_str(&format!("$ vault {line}\n{shown}\n"));
    }
    text
}

/// An envelope around `data`.
pub(super) fn envelope(data: &str) -> String {
    format!(
        concat!(
            r#"{{"request_id":"5c1b","lease_id":"","renewable":false,"lease_duration":0,"#,
            r#""data":{},"wrap_info":null,"warnings":null,"auth":null,"mount_type":"kv"}}"#,
        ),
        data
    )
}

const APP: &str = concat!(
    r#"{"data":{"password":"hunter2","user":"app"},"metadata":{"#,
    r#""created_time":"2026-08-22T10:00:00.123456789Z","custom_metadata":null,"#,
    r#""deletion_time":"","destroyed":false,"version":3}}"#,
);
const GONE: &str = concat!(
    r#"{"data":null,"metadata":{"created_time":"2026-08-22T10:00:00.123456789Z","#,
    r#""custom_metadata":null,"deletion_time":"2026-08-23T10:00:00Z","destroyed":false,"#,
    r#""version":4}}"#,
);
const WRITTEN: &str = concat!(
    r#"{"created_time":"2026-08-22T10:00:00.5Z","custom_metadata":null,"deletion_time":"","#,
    r#""destroyed":false,"version":4}"#,
);
