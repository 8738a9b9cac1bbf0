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
        let mut words = vec!["curl".to_owned()];
        let tls = &self.options.tls;
        words.extend(tls.tls_skip_verify.unwrap_or(false).then(|| "--insecure".to_owned()));
        words.extend(self.socket().map(|socket| format!("--unix-socket {}", single(&socket))));
        words.extend((method != Method::GET).then(|| format!("-X {method}")));
        for (flag, file) in [
            ("cacert", &tls.ca_cert),
            ("capath", &tls.ca_path),
            ("cert", &tls.client_cert),
            ("key", &tls.client_key),
        ] {
            let file = file.as_ref().map(|file| single(&file.display().to_string()));
            words.extend(file.map(|file| format!("--{flag} {file}")));
        }
        words.push("-H \"X-Vault-Request: true\"".to_owned());
        if self.options.token.is_some() {
            words.push("-H \"X-Vault-Token: $(vault print token)\"".to_owned());
        }
        let namespace = self.options.namespace.iter().map(|name| ("X-Vault-Namespace", name));
        let more = self.options.headers.iter().map(|(name, value)| (name.as_str(), value));
        for (name, value) in namespace.chain(more) {
            words.push(format!("-H {}", double(&format!("{name}: {value}"))));
        }
        if method == Method::PATCH {
            words.push("-H \"Content-Type: application/merge-patch+json\"".to_owned());
        }
        if !body.is_empty() {
            words.push(format!("-d {}", single(&String::from_utf8_lossy(body))));
        }
        let url = format!("{}{target}", self.base());
        let plain = |c: char| c.is_ascii_alphanumeric() || "/:._~%@+,=-".contains(c);
        words.push(if url.chars().all(plain) { url } else { double(&url) });
        words.join(" ")
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
