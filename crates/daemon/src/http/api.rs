//! The routes and their answers.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use fenghuo_engine::board::Totals;
use fenghuo_signal::{Entity, Kind, Reading, catalogue};
use serde::Serialize;
use serde_json::{Value, json};

use super::episode::{DeliveryRow, EpisodeRow, by_episode};
use super::query::{Ask, LimitAsk, ReadingsAsk, ReadingsWanted, TotalsAsk};
use super::server::Context;
use super::shape::{failure, time};
use super::{Shown, events, guard, live, metrics, snapshot};

type Here = State<Arc<Context>>;

/// All routes, behind the guard.
pub(super) fn router(context: Arc<Context>) -> Router {
    const HTML: &str = "text/html; charset=utf-8";
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    const STYLE: &str = "text/css; charset=utf-8";
    let part = |kind: &'static str, text: &'static str| {
        get(move || async move {
            (
                [(header::CONTENT_TYPE, HeaderValue::from_static(kind))],
                text,
            )
        })
    };
    Router::new()
        .route("/", part(HTML, include_str!("../screen/index.html")))
        .route("/screen.css", part(STYLE, include_str!("../screen/screen.css")))
        .route("/screen.js", part(SCRIPT, include_str!("../screen/screen.js")))
        .route("/chart.js", part(SCRIPT, include_str!("../screen/chart.js")))
        .route("/words.js", part(SCRIPT, include_str!("../screen/words.js")))
        .route("/icon.svg", part("image/svg+xml", include_str!("../screen/icon.svg")))
        .route("/metrics", get(scrape))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/api/v1/signals", get(signals))
        .route("/api/v1/readings", get(readings))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/episodes", get(episodes))
        .route("/api/v1/totals", get(totals))
        .route("/api/v1/deliveries", get(deliveries))
        .route("/api/v1/partitions", get(partitions))
        .route("/api/v1/snapshot", get(picture))
        .route("/api/v1/live", get(live::live))
        .route("/api/v1/events", post(events::post))
        .route(
            "/api/v1/openapi.json",
            part("application/json", include_str!("openapi.json")),
        )
        .fallback(async || {
            failure(
                StatusCode::NOT_FOUND,
                "there is nothing here; the API is /api/v1/signals, readings, alerts, episodes, totals, deliveries, \
                 partitions, snapshot, live, events and openapi.json",
            )
        })
        .method_not_allowed_fallback(async || {
            failure(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here, and POST at /api/v1/events")
        })
        .layer(middleware::map_response_with_state(
            Arc::clone(&context),
            tell_share,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&context),
            guard::guard,
        ))
        .with_state(context)
}

fn bad(text: &str) -> Response {
    failure(StatusCode::BAD_REQUEST, text)
}

/// A large answer, made beside the event loop.
async fn large<T: IntoResponse + Send + 'static>(
    context: &Context,
    make: impl FnOnce(&Shown) -> T + Send + 'static,
) -> Response {
    match context.heavy(make).await {
        Some(made) => made.into_response(),
        None => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "the answer could not be made; ask again",
        ),
    }
}

async fn scrape(State(context): Here) -> Response {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    large(&context, |shown| {
        ([(header::CONTENT_TYPE, TEXT)], metrics::render(shown))
    })
    .await
}

