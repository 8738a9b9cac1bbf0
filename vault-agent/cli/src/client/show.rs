//! A request as text instead of on the wire: a line for curl, or the policy that Vault would want
//! for it. No values of the token: it is fetched where the line is run.

use hyper::Method;
use hyper::body::Bytes;

use super::{Client, Endpoint, Show};

impl Client {
    /// Shows a request; `target` starts with `/v1/` and may have a query.
    pub(super) fn shown(&self, how: Show, method: &Method, target: &str, body: &Bytes) -> String {
        match how {
            Show::Curl => self.curl(method, target, body),
            Show::Policy => policy(method, target),
        }
    }

    fn curl(&self, method: &Method, target: &str, body: &Bytes) -> String {
        let mut line = String::from("curl ");
        let tls = &self.options.tls;
        if tls.tls_skip_verify.unwrap_or(false) {
            line.push_str("--insecure ");
        }
        if let Some(socket) = self.socket() {
            line.push_str(&format!("--unix-socket {} ", single(&socket)));
        }
        if method != Method::GET {
            line.push_str(&format!("-X {method} "));
        }
        let files = [
            ("cacert", &tls.ca_cert),
            ("capath", &tls.ca_path),
            ("cert", &tls.client_cert),
            ("key", &tls.client_key),
        ];
        for (flag, file) in files {
            if let Some(file) = file {
                line.push_str(&format!("--{flag} {} ", single(&file.display().to_string())));
            }
        }
        line.push_str("-H \"X-Vault-Request: true\" ");
        if self.options.token.is_some() {
            line.push_str("-H \"X-Vault-Token: $(vault print token)\" ");
        }
        if let Some(namespace) = &self.options.namespace {
            line.push_str(&format!("-H {} ", double(&format!("X-Vault-Namespace: {namespace}"))));
        }
        for (name, value) in &self.options.headers {
            line.push_str(&format!("-H {} ", double(&format!("{name}: {value}"))));
        }
        if method == Method::PATCH {
            line.push_str("-H \"Content-Type: application/merge-patch+json\" ");
        }
        if !body.is_empty() {
            line.push_str(&format!("-d {} ", single(&String::from_utf8_lossy(body))));
        }
        let url = format!("{}{target}", self.base());
        let plain = |c: char| c.is_ascii_alphanumeric() || "/:._~%@+,=-".contains(c);
        line.push_str(&if url.chars().all(plain) { url } else { double(&url) });
        line
    }

    /// The socket that curl has to be told; of the agent's the one that is there.
    fn socket(&self) -> Option<String> {
        let socket = match &self.place {
            Endpoint::Tcp(_) => return None,
            Endpoint::Unix(socket) => socket,
            Endpoint::Agent { sockets, .. } => {
                sockets.iter().find(|socket| socket.exists()).or(sockets.first())?
            }
        };
        Some(socket.display().to_string())
    }
}

fn policy(method: &Method, target: &str) -> String {
    let path = target.trim_start_matches("/v1/");
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let can = match method.as_str() {
        "GET" if query.split('&').any(|pair| pair == "list=true") => "\"list\"",
        "GET" => "\"read\"",
        "PATCH" => "\"patch\"",
        "DELETE" => "\"delete\"",
        _ => "\"create\", \"update\"",
    };
    format!("path {path:?} {{\n  capabilities = [{can}]\n}}")
}

/// Quotes for a shell, nothing expanded.
fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

/// Quotes for a shell in double quotes.
fn double(text: &str) -> String {
    let escaped = |c: char| [matches!(c, '"' | '\\' | '$' | '`').then_some('\\'), Some(c)];
    format!("\"{}\"", text.chars().flat_map(escaped).flatten().collect::<String>())
}
