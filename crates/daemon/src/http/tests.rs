//! The routes, asked in-process over a view that real stages have filled.

mod health;
mod hostile;
mod large;
mod screen;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use fenghuo_engine::record::DeliveryOutcome;
use fenghuo_engine::view::View;
use fenghuo_engine::{InForce, Playback, Route, Routes};
use fenghuo_notify::Secret;
use fenghuo_sim::{Shop, ShopConfig, Trouble, TroubleKind};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt;

use super::bounds::Bounds;
use super::door::Class;
use super::server::Context;
use super::{Elsewhere, Held, Shown, api, live, recorder};
use crate::config::Config;
use crate::identity::{Identity, Known};

const MINUTE_MS: i64 = 60_000;
const SKUS: usize = 12;

/// Half an hour of a small shop, with a price that is wrong from the tenth minute on.
pub(super) fn filled() -> (Arc<View>, i64) {
    static FILLED: OnceLock<(Arc<View>, i64)> = OnceLock::new();
    FILLED.get_or_init(fill).clone()
}

fn fill() -> (Arc<View>, i64) {
    let mut config = ShopConfig {
        skus: SKUS,
        orders_per_day: 3_000.0,
        ..ShopConfig::default()
    };
    let start_ms = config.start_ms;
    config.until_ms = start_ms + 30 * MINUTE_MS;
    config.troubles = vec![Trouble {
        kind: TroubleKind::MistypedPrice { sku: 1 },
        start_ms: start_ms + 10 * MINUTE_MS,
        end_ms: config.until_ms,
    }];
    let end_ms = config.until_ms;
    let mut topology = Config::without_file().unwrap().topology(start_ms);
    topology.ingest.shop = Some(config.shop_id.clone());
    topology.routes = Routes(vec![Route {
        channels: vec!["on-call".to_owned()],
        ..Route::default()
    }]);
    // It lives as long as the test: a stage that ends takes what it shows with it.
    let playback = Box::leak(Box::new(
        Playback::open(&topology, start_ms, 10_000).unwrap(),
    ));
    for (at_ms, event) in Shop::new(config) {
        let bytes = fenghuo_event::to_protobuf(&event);
        let stream = fenghuo_event::decode(&bytes, None).unwrap().stream();
        playback.feed(at_ms, Some(stream), None, bytes).unwrap();
    }
    playback
        .feed(end_ms, None, None, b"no event".to_vec())
        .unwrap();
    playback.pass(end_ms).unwrap();
    let dispatch = playback.topology().dispatch();
    for intent in dispatch.take_ready() {
        dispatch.outcome(DeliveryOutcome {
            delivery_id: intent.delivery_id.clone(),
            delivered: true,
            attempts: 2,
            reason: None,
            at_ms: end_ms,
        });
    }
    playback.pass(end_ms + 10_000).unwrap();
    (Arc::clone(playback.topology().view()), end_ms + 10_000)
}

pub(super) fn shown() -> Shown {
    let (view, now_ms) = filled();
    Shown {
        connections_max: usize::MAX,
        set: InForce::new(Config::without_file().unwrap().set()),
        view,
        identity: Arc::new(Identity::new(Known {
            shop: Some("42".to_owned()),
            currency: Some("CNY".to_owned()),
            utc_offset_min: Some(480),
        })),
        token: None,
        public_url: None,
        intake: None,
        intake_token: None,
        metrics_open: false,
        now_ms: Arc::new(move || now_ms),
        ready: Arc::new(|| Err("the orders are 90 s behind".to_owned())),
        conditions: Arc::default(),
        healthy: Arc::new(|| Ok(())),
        held: Arc::new(|| {
            vec![Held {
                stage: "ingest",
                topic: "shop.orders".to_owned(),
                partition: 3,
                behind: Some(17),
            }]
        }),
        elsewhere: Arc::new(|| {
            Ok(vec![Elsewhere {
                stage: "evaluate",
                instance: "fenghuo.b".to_owned(),
                host: "10.0.0.2".to_owned(),
                partitions: vec![("fenghuo.panes".to_owned(), 1)],
            }])
        }),
        panes_partitions: 2,
        prometheus: recorder::builder().unwrap().build_recorder().handle(),
        limits: vec![("entities", 1_000)],
        top_entities: 3,
    }
}

