//! `POST` to whoever takes it: JSON, plain text, and what ntfy and Telegram want.

use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use machine::config::{Body, Webhook, check_url};
use serde_json::json;
use sha2::Sha256;

use super::mail::header;
use crate::engine::Engine;
use crate::forward::event::{Event, Message, Severity, Teller};
use crate::forward::fault::Fault;
use crate::forward::http::{Http, demand_near};
use crate::forward::private::Values;

/// The signature, as GitHub's webhooks bear it: receivers that verify those verify these.
const SIGNATURE: &str = "x-hub-signature-256";
/// The message's id: the same if it comes twice.
const ID: &str = "x-vault-id";
/// The longest text of a message of Telegram is 4096 characters.
const TELEGRAM: usize = 4_000;

/// A connection, and the values that it takes.
#[derive(Default)]
pub struct Connection {
    http: Http,
    values: Values,
}

impl Connection {
    /// Sends a message.
    pub async fn send(
        &mut self,
        (engine, name): (&Engine, &str),
        webhook: &Webhook,
        message: &Message,
        teller: &Teller,
    ) -> Result<(), Fault> {
        let sent = self.try_send((engine, name), webhook, message, teller).await;
        if sent.is_err() {
            // Somebody may have changed them.
            self.values.forget();
        }
        sent
    }

    /// Looks whether all that it takes can be had, and it may be told by that address.
    pub async fn ready(
        &mut self,
        (engine, name): (&Engine, &str),
        webhook: &Webhook,
    ) -> Result<(), Fault> {
        let url = self.values.reveal(engine, name, &webhook.url).await?;
        check_url(&url).map_err(|why| Fault::new(format!("its address {why}")))?;
        for private in webhook.token.iter().chain(&webhook.hmac) {
            self.values.reveal(engine, name, private).await?;
        }
        demand_near(&url).await
    }

    async fn try_send(
        &mut self,
        (engine, name): (&Engine, &str),
        webhook: &Webhook,
        message: &Message,
        teller: &Teller,
    ) -> Result<(), Fault> {
        let values = &mut self.values;
        let mut url = values.reveal(engine, name, &webhook.url).await?;
        check_url(&url).map_err(|why| Fault::new(format!("its address {why}")))?;
        let (mut headers, body) = content(webhook, message, teller)?;
        if let Some(token) = &webhook.token {
            let token = values.reveal(engine, name, token).await?;
            if webhook.format == Body::Telegram {
                let base = url.trim_end_matches('/');
                url = zeroize::Zeroizing::new(format!("{base}/bot{}/sendMessage", *token));
            } else {
                let bearer = HeaderValue::from_str(&format!("Bearer {}", *token));
                let mut bearer = bearer.map_err(|_| Fault::new("its token is no header's text"))?;
                bearer.set_sensitive(true);
                headers.insert(AUTHORIZATION, bearer);
            }
        }
        if let Some(key) = &webhook.hmac {
            let key = values.reveal(engine, name, key).await?;
            let signature = value(&format!("sha256={}", signature(key.as_bytes(), &body)));
            headers.insert(HeaderName::from_static(SIGNATURE), signature);
        }
        headers.insert(HeaderName::from_static(ID), value(&message.id));
        self.http.post(&url, headers, body).await
    }
}

/// Signs a body with HMAC-SHA256 (RFC 2104), in hexadecimal digits.
fn signature(key: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is taken");
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the value of a header of visible ASCII.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

fn content(
    webhook: &Webhook,
    message: &Message,
    teller: &Teller,
) -> Result<(HeaderMap, Bytes), Fault> {
    let mut headers = HeaderMap::new();
    let (kind, body) = match webhook.format {
        Body::Json => ("application/json", message.json(teller)),
        Body::Text => ("text/plain; charset=utf-8", lines(message, teller)),
        Body::Ntfy => {
            let title = header(&message.title(teller)).replace('\n', "");
            headers.insert("title", value(&title));
            let (priority, tags) = match (message.severity(), &message.event) {
                (Severity::Warning, _) => ("high", "rotating_light"),
                (_, Event::Ends(_)) => ("default", "white_check_mark"),
                (_, _) => ("default", "information_source"),
            };
            headers.insert("priority", value(priority));
            headers.insert("tags", value(tags));
            ("text/plain; charset=utf-8", message.text(teller))
        }
        Body::Telegram => {
            let chat = webhook.chat.as_deref().ok_or_else(|| Fault::new("it has no `chat`"))?;
            let text: String = lines(message, teller).chars().take(TELEGRAM).collect();
            let preview = json!({ "is_disabled": true });
            let body = json!({ "chat_id": chat, "text": text, "link_preview_options": preview });
            ("application/json", body.to_string())
        }
    };
    headers.insert(CONTENT_TYPE, value(kind));
    Ok((headers, body.into()))
}

fn lines(message: &Message, teller: &Teller) -> String {
    match message.event {
        Event::Record(_) => message.title(teller),
        _ => format!("{}\n{}", message.title(teller), message.text(teller)),
    }
}

#[cfg(test)]
mod tests {
    use machine::config::{Hidden, Private};
    use shared::time::Time;

    use super::*;

    fn made(format: Body) -> (HeaderMap, String) {
        let url = Private::Here(Hidden("https://x".into()));
        let chat = Some("-100".to_owned());
        let webhook = Webhook { url, format, token: None, hmac: None, chat };
        let message = Message { id: "x".into(), time: Time::from_micros(1), event: Event::Test };
        let teller = Teller { vault: "home".into(), from: "vps".into() };
        let (headers, body) = content(&webhook, &message, &teller).unwrap();
        (headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn bodies_are_what_each_side_reads() {
        let text = "this is a test: nothing is wrong\ntold by vps";
        let (headers, body) = made(Body::Ntfy);
        assert_eq!(headers["title"].to_str().unwrap(), "vault home: test from vps");
        assert_eq!(body, text);
        let (headers, body) = made(Body::Telegram);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(body["chat_id"], "-100");
        assert_eq!(body["text"], format!("vault home: test from vps\n{text}"));
        let (_, body) = made(Body::Json);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["event"], &body["from"]), (&json!("test"), &json!("vps")));
    }

    #[test]
    fn signatures_are_as_everybody_computes_them() {
        // RFC 4231, test case 2.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }
}
