//! Every figure the project promises, measured side by side: `cargo bench -p tests [-- NAME…]`.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

mod audit;
mod bare;
mod compacted;
mod daemons;
mod fleet;
mod follower;
mod followers;
mod hooks;
mod http;
mod latency;
mod load;
mod local_api;
mod process;
mod removal;
mod scan;
mod screen;
mod siege;
mod startup;
mod table;
mod targets;
mod trust;

/// The hostile member, as the tests have it.
#[path = "../evil"]
#[expect(dead_code, unused_imports, reason = "the tests use the rest")]
mod evil {
    pub mod acts;
    pub mod attack;
    pub mod attacks;
    pub mod member;
    pub mod server;
}

/// Name, heading, and what measures it.
type Section = (&'static str, &'static str, fn() -> Vec<table::Row>);

const SECTIONS: &[Section] = &[
    ("latency", "A change, from one host to another", latency::put_to_file),
    ("hooks", "A change, to the hook of another host", hooks::change_to_hook),
    ("get", "Looking a key up", daemons::kv_get),
    ("api", "Local API", local_api::figures),
    ("fleet", "A change, to a whole fleet", fleet::figures),
    ("followers", "Ten thousand followers", followers::figures),
    ("removal", "A host that goes", removal::figures),
    ("siege", "Others, while a member floods the server", siege::figures),
    ("targets", "A thousand targets", targets::figures),
    ("memory", "Idle memory", daemons::memory),
    ("sizes", "Programs", daemons::sizes),
    ("fold", "The log", trust::fold),
    ("audit", "A million audit records", audit::figures),
    ("startup", "Starting over a long log", startup::figures),
    ("compacted", "A log of a million entries, from its checkpoint", compacted::figures),
    ("open", "Blobs", trust::open),
    ("scan", "Looking for values in files", scan::figures),
];

fn main() {
    // Cargo passes `--bench`; every other argument names a section.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if wanted.iter().any(|want| want == bare::MODE) {
        return bare::serve();
    }
    for (name, heading, measure) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|want| want == name) {
            table::print(heading, &measure());
        }
    }
}