pub(super) fn served(shown: Shown) -> (Router, Arc<Context>, watch::Sender<bool>) {
    let (close, closing) = watch::channel(false);
    let context = Context::new(Arc::new(shown), Bounds::default(), true, closing);
    (api::router(Arc::clone(&context)), context, close)
}

async fn ask(router: &Router, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let mut request = Request::get(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header(header::HOST, "localhost:8686");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    for name in ["content-security-policy", "x-content-type-options"] {
        assert!(
            response.headers().contains_key(name),
            "{path} has no {name}"
        );
    }
    let bytes = to_bytes(response.into_body(), 64 << 20).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn json(router: &Router, path: &str) -> Value {
    let (status, text) = ask(router, path, &[]).await;
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_token_opens_what_is_closed_and_nothing_else_does() {
    let token = "s3cret-of-the-shop";
    let closed = |metrics_open| {
        served(Shown {
            token: Some(Secret::new(token)),
            metrics_open,
            ..shown()
        })
    };
    let (router, ..) = closed(false);
    let (open_metrics, ..) = closed(true);
    let right = format!("Bearer {token}");
    let all = [
        "/metrics",
        "/api/v1/signals",
        "/api/v1/readings",
        "/api/v1/alerts",
        "/api/v1/episodes",
        "/api/v1/totals",
        "/api/v1/deliveries",
        "/api/v1/snapshot",
        "/api/v1/live",
        "/nowhere",
    ];
    let wrong = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer s3cret-of-the-shoq",
        "Bearer s3cret-of-the-sho",
        "Basic s3cret-of-the-shop",
        token,
    ];
    for path in all {
        let (status, text) = ask(&router, path, &[]).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}: {text}");
        assert!(!text.contains(token));
        let in_address = format!("{path}?token={token}");
        let (status, _) = ask(&router, &in_address, &[]).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{in_address}");
        for value in wrong {
            let (status, _) = ask(&router, path, &[("authorization", value)]).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} with {value:?}");
        }
    }
    for path in &all[..8] {
        // Through any name: a token is proof enough.
        let headers = [("authorization", right.as_str()), ("host", "shop.example")];
        let (status, text) = ask(&router, path, &headers).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
    }
    for path in ["/", "/screen.js", "/screen.css", "/-/healthy"] {
        assert_eq!(ask(&router, path, &[]).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(ask(&open_metrics, "/metrics", &[]).await.0, StatusCode::OK);
    let (status, _) = ask(&open_metrics, "/api/v1/alerts", &[]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_a_token_a_foreign_name_is_refused() {
    let (router, ..) = served(shown());
    for path in ["/", "/api/v1/alerts", "/metrics"] {
        let (status, text) = ask(&router, path, &[("host", "evil.example:8686")]).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
        assert!(text.contains("localhost"), "{text}");
        assert_eq!(ask(&router, path, &[]).await.0, StatusCode::OK, "{path}");
    }
    for path in [
        "/api/v1/live",
        "/api/v1/totals",
        "/metrics",
        "/",
        "/-/ready",
    ] {
        for foreign in [
            "https://shop.example",
            "null",
            "http://localhost.shop.example",
        ] {
            let (status, _) = ask(&router, path, &[("origin", foreign)]).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path} for {foreign}");
        }
    }
    for own in ["http://localhost:8686", "http://127.0.0.1:1"] {
        let (status, _) = ask(&router, "/api/v1/totals", &[("origin", own)]).await;
        assert_eq!(status, StatusCode::OK, "{own}");
    }
    let twice = [("host", "localhost"), ("host", "evil.example")];
    assert_eq!(ask(&router, "/", &twice).await.0, StatusCode::FORBIDDEN);
    let target = "http://evil.example/api/v1/alerts";
    assert_eq!(ask(&router, target, &[]).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_listener_beyond_this_machine_needs_a_token() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let served = super::serve(listener, Arc::new(shown()), std::future::ready(())).await;
    let error = served.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn mistakes_are_told_as_json() {
    let (router, ..) = served(shown());
    let table = [
        ("/api/v1/nothing", StatusCode::NOT_FOUND, "/api/v1/signals"),
        (
            "/api/v1/readings?limit=0",
            StatusCode::BAD_REQUEST,
            "1 to 10000",
        ),
        ("/api/v1/readings?limit=x", StatusCode::BAD_REQUEST, "limit"),
        (
            "/api/v1/readings?signal=x",
            StatusCode::BAD_REQUEST,
            "sales.pace",
        ),
        (
            "/api/v1/readings?kind=x",
            StatusCode::BAD_REQUEST,
            "courier,lane",
        ),
        (
            "/api/v1/readings?entity=x",
            StatusCode::BAD_REQUEST,
            "sku=A1",
        ),
        ("/api/v1/readings?after=x", StatusCode::BAD_REQUEST, "next"),
        (
            "/api/v1/readings?sginal=x",
            StatusCode::BAD_REQUEST,
            "sginal",
        ),
        ("/api/v1/alerts?after=x", StatusCode::BAD_REQUEST, "next"),
        (
            "/api/v1/alerts?after=page/1",
            StatusCode::BAD_REQUEST,
            "next",
        ),
        (
            "/api/v1/episodes?after=x/1",
            StatusCode::BAD_REQUEST,
            "next",
        ),
        (
            "/api/v1/deliveries?after=x",
            StatusCode::BAD_REQUEST,
            "next",
        ),
        (
            "/api/v1/partitions?limit=0",
            StatusCode::BAD_REQUEST,
            "limit",
        ),
        (
            "/api/v1/episodes?limit=10001",
            StatusCode::BAD_REQUEST,
            "10000",
        ),
    ];
    for (path, expected, hint) in table {
        let (status, text) = ask(&router, path, &[]).await;
        assert_eq!(status, expected, "{path}: {text}");
        let error: Value = serde_json::from_str(&text).unwrap();
        let error = error["error"].as_str().unwrap_or_default();
        assert!(error.contains(hint), "{path}: {error}");
    }
    let post = Request::post("/api/v1/alerts").header("host", "localhost");
    let post = post.body(Body::from("x")).unwrap();
    let response = router.oneshot(post).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn readings_come_whole_page_by_page() {
    let (router, context, _close) = served(shown());
    let names = |page: &Value| -> Vec<String> {
        let rows = page["readings"].as_array().unwrap().iter();
        rows.map(|row| format!("{} {}", row["signal"], row["name"]))
            .collect()
    };
    let whole = json(&router, "/api/v1/readings?limit=10000").await;
    assert_eq!(names(&whole).len(), context.shown.view.readings().len());
    assert!(whole["next"].is_null());
    let mut paged = Vec::new();
    let mut path = "/api/v1/readings?limit=7".to_owned();
    loop {
        let page = json(&router, &path).await;
        assert!(names(&page).len() <= 7);
        paged.extend(names(&page));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        let next = next.replace('=', "%3D").replace('>', "%3E");
        path = format!("/api/v1/readings?limit=7&after={next}");
    }
    assert_eq!(paged, names(&whole));
    let path = "/api/v1/readings?signal=price.floor&kind=sku";
    let one = json(&router, path).await;
    let row = &one["readings"][0];
    assert_eq!(row["signal"], "price.floor");
    assert_eq!(row["unit"], "ratio to floor");
    let name = row["name"].as_str().unwrap().replace('=', "%3D");
    let found = json(&router, &format!("{path}&entity={name}")).await;
    assert_eq!(found["readings"].as_array().unwrap().len(), 1);
    assert_eq!(found["readings"][0], *row);
}

#[tokio::test]
async fn totals_add_up() {
    let (router, ..) = served(shown());
    let totals = json(&router, "/api/v1/totals").await;
    let sum = |key: &str, field: &str| -> i64 {
        let rows = totals[key].as_array().unwrap();
        rows.iter().map(|row| row[field].as_i64().unwrap()).sum()
    };
    let orders = totals["total"]["orders"].as_i64().unwrap();
    assert!(orders > 20, "{orders} orders");
    assert_eq!(sum("campaigns", "orders"), orders);
    assert_eq!(totals["campaigns"][0]["campaign"], "double-11");
    assert_eq!(sum("skus", "units"), totals["total"]["units"]);
    assert_eq!(
        sum("skus", "revenue_minor"),
        totals["total"]["revenue_minor"]
    );
    let first = json(&router, "/api/v1/totals?limit=5").await;
    let after = first["next"].as_str().unwrap();
    let second = json(&router, &format!("/api/v1/totals?after={after}")).await;
    let count = |page: &Value| page["skus"].as_array().unwrap().len();
    assert_eq!(count(&first) + count(&second), count(&totals));
    assert!(second["next"].is_null());
}

#[tokio::test]
async fn an_episode_tells_who_was_told() {
    let (router, ..) = served(shown());
    let alerts = json(&router, "/api/v1/alerts").await;
    let alert = alerts["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|alert| alert["rule"] == "price-floor")
        .unwrap()
        .clone();
    assert_eq!(alert["entity"]["kind"], "sku");
    assert_eq!(alert["severity"], "page");
    assert_eq!(alert["state"], "firing");
    assert!(alert["resolved_at"].is_null());
    assert!(alert["peak"].as_f64().unwrap() < 1.0);
    let fired: jiff::Timestamp = alert["fired_at"].as_str().unwrap().parse().unwrap();
    let start_ms = ShopConfig::default().start_ms + 10 * MINUTE_MS;
    assert!(fired.as_millisecond() >= start_ms);
    let delivery = &alert["deliveries"][0];
    assert_eq!(delivery["channel"], "on-call");
    assert_eq!(delivery["outcome"], "delivered");
    assert_eq!(delivery["attempts"], 2);
    let episodes = json(&router, "/api/v1/episodes").await;
    let rows = episodes["episodes"].as_array().unwrap();
    assert!(rows.contains(&alert));
    let deliveries = json(&router, "/api/v1/deliveries?limit=1").await;
    assert_eq!(deliveries["deliveries"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn every_list_comes_whole_page_by_page() {
    let (router, ..) = served(shown());
    let lists = [
        ("alerts", "alerts"),
        ("episodes", "episodes"),
        ("readings", "readings"),
        ("deliveries", "deliveries"),
        ("totals", "skus"),
        ("partitions", "held"),
    ];
    for (path, key) in lists {
        let whole = json(&router, &format!("/api/v1/{path}?limit=10000")).await;
        let rows = whole[key].as_array().unwrap().clone();
        assert!(!rows.is_empty(), "{path}");
        assert_eq!(whole["count"], rows.len(), "{path}");
        assert!(whole["next"].is_null(), "{path}");
        let mut paged = Vec::new();
        let mut after = String::new();
        loop {
            let page = json(&router, &format!("/api/v1/{path}?limit=1{after}")).await;
            paged.extend(page[key].as_array().unwrap().clone());
            assert_eq!(page["count"], whole["count"], "{path}");
            let Some(next) = page["next"].as_str() else {
                break;
            };
            let next = next.replace('=', "%3D").replace('>', "%3E");
            after = format!("&after={}", next.replace('/', "%2F"));
        }
        assert_eq!(paged, rows, "{path}");
        let described: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let pointer =
            format!("/paths/~1api~1v1~1{path}/get/responses/200/content/application~1json/schema");
        let mut schema = described.pointer(&pointer).cloned().unwrap();
        schema["components"] = described["components"].clone();
        assert!(jsonschema::is_valid(&schema, &whole), "{path}: {whole}");
    }
}

/// The samples of one family, as written.
fn samples<'a>(text: &'a str, family: &str) -> Vec<&'a str> {
    let is_its = |line: &&str| {
        line.strip_prefix(family)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    text.lines().filter(is_its).collect()
}

#[tokio::test]
async fn metrics_are_one_valid_text_with_bounded_names() {
    let (router, context, _close) = served(shown());
    let (status, text) = ask(&router, "/metrics", &[]).await;
    assert_eq!(status, StatusCode::OK);
    let mut families = std::collections::HashSet::new();
    let mut series = std::collections::HashSet::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            current = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(current.clone()), "{current} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let kind = rest.strip_prefix(&current).unwrap().trim();
            let is_total = current.ends_with("_total");
            assert_eq!(is_total, kind == "counter", "{current} is a {kind}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&current), "{line} stands below {current}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name), "{name} comes twice");
        }
    }
    let lag = samples(&text, "fenghuo_consumer_lag_records");
    assert_eq!(
        lag,
        [r#"fenghuo_consumer_lag_records{stage="ingest",topic="shop.orders",partition="3"} 17"#]
    );
    let firing = samples(&text, "fenghuo_alerts");
    assert!(firing.iter().any(|line| line.contains(r#"state="firing",severity="page""#) && !line.ends_with(" 0")));
    assert_eq!(samples(&text, "fenghuo_ready"), ["fenghuo_ready 0"]);
    assert_eq!(
        samples(&text, "fenghuo_dead_letters_total")
            .iter()
            .filter(|line| line.ends_with(" 1"))
            .count(),
        1
    );

    // Three skus keep their names; the others are added up, and nothing is lost.
    let available = samples(&text, "fenghuo_reading");
    let available: Vec<_> = available
        .iter()
        .filter(|line| line.contains("stock.available_to_promise"))
        .collect();
    assert_eq!(available.len(), 4, "{available:?}");
    let value = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
    let told: f64 = available.iter().map(|line| value(line)).sum();
    let all = context.shown.view.readings_of("stock.available_to_promise");
    assert_eq!(told, all.iter().map(|(_, p)| p.reading.value).sum::<f64>());
    let floors = samples(&text, "fenghuo_reading");
    let floors = floors.iter().filter(|line| line.contains("price.floor"));
    assert_eq!(floors.count(), 3);
}

#[tokio::test]
async fn a_served_listener_answers_and_ends() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let server = tokio::spawn(super::serve(listener, Arc::new(shown()), shutdown));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut answer = Vec::new();
    while !answer.ends_with(b"{\"ok\":true}") {
        stream.writable().await.unwrap();
        if answer.is_empty() {
            assert_eq!(stream.try_write(head).unwrap(), head.len());
        }
        stream.readable().await.unwrap();
        let mut chunk = [0; 4096];
        if let Ok(read) = stream.try_read(&mut chunk) {
            assert_ne!(read, 0, "closed too early");
            answer.extend_from_slice(&chunk[..read]);
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    // The connection is idle: it must not hold the process.
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[test]
fn every_word_of_the_screen_is_in_every_language() {
    let words = include_str!("../screen/words.js");
    let keys = |begin: &str| -> std::collections::BTreeSet<String> {
        let from = words.find(begin).unwrap();
        let body = &words[from..from + words[from..].find("\n};").unwrap()];
        let parts = body.split(": \"");
        let names = parts.filter_map(|part| part.rsplit([' ', '\n']).next());
        names
            .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            .map(str::to_owned)
            .collect()
    };
    let english = keys("const en = ");
    assert!(english.len() > 50);
    assert_eq!(english, keys("const hans = "));
    assert_eq!(english, keys("const hant = "));
    let script = include_str!("../screen/screen.js");
    for call in script.split("word(\"").skip(1) {
        let key = call.split('"').next().unwrap();
        assert!(english.contains(key), "{key} is no word");
    }
    for name in crate::conditions::NAMES {
        let key = format!("is_{}", name.replace('.', "_"));
        assert!(english.contains(&key), "{key} is no word");
    }
    let page = include_str!("../screen/index.html");
    for mark in page.split("data-word=\"").skip(1) {
        let key = mark.split('"').next().unwrap();
        assert!(english.contains(key), "{key} is no word");
    }
    for text in [script, page, include_str!("../screen/chart.js")] {
        assert!(!text.contains("innerHTML"), "data must be written as text");
        assert!(
            !text.contains("https://"),
            "nothing is fetched from elsewhere"
        );
    }
}
