//! PagerDuty's side of its Events API v2, as strict as its contract.
//!
//! Answers 400 to whatever breaks the contract, and keeps what is wrong with it for the test. It
//! must never be kinder than PagerDuty is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::now_ms;

const BODY_BYTES_MAX: usize = 512 * 1024;

/// Names that the contract knows, of the event and of its payload.
const EVENT_KEYS: [&str; 8] = [
    "routing_key",
    "event_action",
    "dedup_key",
    "payload",
    "images",
    "links",
    "client",
    "client_url",
];
const PAYLOAD_KEYS: [&str; 8] = [
    "summary",
    "source",
    "severity",
    "timestamp",
    "component",
    "group",
    "class",
    "custom_details",
];

/// What came in.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Events answered with 202.
    pub taken: Vec<Value>,
    /// When each of them came, Unix ms.
    pub taken_at_ms: Vec<i64>,
    /// Events answered with 500 or 503, as the script wants it.
    pub failed: Vec<Value>,
    /// What broke the contract, and was answered with 400.
    pub violations: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    routing_key: String,
    failures: usize,
    is_down: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics under this lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver on a free port. It ends with this value.
#[derive(Debug)]
pub struct PagerDuty {
    shared: Arc<Shared>,
    address: SocketAddr,
    _runtime: Runtime,
}

impl PagerDuty {
    /// Starts it for one integration; it answers the first `failures` good events with 500.
    pub fn start(routing_key: &str, failures: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            routing_key: routing_key.to_owned(),
            failures,
            ..Shared::default()
        });
        let router = Router::new()
            .route("/v2/enqueue", post(enqueue))
            .fallback(lost)
            .layer(DefaultBodyLimit::max(4 * BODY_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("no port for the receiver")?;
        let address = listener.local_addr()?;
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            shared,
            address,
            _runtime: runtime,
        })
    }

    /// What is to be configured as the channel's `url`.
    pub fn url(&self) -> String {
        format!("http://{}/v2/enqueue", self.address)
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers every good event with 503 from now on, or no longer.
    pub fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::Relaxed);
    }

    /// What has come in so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }
}

async fn lost(State(shared): State<Arc<Shared>>, uri: axum::http::Uri) -> StatusCode {
    let told = format!("asked for {uri}");
    shared.seen().violations.push(told);
    StatusCode::NOT_FOUND
}

async fn enqueue(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let mut seen = shared.seen();
    match check(&headers, &body, &shared.routing_key) {
        Err(violation) => {
            let answer = json!({"status": "invalid event", "errors": [violation]});
            seen.violations.push(violation);
            (StatusCode::BAD_REQUEST, answer.to_string())
        }
        Ok(event) if shared.is_down.load(Ordering::Relaxed) => {
            seen.failed.push(event);
            (StatusCode::SERVICE_UNAVAILABLE, String::new())
        }
        Ok(event) if seen.failed.len() < shared.failures => {
            seen.failed.push(event);
            (StatusCode::INTERNAL_SERVER_ERROR, String::new())
        }
        Ok(event) => {
            let answer = json!({"status": "success", "dedup_key": event["dedup_key"]});
            seen.taken.push(event);
            seen.taken_at_ms.push(now_ms());
            (StatusCode::ACCEPTED, answer.to_string())
        }
    }
}

/// The event, or the first thing that is wrong with it.
fn check(headers: &HeaderMap, body: &[u8], routing_key: &str) -> Result<Value, String> {
    let kind = headers.get("content-type").map(|kind| kind.as_bytes());
    if !kind.is_some_and(|kind| kind.starts_with(b"application/json")) {
        return Err(format!("content-type {kind:?}"));
    }
    if body.len() > BODY_BYTES_MAX {
        return Err(format!("a body of {} bytes", body.len()));
    }
    let event: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    known_keys(&event, &EVENT_KEYS)?;
    if text(&event, "/routing_key", 32)? != routing_key || routing_key.len() != 32 {
        return Err("another routing key".to_owned());
    }
    let action = text(&event, "/event_action", 20)?;
    if !["trigger", "acknowledge", "resolve"].contains(&action) {
        return Err(format!("event_action {action:?}"));
    }
    let dedup_key = optional(&event, "/dedup_key", 255)?;
    if action != "trigger" && dedup_key.is_none() {
        return Err(format!("{action} without a dedup_key"));
    }
    if action == "trigger" || event.get("payload").is_some() {
        payload(&event)?;
    }
    optional(&event, "/client", 1024)?;
    optional(&event, "/client_url", 2048)?;
    for (name, key) in [("links", "href"), ("images", "src")] {
        let Some(list) = event.get(name) else {
            continue;
        };
        let list = list.as_array().ok_or(format!("{name} is no list"))?;
        for item in list {
            text(item, &format!("/{key}"), 2048)?;
        }
    }
    Ok(event)
}