async fn healthy(State(context): Here) -> Response {
    match (context.shown.healthy)() {
        Ok(()) => Json(json!({"ok": true})).into_response(),
        Err(reason) => failure(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

/// Ready or not, the answer names everything that is wrong with the process itself.
async fn ready(State(context): Here) -> Response {
    let (status, mut body) = match (context.shown.ready)() {
        Ok(()) => (StatusCode::OK, json!({"ok": true})),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, json!({"error": reason})),
    };
    let conditions = context.shown.conditions.all();
    if !conditions.is_empty() {
        body["conditions"] = json!(conditions);
    }
    (status, Json(body)).into_response()
}

/// Says of every answer from how much of the panes it is made, where that is not all of them.
async fn tell_share(State(context): Here, mut response: Response) -> Response {
    let shown = &context.shown;
    let (held, all) = (shown.board.homes(), shown.panes_partitions);
    if held < all
        && let Ok(share) = HeaderValue::from_str(&format!("{held} of {all}"))
    {
        response.headers_mut().insert("fenghuo-panes", share);
    }
    response
}

/// Which partitions this process has, and where the rest is.
async fn partitions(State(context): Here) -> Response {
    large(&context, |shown| match (shown.elsewhere)() {
        Ok(elsewhere) => Json(json!({
            "panes": { "held": shown.board.homes(), "of": shown.panes_partitions },
            "held": (shown.held)(),
            "elsewhere": elsewhere,
        }))
        .into_response(),
        Err(reason) => failure(StatusCode::SERVICE_UNAVAILABLE, &reason),
    })
    .await
}

/// What the screen shows now: its first picture, before the stream tells what changes.
async fn picture(State(context): Here) -> Response {
    large(&context, |shown| {
        (
            [(header::CONTENT_TYPE, "application/json")],
            snapshot::render(shown),
        )
    })
    .await
}

async fn signals() -> Json<Value> {
    let rows: Vec<Value> = catalogue::ALL
        .iter()
        .map(|signal| {
            let kinds: Vec<_> = signal.kinds.iter().map(|kind| kind.name()).collect();
            let streams: Vec<_> = signal.streams.iter().map(|of| of.topic()).collect();
            json!({
                "name": signal.name,
                "unit": signal.unit,
                "about": signal.about,
                "formula": signal.formula,
                "kinds": kinds,
                "streams": streams,
            })
        })
        .collect();
    Json(json!({ "signals": rows }))
}

/// A reading of `/api/v1/readings`.
#[derive(Serialize)]
struct ReadingRow {
    signal: &'static str,
    unit: &'static str,
    entity: Entity,
    name: String,
    at: Option<String>,
    #[serde(flatten)]
    reading: Reading,
}

async fn readings(State(context): Here, Ask(asked): Ask<ReadingsAsk>) -> Response {
    let wanted = match asked.check() {
        Ok(wanted) => wanted,
        Err(text) => return bad(&text),
    };
    large(&context, move |shown| {
        Json(page_of_readings(shown, &wanted))
    })
    .await
}

fn page_of_readings(shown: &Shown, wanted: &ReadingsWanted) -> Value {
    let mut signals = catalogue::ALL.to_vec();
    signals.sort_by_key(|signal| signal.name);
    signals.retain(|signal| wanted.signal.is_none_or(|only| only.name == signal.name));
    let mut rows: Vec<ReadingRow> = Vec::new();
    let mut next = None;
    'signals: for signal in signals {
        for (entity, published) in shown.board.readings_of(signal.name) {
            let is_before = wanted
                .after
                .as_ref()
                .is_some_and(|(name, last)| (signal.name, &entity) <= (*name, last));
            let is_other = wanted.entity.as_ref().is_some_and(|only| *only != entity)
                || wanted.kind.is_some_and(|only| only != entity.kind);
            if is_before || is_other {
                continue;
            }
            if rows.len() == wanted.limit {
                next = rows
                    .last()
                    .map(|row| format!("{}/{}", row.signal, row.name));
                break 'signals;
            }
            rows.push(ReadingRow {
                signal: signal.name,
                unit: signal.unit,
                name: entity.to_string(),
                entity,
                at: time(published.at_ms),
                reading: published.reading,
            });
        }
    }
    json!({ "readings": rows, "next": next })
}

async fn alerts(State(context): Here) -> Response {
    large(&context, |shown| {
        let deliveries = by_episode(shown.board.deliveries());
        let rows: Vec<_> = shown
            .board
            .open()
            .into_iter()
            .map(|last| EpisodeRow::new(last, &deliveries))
            .collect();
        Json(json!({ "alerts": rows }))
    })
    .await
}

async fn episodes(State(context): Here, Ask(asked): Ask<LimitAsk>) -> Response {
    let limit = match asked.check() {
        Ok(limit) => limit,
        Err(text) => return bad(&text),
    };
    large(&context, move |shown| {
        let deliveries = by_episode(shown.board.deliveries());
        let mut all = shown.board.open();
        all.extend(shown.board.closed());
        // An episode that closes between the two looks is in both; the later one holds.
        all.sort_by(|a, b| {
            let (newer, older) = ((b.pending_at_ms, b.at_ms), (a.pending_at_ms, a.at_ms));
            newer.cmp(&older).then_with(|| a.episode.cmp(&b.episode))
        });
        let mut seen = std::collections::HashSet::new();
        all.retain(|last| seen.insert(last.episode.clone()));
        all.truncate(limit);
        let rows: Vec<_> = all
            .into_iter()
            .map(|last| EpisodeRow::new(last, &deliveries))
            .collect();
        Json(json!({ "episodes": rows }))
    })
    .await
}

async fn deliveries(State(context): Here, Ask(asked): Ask<LimitAsk>) -> Response {
    let limit = match asked.check() {
        Ok(limit) => limit,
        Err(text) => return bad(&text),
    };
    large(&context, move |shown| {
        let mut all = shown.board.deliveries();
        all.truncate(limit);
        let rows: Vec<_> = all.into_iter().map(DeliveryRow::new).collect();
        Json(json!({ "deliveries": rows }))
    })
    .await
}

async fn totals(State(context): Here, Ask(asked): Ask<TotalsAsk>) -> Response {
    let (limit, after) = match asked.check() {
        Ok(wanted) => wanted,
        Err(text) => return bad(&text),
    };
    large(&context, move |shown| {
        Json(page_of_totals(shown, limit, after.as_deref()))
    })
    .await
}

fn row_of_totals(key: &str, name: &str, totals: &Totals) -> Value {
    let mut row = json!(totals);
    if let Value::Object(fields) = &mut row {
        fields.insert(key.to_owned(), Value::from(name));
    }
    row
}

fn page_of_totals(shown: &Shown, limit: usize, after: Option<&str>) -> Value {
    let all = shown.board.totals();
    let of = |kind: Kind| all.iter().filter(move |(entity, _)| entity.kind == kind);
    let rows = |kind: Kind, key: &str| -> Vec<Value> {
        let mut rows: Vec<_> = of(kind).collect();
        rows.sort_by_key(|(_, totals)| Reverse(totals.orders));
        rows.truncate(limit);
        rows.iter()
            .map(|(entity, totals)| row_of_totals(key, &entity.first, totals))
            .collect()
    };
    // Skus come by name, so that a page continues where the one before ended.
    let mut skus = of(Kind::Sku)
        .filter(|(entity, _)| after.is_none_or(|after| entity.first.as_str() > after))
        .map(|(entity, totals)| row_of_totals("sku", &entity.first, totals));
    let page: Vec<Value> = skus.by_ref().take(limit).collect();
    let next = skus.next().and(page.last()).map(|row| row["sku"].clone());
    let shop = of(Kind::Shop).next().map(|(_, totals)| totals);
    let known = shown.identity.known();
    json!({
        "shop": known.shop,
        "currency": known.currency,
        "total": shop,
        "campaigns": rows(Kind::Campaign, "campaign"),
        "channels": rows(Kind::Channel, "channel"),
        "skus": page,
        "next": next,
    })
}
