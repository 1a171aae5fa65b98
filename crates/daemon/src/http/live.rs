//! What is pushed to the screens: one snapshot for all of them, whenever something changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep};

use super::server::{Context, closed};
use super::shape::failure;
use super::snapshot;

/// Screens at a time.
pub(super) const SCREENS_MAX: usize = 64;
/// Snapshots are at least this far apart.
const INTERVAL: Duration = Duration::from_millis(500);
/// Snapshots take at most a tenth of one core: of a large board there are fewer.
const SHARE: u32 = 9;
/// A screen that is told nothing for so long hears a beat, and knows that the connection stands.
const BEAT: Duration = Duration::from_secs(15);
/// The recorder's samples are gathered this often, whether metrics are asked for or not.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the screens hang on.
pub(super) struct Live {
    /// The newest snapshot, as JSON. A slow screen misses some and never queues them.
    latest: watch::Sender<Arc<str>>,
    /// A new screen wants one at once.
    wanted: Notify,
    seats: Arc<Semaphore>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            latest: watch::Sender::new("".into()),
            wanted: Notify::new(),
            seats: Arc::new(Semaphore::new(SCREENS_MAX)),
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
            let revision = context.shown.board.revision();
            let is_wanted = tokio::select! {
                biased;
                () = context.live.wanted.notified() => true,
                () = std::future::ready(()) => false,
            };
            if seen == Some(revision) && !is_wanted {
                continue;
            }
            let began = Instant::now();
            if let Some(text) = context.heavy(snapshot::render).await {
                context.live.latest.send_replace(text.into());
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
    latest: watch::Receiver<Arc<str>>,
    closing: watch::Receiver<bool>,
    _seat: OwnedSemaphorePermit,
}

/// `/api/v1/live`: server-sent events `snapshot` and `beat`.
pub(super) async fn live(State(context): State<Arc<Context>>) -> Response {
    let Ok(seat) = Arc::clone(&context.live.seats).try_acquire_owned() else {
        return failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many screens are open; close one, or ask /api/v1/alerts now and then",
        );
    };
    let latest = context.live.latest.subscribe();
    context.live.wanted.notify_one();
    let screen = Screen {
        latest,
        closing: context.closing.clone(),
        _seat: seat,
        context,
    };
    Sse::new(stream::unfold(screen, next)).into_response()
}

/// The next event of a screen's stream; `None` ends it.
async fn next(mut screen: Screen) -> Option<(Result<Event, Infallible>, Screen)> {
    let event = tokio::select! {
        () = closed(&mut screen.closing) => return None,
        changed = screen.latest.changed() => {
            changed.ok()?;
            let text = Arc::clone(&screen.latest.borrow_and_update());
            Event::default().event("snapshot").data(&*text)
        }
        () = sleep(BEAT) => {
            let shown = &screen.context.shown;
            let beat = json!({ "now_ms": (shown.now_ms)(), "ready": (shown.ready)().is_ok() });
            Event::default().event("beat").data(beat.to_string())
        }
    };
    Some((Ok(event), screen))
}
