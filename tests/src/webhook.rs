//! A receiver of webhooks, as strict as what it is promised: an id, a time, and a body of a known
//! shape.
//!
//! Answers 400 to whatever breaks the promise, and keeps what is wrong with it for the test.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::now_ms;

/// A webhook that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// What a receiver knows a repeat by.
    pub id: String,
    /// `alert.firing` or `alert.resolved`.
    pub kind: String,
    /// The rest of the body.
    pub data: Value,
    /// When it came, Unix ms.
    pub at_ms: i64,
}

/// What came in.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Answered with 204.
    pub taken: Vec<Hook>,
    /// How many were answered with 503, as the script wants it.
    pub failed: usize,
    /// What broke the promise, and was answered with 400.
    pub violations: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    is_down: AtomicBool,
    /// The next webhook that says this is taken and not answered until it is released.
    holds: Mutex<Option<String>>,
    is_held: AtomicBool,
    released: Notify,
}

impl Shared {
    fn holds(&self) -> MutexGuard<'_, Option<String>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics under this lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver on a free port. It ends with this value.
#[derive(Debug)]
pub struct Webhook {
    shared: Arc<Shared>,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Webhook {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/", post(take))
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

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers with 503 from now on, or no longer.
    pub fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Takes the next webhook that has this text in it, and does not answer before
    /// [`Webhook::release`].
    pub fn hold(&self, text: &str) {
        self.shared.is_held.store(false, Ordering::Relaxed);
        *self.shared.holds() = Some(text.to_owned());
    }

    /// Whether a webhook was taken and waits for its answer.
    pub fn is_held(&self) -> bool {
        self.shared.is_held.load(Ordering::Relaxed)
    }

    /// Answers again.
    pub fn release(&self) {
        *self.shared.holds() = None;
        self.shared.released.notify_waiters();
    }

    /// What has come in so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let answer = taken(&shared, &headers, &body);
    let text = String::from_utf8_lossy(&body);
    let is_meant = |holds: &mut String| text.contains(holds.as_str());
    let is_meant = shared.holds().take_if(is_meant).is_some();
    if answer == StatusCode::NO_CONTENT && is_meant {
        let released = shared.released.notified();
        shared.is_held.store(true, Ordering::Relaxed);
        released.await;
    }
    answer
}

fn taken(shared: &Shared, headers: &HeaderMap, body: &Bytes) -> StatusCode {
    let mut seen = shared.seen();
    match check(headers, body) {
        Err(violation) => {
            seen.violations.push(violation);
            StatusCode::BAD_REQUEST
        }
        Ok(_) if shared.is_down.load(Ordering::Relaxed) => {
            seen.failed += 1;
            StatusCode::SERVICE_UNAVAILABLE
        }
        Ok(hook) => {
            seen.taken.push(hook);
            StatusCode::NO_CONTENT
        }
    }
}

/// The webhook, or the first thing that is wrong with it.
fn check(headers: &HeaderMap, body: &[u8]) -> Result<Hook, String> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| format!("no header {name}"))
    };
    if !header("content-type")?.starts_with("application/json") {
        return Err("no JSON".to_owned());
    }
    let id = header("webhook-id")?;
    if id.is_empty() {
        return Err("an empty webhook-id".to_owned());
    }
    let sent_s = header("webhook-timestamp")?;
    let sent_s: i64 = sent_s.parse().map_err(|_| format!("sent at {sent_s:?}"))?;
    let at_ms = now_ms();
    // As old as the standard lets a receiver refuse.
    if (at_ms / 1_000 - sent_s).abs() > 300 {
        return Err(format!("sent at {sent_s}, taken at {at_ms} ms"));
    }
    let mut event: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let kind = event["type"].as_str().unwrap_or_default().to_owned();
    if !["alert.firing", "alert.resolved"].contains(&kind.as_str()) {
        return Err(format!("type {kind:?}"));
    }
    let data = event["data"].take();
    if !data["dedup_key"].is_string() || !data["rule"].is_string() {
        return Err(format!("data {data}"));
    }
    Ok(Hook {
        id: id.to_owned(),
        kind,
        data,
        at_ms,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_promise_is_kept_and_broken_header_by_header() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("webhook-id", HeaderValue::from_static("d1"));
        headers.insert(
            "webhook-timestamp",
            HeaderValue::from_str(&(now_ms() / 1_000).to_string()).unwrap(),
        );
        let body = json!({"type": "alert.firing", "data": {"dedup_key": "e", "rule": "r"}});
        let judged =
            |headers: &HeaderMap, body: &Value| check(headers, body.to_string().as_bytes());
        let hook = judged(&headers, &body).unwrap();
        assert_eq!(
            (hook.id.as_str(), hook.kind.as_str()),
            ("d1", "alert.firing")
        );
        for name in ["content-type", "webhook-id", "webhook-timestamp"] {
            let mut without = headers.clone();
            without.remove(name);
            assert!(judged(&without, &body).is_err(), "{name}");
        }
        for (name, value) in [("webhook-id", ""), ("webhook-timestamp", "1")] {
            let mut other = headers.clone();
            other.insert(name, HeaderValue::from_static(value));
            assert!(judged(&other, &body).is_err(), "{name}");
        }
        assert!(judged(&headers, &json!({"type": "alert", "data": {}})).is_err());
        assert!(judged(&headers, &json!({"type": "alert.firing", "data": {}})).is_err());
    }
}
