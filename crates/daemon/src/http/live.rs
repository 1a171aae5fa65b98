//! What is pushed to the screens: one snapshot for all of them, whenever something changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::server::{Context, closed};
use super::snapshot;

/// Snapshots are at least this far apart.
const INTERVAL: Duration = Duration::from_millis(500);
/// Snapshots take at most a tenth of one core: of a large view there are fewer.
const SHARE: u32 = 9;
/// A screen that is told nothing for so long hears a beat, and knows that the connection stands.
const BEAT: Duration = Duration::from_secs(15);
/// The recorder's samples are gathered this often, whether metrics are asked for or not.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the screens hang on.
pub(super) struct Live {
    /// The newest snapshot as an event, which all screens share. A slow screen misses some and never
    /// queues them.
    latest: watch::Sender<Bytes>,
    /// A new screen wants one at once.
    wanted: Notify,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            latest: watch::Sender::new(Bytes::new()),
            wanted: Notify::new(),
        }
    }
}

/// Makes snapshots while a screen looks, until `closing`.
pub(super) async fn publish(context: Arc<Context>, mut closing: watch::Receiver<bool>) {
    let work = async {
        let mut seen = None;
        let mut upkept = Instant::now();
        let mut pause = INTERVAL;
        loop {
            sleep(pause).await;
            pause = INTERVAL;
            if upkept.elapsed() >= UPKEEP {
                context.shown.prometheus.run_upkeep();
                upkept = Instant::now();
            }
            if context.live.latest.receiver_count() == 0 {
                // Nobody looks: sleep until somebody does, but for the upkeep.
                let _ = tokio::time::timeout(UPKEEP, context.live.wanted.notified()).await;
                seen = None;
                continue;
            }
            let revision = context.shown.view.revision();
            let is_wanted = tokio::select! {
                biased;
                () = context.live.wanted.notified() => true,
                () = std::future::ready(()) => false,
            };
            if seen == Some(revision) && !is_wanted {
                continue;
            }
            let began = Instant::now();
            if let Some(text) = context.beside(snapshot::render).await {
                context.live.latest.send_replace(event("snapshot", &text));
                seen = Some(revision);
            }
            pause = INTERVAL.max(began.elapsed() * SHARE);
        }
    };
    tokio::select! {
        () = work => {}
        () = closed(&mut closing) => {}
    }
}

/// What one screen's stream carries along.
struct Screen {
    context: Arc<Context>,
    latest: watch::Receiver<Bytes>,
    closing: watch::Receiver<bool>,
}

/// `/api/v1/live`: server-sent events `snapshot` and `beat`.
pub(super) async fn live(State(context): State<Arc<Context>>) -> Response {
    let latest = context.live.latest.subscribe();
    context.live.wanted.notify_one();
    let screen = Screen {
        latest,
        closing: context.closing.clone(),
        context,
    };
    const KIND: HeaderValue = HeaderValue::from_static("text/event-stream");
    let body = Body::from_stream(stream::unfold(screen, next));
    ([(header::CONTENT_TYPE, KIND)], body).into_response()
}

/// A server-sent event; JSON has no line breaks of its own.
fn event(name: &str, json: &str) -> Bytes {
    format!("event: {name}\ndata: {json}\n\n").into()
}

/// The next event of a screen's stream; `None` ends it.
async fn next(mut screen: Screen) -> Option<(Result<Bytes, Infallible>, Screen)> {
    let event = tokio::select! {
        () = closed(&mut screen.closing) => return None,
        changed = screen.latest.changed() => {
            changed.ok()?;
            screen.latest.borrow_and_update().clone()
        }
        () = sleep(BEAT) => {
            let shown = &screen.context.shown;
            let beat = json!({ "now_ms": (shown.now_ms)(), "ready": (shown.ready)().is_ok() });
            event("beat", &beat.to_string())
        }
    };
    Some((Ok(event), screen))
}
