//! The routes and their answers.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use fenghuo_alert::Transition;
use fenghuo_engine::view::{self, Totals};
use fenghuo_signal::{Entity, Kind, Reading, Signal};
use serde::Serialize;
use serde_json::{Value, json};

use super::episode::{DeliveryRow, EpisodeRow, by_episode};
use super::page::{PAGE_BYTES_MAX, Page, Pieces};
use super::query::{self, Ask, PageAsk, ReadingsAsk, ReadingsWanted};
use super::server::Context;
use super::shape::{busy, failure, time};
use super::{Held, Shown, events, guard, live, metrics, snapshot};
use crate::conditions::Standing;

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

/// What is set aside for a large answer until its length is known.
const ANSWER_BYTES_MAX: usize = 2 * PAGE_BYTES_MAX;
/// Whoever asks for a large answer waits this long for those of others to be made and read.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);
/// Campaigns and channels in the totals: the largest.
const TOTALS_MAX: usize = 1_000;

const JSON: &str = "application/json";

/// A large answer, made beside the event loop, a few at a time; it counts until it is read. The
/// error of what makes it is an answer too.
async fn large(
    context: &Context,
    kind: &'static str,
    make: impl FnOnce(&Shown) -> Result<Vec<u8>, Box<Response>> + Send + 'static,
) -> Response {
    let crowded = || {
        busy(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many large answers are being made or read; ask again",
        )
    };
    let reserved = match context.answers.try_reserve(ANSWER_BYTES_MAX) {
        Some(reserved) => Some(reserved),
        None => {
            context.door.make_room();
            let reserving = context.answers.reserve(ANSWER_BYTES_MAX);
            let reserved = tokio::time::timeout(ROOM_TIMEOUT, reserving).await;
            reserved.ok().flatten()
        }
    };
    let Some(reserved) = reserved else {
        return crowded();
    };
    let making = tokio::time::timeout(ROOM_TIMEOUT, context.heavy.acquire()).await;
    let Ok(Ok(making)) = making else {
        return crowded();
    };
    let made = context.beside(make).await;
    drop(making);
    match made {
        Some(Ok(bytes)) => {
            let body = Body::new(Pieces(reserved.holding(bytes)));
            ([(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Some(Err(refused)) => *refused,
        None => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "the answer could not be made; ask again",
        ),
    }
}

/// Metrics wait for no other answer.
async fn scrape(State(context): Here) -> Response {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    // An error of either means that the process ends.
    let Ok(_scraping) = context.scraping.acquire().await else {
        return failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "the process is about to end",
        );
    };
    match context.beside(metrics::render).await {
        Some(text) => {
            let body = Body::new(Pieces(text.into()));
            ([(header::CONTENT_TYPE, TEXT)], body).into_response()
        }
        None => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "the metrics could not be made",
        ),
    }
}

async fn healthy(State(context): Here) -> Response {
    match (context.shown.healthy)() {
        Ok(()) => Json(json!({"ok": true})).into_response(),
        Err(reason) => failure(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

/// Ready or not, the answer names everything that is wrong with the process itself. Whoever shows
/// no token where one is configured learns what kinds of things are wrong, and how many: their texts
/// name skus, campaigns and channels.
async fn ready(State(context): Here, headers: HeaderMap) -> Response {
    let shown = &context.shown;
    let token = shown.token.as_ref();
    let is_trusted = token.is_none_or(|token| guard::carries(&headers, token.expose()));
    let (status, reason) = match (shown.ready)() {
        Ok(()) => (StatusCode::OK, None),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Some(reason)),
    };
    let standing = shown.conditions.all();
    let mut body = match reason {
        None => json!({"ok": true}),
        Some(reason) if is_trusted => json!({"error": reason}),
        // What the reason rests on may be a condition's text.
        Some(_) => json!({"error": "not ready; send the token to be told why"}),
    };
    if !standing.is_empty() {
        body["conditions"] = match is_trusted {
            true => json!(standing),
            false => json!(counted(&standing)),
        };
    }
    (status, Json(body)).into_response()
}

/// Conditions by their names alone: how many stand, how grave, and since when.
fn counted(standing: &[Standing]) -> Vec<Value> {
    let names: BTreeSet<&str> = standing.iter().map(|one| one.condition.name).collect();
    let of = |name: &str| {
        let of_name = standing.iter().filter(|one| one.condition.name == name);
        let of_name: Vec<_> = of_name.collect();
        json!({
            "name": name,
            "count": of_name.len(),
            "severity": of_name.iter().map(|one| one.condition.severity).max(),
            "since_ms": of_name.iter().map(|one| one.since_ms).min(),
        })
    };
    names.into_iter().map(of).collect()
}

/// Says of every answer from how much of the panes it is made, where that is not all of them.
async fn tell_share(State(context): Here, mut response: Response) -> Response {
    let shown = &context.shown;
    let (held, all) = (shown.view.shards(), shown.panes_partitions);
    if held < all
        && let Ok(share) = HeaderValue::from_str(&format!("{held} of {all}"))
    {
        response.headers_mut().insert("fenghuo-panes", share);
    }
    response
}

/// Which partitions this process has, and where the rest is.
async fn partitions(State(context): Here, Ask(asked): Ask<PageAsk>) -> Response {
    let (limit, after) = match asked.check() {
        Ok((limit, after)) => (limit, after.map(str::to_owned)),
        Err(text) => return bad(&text),
    };
    large(&context, JSON, move |shown| {
        let mut elsewhere = (shown.elsewhere)()
            .map_err(|reason| Box::new(failure(StatusCode::SERVICE_UNAVAILABLE, &reason)))?;
        elsewhere.truncate(limit);
        let mut held = (shown.held)();
        let count = held.len();
        let place = |held: &Held| format!("{}/{}/{:010}", held.stage, held.topic, held.partition);
        held.sort_by_cached_key(place);
        held.retain(|held| after.as_ref().is_none_or(|after| place(held) > *after));
        held.truncate(limit + 1);
        let mut page = Page::of("held");
        let next = page.fill(limit, held, place, |held| held);
        Ok(page.finish(&[
            ("next", next.into()),
            ("count", count.into()),
            (
                "panes",
                json!({ "held": shown.view.shards(), "of": shown.panes_partitions }),
            ),
            ("elsewhere", json!(elsewhere)),
        ]))
    })
    .await
}

/// What the screen shows now: its first picture, before the stream tells what changes.
async fn picture(State(context): Here) -> Response {
    large(&context, JSON, |shown| {
        Ok(snapshot::render(shown).into_bytes())
    })
    .await
}

async fn signals(State(context): Here) -> Json<Value> {
    let set = context.shown.set.get();
    let rows: Vec<Value> = set
        .catalogue
        .signals()
        .iter()
        .map(|signal| {
            let kinds: Vec<_> = signal.kinds.iter().map(|kind| kind.name()).collect();
            let streams: Vec<_> = signal.streams.iter().map(|of| of.topic()).collect();
            json!({
                "name": &*signal.name,
                "title": signal.title,
                "unit": signal.unit,
                "about": signal.about,
                "formula": signal.formula,
                "kinds": kinds,
                "streams": streams,
            })
        })
        .collect();
    Json(json!({ "set": set.number, "hash": format!("{:016x}", set.hash()), "signals": rows }))
}

/// A reading of `/api/v1/readings`.
#[derive(Serialize)]
struct ReadingRow {
    signal: String,
    unit: String,
    entity: Entity,
    name: String,
    at: Option<String>,
    #[serde(flatten)]
    reading: Reading,
}

async fn readings(State(context): Here, Ask(asked): Ask<ReadingsAsk>) -> Response {
    let wanted = match asked.check(&context.shown.set.get().catalogue) {
        Ok(wanted) => wanted,
        Err(text) => return bad(&text),
    };
    large(&context, JSON, move |shown| {
        Ok(page_of_readings(shown, &wanted))
    })
    .await
}

fn page_of_readings(shown: &Shown, wanted: &ReadingsWanted) -> Vec<u8> {
    let set = shown.set.get();
    let mut signals: Vec<&Signal> = set.catalogue.signals().iter().collect();
    signals.sort_by_key(|signal| &signal.name);
    signals.retain(|signal| {
        wanted
            .signal
            .as_ref()
            .is_none_or(|only| *only == signal.name)
    });
    let names = signals.iter().map(|signal| &*signal.name);
    let count: usize = names.map(|name| shown.view.readings_count(name)).sum();
    let is_wanted = |entity: &Entity| {
        wanted.entity.as_ref().is_none_or(|only| only == entity)
            && wanted.kind.is_none_or(|only| only == entity.kind)
    };
    let mut rows: Vec<ReadingRow> = Vec::new();
    for signal in signals {
        let after = match &wanted.after {
            Some((name, _)) if signal.name < *name => continue,
            Some((name, entity)) if signal.name == *name => Some(entity),
            _ => None,
        };
        let left = wanted.limit + 1 - rows.len();
        if left == 0 {
            break;
        }
        let found = shown
            .view
            .readings_after(&signal.name, after, left, &is_wanted);
        rows.extend(found.into_iter().map(|(entity, published)| ReadingRow {
            signal: signal.name.to_string(),
            unit: signal.unit.to_string(),
            name: entity.to_string(),
            entity,
            at: time(published.at_ms),
            reading: published.reading,
        }));
    }
    let mut page = Page::of("readings");
    let place = |row: &ReadingRow| format!("{}/{}", row.signal, row.name);
    let next = page.fill(wanted.limit, rows, place, |row| row);
    page.finish(&[("next", next.into()), ("count", count.into())])
}

/// A page of episodes, each with its deliveries.
fn page_of_episodes(
    shown: &Shown,
    name: &str,
    limit: usize,
    rows: Vec<Transition>,
    count: usize,
    cursor: impl Fn(&Transition) -> String,
) -> Vec<u8> {
    let deliveries = {
        let wanted: HashSet<&str> = rows.iter().map(|last| last.episode.as_str()).collect();
        let about = |episode: &str| wanted.contains(episode);
        by_episode(shown.view.deliveries_about(&about))
    };
    let mut page = Page::of(name);
    let row = |last| EpisodeRow::new(last, &deliveries);
    let next = page.fill(limit, rows, cursor, row);
    page.finish(&[("next", next.into()), ("count", count.into())])
}

async fn alerts(State(context): Here, Ask(asked): Ask<PageAsk>) -> Response {
    let checked = asked.check().and_then(|(limit, after)| {
        let after = after.map(query::alert_place).transpose()?;
        Ok((limit, after))
    });
    let (limit, after) = match checked {
        Ok(checked) => checked,
        Err(text) => return bad(&text),
    };
    large(&context, JSON, move |shown| {
        let rows = shown.view.open_after(after.as_ref(), limit + 1);
        let count = shown.view.open_count();
        let cursor = |last: &Transition| query::alert_cursor(&view::alert_place(last));
        Ok(page_of_episodes(
            shown, "alerts", limit, rows, count, cursor,
        ))
    })
    .await
}

async fn episodes(State(context): Here, Ask(asked): Ask<PageAsk>) -> Response {
    let checked = asked.check().and_then(|(limit, after)| {
        let after = after.map(query::episode_place).transpose()?;
        Ok((limit, after))
    });
    let (limit, after) = match checked {
        Ok(checked) => checked,
        Err(text) => return bad(&text),
    };
    large(&context, JSON, move |shown| {
        let (rows, count) = shown.view.episodes_after(after.as_ref(), limit + 1);
        let cursor = |last: &Transition| query::episode_cursor(&view::episode_place(last));
        Ok(page_of_episodes(
            shown, "episodes", limit, rows, count, cursor,
        ))
    })
    .await
}

async fn deliveries(State(context): Here, Ask(asked): Ask<PageAsk>) -> Response {
    let (limit, after) = match asked.check() {
        Ok((limit, after)) => (limit, after.map(str::to_owned)),
        Err(text) => return bad(&text),
    };
    large(&context, JSON, move |shown| {
        let found = shown.view.deliveries_after(after.as_deref(), limit + 1);
        let (rows, count) = found.ok_or_else(|| Box::new(bad(query::NO_CURSOR)))?;
        let mut page = Page::of("deliveries");
        let place = |delivery: &view::Delivery| delivery.intent.delivery_id.clone();
        let next = page.fill(limit, rows, place, DeliveryRow::new);
        Ok(page.finish(&[("next", next.into()), ("count", count.into())]))
    })
    .await
}

async fn totals(State(context): Here, Ask(asked): Ask<PageAsk>) -> Response {
    let (limit, after) = match asked.check() {
        Ok((limit, after)) => (limit, after.map(str::to_owned)),
        Err(text) => return bad(&text),
    };
    large(&context, JSON, move |shown| {
        Ok(page_of_totals(shown, limit, after.as_deref()))
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

fn page_of_totals(shown: &Shown, limit: usize, after: Option<&str>) -> Vec<u8> {
    let most = |kind: Kind, key: &str| -> Vec<Value> {
        let rows = shown.view.totals_most(kind, limit.min(TOTALS_MAX));
        rows.iter()
            .map(|(entity, totals)| row_of_totals(key, &entity.first, totals))
            .collect()
    };
    // Skus come by name, so that a page continues where the one before ended.
    let (skus, count) = shown.view.totals_after(Kind::SKU, after, limit + 1);
    let mut page = Page::of("skus");
    let place = |(entity, _): &(Entity, Totals)| entity.first.to_string();
    let next = page.fill(limit, skus, place, |(entity, totals)| {
        row_of_totals("sku", &entity.first, &totals)
    });
    let known = shown.identity.known();
    page.finish(&[
        ("next", next.into()),
        ("count", count.into()),
        ("shop", json!(known.shop)),
        ("currency", json!(known.currency)),
        ("total", json!(shown.view.totals_of(&Entity::shop()))),
        ("campaigns", most(Kind::CAMPAIGN, "campaign").into()),
        ("channels", most(Kind::CHANNEL, "channel").into()),
    ])
}
