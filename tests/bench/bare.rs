//! A bare axum handler in a process of its own: the floor that the local API is measured against.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Argument that turns the bench program into the handler.
pub const MODE: &str = "bare-axum-handler";

/// The handler; killed when dropped.
pub struct Bare {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the handler.
pub fn spawn() -> Bare {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program).arg(MODE).stdout(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    Bare { child, address: address.trim().to_owned() }
}

/// Serves until killed.
pub fn serve() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let answer = || async { ([("content-type", "application/json")], "{\"data\":\"value\"}") };
        let app = axum::Router::new().route("/", axum::routing::get(answer));
        axum::serve(listener, app).await.unwrap();
    });
}