fn payload(event: &Value) -> Result<(), String> {
    let payload = event.get("payload").ok_or("no payload")?;
    known_keys(payload, &PAYLOAD_KEYS)?;
    text(payload, "/summary", 1024)?;
    text(payload, "/source", 1024)?;
    let severity = text(payload, "/severity", 20)?;
    if !["critical", "error", "warning", "info"].contains(&severity) {
        return Err(format!("severity {severity:?}"));
    }
    if let Some(at) = optional(payload, "/timestamp", 64)? {
        at.parse::<jiff::Timestamp>()
            .map_err(|error| format!("timestamp {at:?}: {error}"))?;
    }
    for name in ["component", "group", "class"] {
        optional(payload, &format!("/{name}"), 1024)?;
    }
    match payload.get("custom_details") {
        Some(details) if !details.is_object() => Err("custom_details is no object".to_owned()),
        _ => Ok(()),
    }
}

fn known_keys(value: &Value, known: &[&str]) -> Result<(), String> {
    let fields = value.as_object().ok_or("no object")?;
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("unknown key {key:?}")),
        None => Ok(()),
    }
}

/// A text that has to be there.
fn text<'a>(value: &'a Value, pointer: &str, chars_max: usize) -> Result<&'a str, String> {
    optional(value, pointer, chars_max)?.ok_or_else(|| format!("no {pointer}"))
}

/// A text that may be left out, but not be of another type, empty or too long.
fn optional<'a>(
    value: &'a Value,
    pointer: &str,
    chars_max: usize,
) -> Result<Option<&'a str>, String> {
    let Some(found) = value.pointer(pointer) else {
        return Ok(None);
    };
    let text = found
        .as_str()
        .ok_or_else(|| format!("{pointer} is {found}"))?;
    let chars = text.chars().count();
    if chars == 0 || chars > chars_max {
        return Err(format!("{pointer} has {chars} characters"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn good() -> Value {
        json!({
            "routing_key": KEY,
            "event_action": "trigger",
            "dedup_key": "k",
            "payload": {
                "summary": "s", "source": "shop", "severity": "critical",
                "timestamp": "2026-11-11T12:00:00Z", "custom_details": {},
            },
        })
    }

    fn judged(event: &Value) -> Result<Value, String> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        check(&headers, event.to_string().as_bytes(), KEY)
    }

    #[test]
    fn the_contract_is_kept_and_broken_field_by_field() {
        assert_eq!(judged(&good()), Ok(good()));
        let breaks: [(&str, Value); 12] = [
            ("/routing_key", json!("short")),
            ("/routing_key", json!("f".repeat(32))),
            ("/event_action", json!("fire")),
            ("/dedup_key", json!("k".repeat(256))),
            ("/dedup_key", json!(7)),
            ("/payload", json!({})),
            ("/payload/summary", json!("s".repeat(1025))),
            ("/payload/summary", json!("")),
            ("/payload/source", json!(null)),
            ("/payload/severity", json!("page")),
            ("/payload/timestamp", json!("yesterday")),
            ("/payload/custom_details", json!("text")),
        ];
        for (pointer, value) in breaks {
            let mut event = good();
            if let Some(field) = event.pointer_mut(pointer) {
                *field = value;
            }
            assert!(judged(&event).is_err(), "{pointer}: {event}");
        }
        let mut unknown = good();
        unknown["extra"] = json!(1);
        assert!(judged(&unknown).is_err());
        let large = json!({"x": "y".repeat(BODY_BYTES_MAX)});
        assert!(judged(&large).is_err());
        assert!(check(&HeaderMap::new(), good().to_string().as_bytes(), KEY).is_err());
    }
}
