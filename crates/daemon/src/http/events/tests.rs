//! The intake over HTTP, against its own OpenAPI description: every answer is one that is told
//! there, and every answer that is told there is given.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use axum::Router;
use axum::body::{Body, to_bytes};
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Log, SessionSpec, Start, TopicPartition};
use fenghuo_notify::Secret;
use serde_json::Value;
use tower::ServiceExt as _;

use super::super::bounds::Bounds;
use super::*;
use crate::config::Config;
use crate::http::Shown;
use crate::http::tests::{served, shown};
use crate::identity::Identity;
use crate::intake::{Full, Intake};
use crate::measured::Holdings;
use crate::worker::Course;

const NDJSON: &str = "application/x-ndjson";

fn described() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

fn log() -> MemoryLog {
    let log = MemoryLog::new();
    let config = Config::without_file().unwrap();
    log.ensure(&config.source_topics()).unwrap();
    let topology = config.topology(0);
    log.ensure(&topology.own_topics(&|_| 4)).unwrap();
    drop(Identity::restore(Default::default(), &log).unwrap());
    log
}

fn open(log: &MemoryLog, full: Full, with: impl FnOnce(&mut Shown)) -> Router {
    let mut shown = shown();
    shown.intake = Some(Arc::new(taker(log, full)));
    with(&mut shown);
    served(shown).0
}

/// Answers that the description tells of and that were seen.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    /// Posts a body; the answer must be one that is described.
    async fn post(
        &mut self,
        router: &Router,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (u16, Value) {
        let mut request = Request::post("/api/v1/events");
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header(header::HOST, "127.0.0.1:8686");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let again = matches!(status, 429 | 503 | 507);
        assert_eq!(response.headers().contains_key("retry-after"), again);
        let bytes = to_bytes(response.into_body(), 64 << 20).await.unwrap();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        let pointer = format!("/paths/~1api~1v1~1events/post/responses/{status}");
        let mut schema = described()
            .pointer(&format!("{pointer}/content/application~1json/schema"))
            .cloned()
            .unwrap_or_else(|| panic!("{status} is not described: {answer}"));
        schema["components"] = described()["components"].clone();
        let problems: Vec<String> = jsonschema::validator_for(&schema)
            .unwrap()
            .iter_errors(&answer)
            .map(|problem| problem.to_string())
            .collect();
        assert_eq!(problems, [""; 0], "{answer}");
        self.0.insert(status.to_string());
        (status, answer)
    }
}

fn values(log: &MemoryLog, topic: &str) -> Vec<String> {
    let mut session = log
        .open(&SessionSpec {
            group: "test".to_owned(),
            member: "test".to_owned(),
            topics: Vec::new(),
            start: Start::Earliest,
            low_latency: true,
        })
        .unwrap();
    let mut values = Vec::new();
    for partition in 0..log.partitions(topic).unwrap().unwrap_or(0) {
        let of = TopicPartition::new(topic, partition);
        let mut each = |record: fenghuo_log::Record<'_>| {
            values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
        };
        session.read(&of, 0, u64::MAX, &mut each).unwrap();
    }
    values
}

fn order(id: &str) -> String {
    format!(
        r#"{{"meta":{{"event_id":"{id}","source":"erp","shop_id":"42","occurred_at":"2026-11-11T20:00:00+08:00"}},"order":{{"type":"PAID","order_id":"{id}"}}}}"#
    )
}

#[tokio::test]
async fn every_answer_is_described_and_every_description_is_true() {
    let mut seen = Seen::default();
    let kept = log();
    let router = open(&kept, Box::new(|| None), |_| {});
    // The examples of the description are taken as they stand.
    let content = described()["paths"]["/api/v1/events"]["post"]["requestBody"]["content"].clone();
    for (kind, of) in content.as_object().unwrap() {
        if let Some(example) = of["example"].as_str() {
            let headers = [("content-type", kind.as_str())];
            let (status, answer) = seen.post(&router, &headers, example.to_owned()).await;
            assert_eq!(
                (status, &answer["rejected"]),
                (200, &0.into()),
                "{kind}: {answer}"
            );
        }
    }
    assert_eq!(values(&kept, "shop.orders").len(), 4);
    assert_eq!(values(&kept, "shop.inventory").len(), 1);
    assert_eq!(values(&kept, "shop.custom").len(), 1);

    // A bad line rejects itself alone.
    let body = format!("{}\nno event\n\n{}\n", order("a"), order("b"));
    let headers = [("content-type", NDJSON), ("fenghuo-sender", "till-7")];
    let (_, answer) = seen.post(&router, &headers, body).await;
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&2.into(), &1.into())
    );
    assert_eq!(answer["rejections"][0]["line"], 2);
    assert_eq!(values(&kept, "fenghuo.dead-letter"), ["no event"]);
    let letters = TopicPartition::new("fenghuo.dead-letter", 0);
    assert_eq!(kept.header(&letters, 0, "file").unwrap(), b"till-7");
    assert_eq!(kept.header(&letters, 0, "line").unwrap(), b"2");

    let before = values(&kept, "shop.orders").len();
    type Refused<'a> = (u16, &'a [(&'a str, &'a str)], &'a str);
    let refused: [Refused<'_>; 8] = [
        (400, &[("content-type", "application/json")], "[{\"meta\":"),
        (
            400,
            &[("content-type", NDJSON), ("content-encoding", "gzip")],
            "plain",
        ),
        (415, &[("content-type", "text/plain")], "{}"),
        (
            415,
            &[("content-type", "application/x-www-form-urlencoded")],
            "a=b",
        ),
        (
            415,
            &[("content-type", "multipart/form-data; boundary=x")],
            "--x",
        ),
        (415, &[], "{}"),
        (
            415,
            &[("content-type", NDJSON), ("content-encoding", "br")],
            "{}",
        ),
        (413, &[("content-type", NDJSON)], &"\n{}".repeat(60_000)),
    ];
    for (expected, headers, body) in refused {
        let (status, answer) = seen.post(&router, headers, body.to_owned()).await;
        assert_eq!(status, expected, "{headers:?}: {answer}");
        assert_eq!(answer["byte"].is_number(), expected == 400, "{answer}");
    }
    let large = vec![b' '; LIMITS.body_bytes_max + 1];
    assert_eq!(
        seen.post(&router, &[("content-type", NDJSON)], large)
            .await
            .0,
        413
    );
    assert_eq!(values(&kept, "shop.orders").len(), before);

    // From another site, or through another name.
    for header in [
        ("origin", "https://shop.example"),
        ("host", "shop.example"),
        ("origin", "null"),
    ] {
        let headers = [("content-type", NDJSON), header];
        assert_eq!(
            seen.post(&router, &headers, order("c")).await.0,
            403,
            "{header:?}"
        );
    }
    let headers = [
        ("content-type", NDJSON),
        ("origin", "http://localhost:8686"),
    ];
    assert_eq!(seen.post(&router, &headers, order("d")).await.0, 200);

    // The token of senders is one thing, that of readers another.
    let tokens = |shown: &mut Shown| {
        shown.token = Some(Secret::new("for-readers"));
        shown.intake_token = Some(Secret::new("for-senders"));
    };
    let guarded = open(&kept, Box::new(|| None), tokens);
    for (expected, given) in [(401, "for-readers"), (401, "x"), (200, "for-senders")] {
        let bearer = format!("Bearer {given}");
        let headers = [("content-type", NDJSON), ("authorization", bearer.as_str())];
        assert_eq!(
            seen.post(&guarded, &headers, order("e")).await.0,
            expected,
            "{given}"
        );
    }
    let request = Request::get("/api/v1/totals").header("authorization", "Bearer for-senders");
    let request = request.body(Body::empty()).unwrap();
    let response = guarded.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);

    let full = open(&kept, Box::new(|| Some("no room".to_owned())), |_| {});
    assert_eq!(
        seen.post(&full, &[("content-type", NDJSON)], order("f"))
            .await
            .0,
        507
    );
    // More at once than there is room for.
    let (router, context, _close) = served({
        let mut shown = shown();
        shown.intake = Some(Arc::new(taker(&kept, Box::new(|| None))));
        shown
    });
    let most = Bounds::default().bodies_bytes_max;
    let small = Bounds::default().small_bodies_bytes_max;
    let reserved = (
        context.bodies.try_reserve(most).unwrap(),
        context.small_bodies.try_reserve(small).unwrap(),
    );
    assert_eq!(
        seen.post(&router, &[("content-type", NDJSON)], order("g"))
            .await
            .0,
        429
    );
    drop(reserved);
    assert_eq!(
        seen.post(&router, &[("content-type", NDJSON)], order("g"))
            .await
            .0,
        200
    );
    assert_eq!(context.bodies.left_bytes(), most);
    assert_eq!(context.small_bodies.left_bytes(), small);
    let broken = open(&MemoryLog::new(), Box::new(|| None), |_| {});
    assert_eq!(
        seen.post(&broken, &[("content-type", NDJSON)], order("h"))
            .await
            .0,
        503
    );

    let responses = described()["paths"]["/api/v1/events"]["post"]["responses"].clone();
    let described: BTreeSet<String> = responses.as_object().unwrap().keys().cloned().collect();
    let unseen: Vec<_> = described.difference(&seen.0).collect();
    // A body that is late takes a while: see the test of that.
    assert_eq!(unseen, ["408"]);
}

/// What takes events in, into a log of its own.
pub(in crate::http) fn open_intake() -> Intake {
    taker(&log(), Box::new(|| None))
}

fn taker(log: &MemoryLog, full: Full) -> Intake {
    let config = Config::without_file().unwrap();
    let partitions = config.topics.sources.iter();
    let partitions = partitions.map(|source| (source.name.to_string(), 4));
    Intake::new(
        &config,
        Arc::new(log.clone()),
        full,
        &partitions.collect(),
        Arc::new(Identity::default()),
        Holdings::default(),
        Arc::new(Course::new(Duration::ZERO, true)),
    )
}

#[tokio::test]
async fn a_small_body_never_waits_behind_large_ones() {
    let kept = log();
    let (router, context, _close) = served({
        let mut shown = shown();
        shown.intake = Some(Arc::new(taker(&kept, Box::new(|| None))));
        shown
    });
    // As if large bodies held all of their lane and all of their memory, for ever.
    let here = IpAddr::from([127, 0, 0, 1]);
    let mut places = Vec::new();
    for _ in 0..Bounds::default().parsing_max {
        places.push(context.large_lane.enter(here, 1).await.ok().unwrap());
    }
    let most = Bounds::default().bodies_bytes_max;
    let reserved = context.bodies.try_reserve(most).unwrap();
    let mut seen = Seen::default();
    let body = order("small");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body.as_bytes()).unwrap();
    for (encoding, body) in [
        ("identity", body.clone().into_bytes()),
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::bulk::compress(body.as_bytes(), 3).unwrap()),
    ] {
        let headers = [("content-type", NDJSON), ("content-encoding", encoding)];
        let asked = seen.post(&router, &headers, body);
        let answered = tokio::time::timeout(Duration::from_secs(30), asked).await;
        assert_eq!(answered.expect("it waits").0, 200, "{encoding}");
    }
    // One that unpacks to more waits, and is asked to come again where there is no memory for it.
    let large = zstd::bulk::compress(&order("large").repeat(1_000).into_bytes(), 3).unwrap();
    let headers = [("content-type", NDJSON), ("content-encoding", "zstd")];
    assert_eq!(seen.post(&router, &headers, large).await.0, 429);
    drop((places, reserved));
    let lines = format!("{}\n", order("large")).repeat(1_000);
    let large = zstd::bulk::compress(lines.as_bytes(), 3).unwrap();
    assert_eq!(seen.post(&router, &headers, large).await.0, 200);
    let small = Bounds::default().small_bodies_bytes_max;
    assert_eq!(context.bodies.left_bytes(), most);
    assert_eq!(context.small_bodies.left_bytes(), small);
}

#[tokio::test]
async fn nothing_is_acknowledged_that_a_restart_would_lose() {
    use std::sync::atomic::{AtomicU64, Ordering};
    // Found at the first question, before anything is written, and at the second, behind it.
    for found_at in 1..=2 {
        let kept = log();
        let asked = AtomicU64::new(0);
        let lost = move || {
            let is_lost = asked.fetch_add(1, Ordering::Relaxed) + 1 >= found_at;
            is_lost.then(|| "log.redb was removed".to_owned())
        };
        let router = open(&kept, Box::new(|| None), |shown| {
            let intake = taker(&kept, Box::new(|| None)).unless(Box::new(lost));
            shown.intake = Some(Arc::new(intake));
        });
        let headers = [("content-type", NDJSON)];
        let mut seen = Seen::default();
        let (status, answer) = seen.post(&router, &headers, order("a")).await;
        assert_eq!(status, 503, "{answer}");
        let told = answer["error"].as_str().unwrap();
        assert!(
            told.contains("removed") && told.contains("log backup"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_few_bytes_that_unpack_to_blanks_are_refused() {
    let kept = log();
    let router = open(&kept, Box::new(|| None), |_| {});
    let mut seen = Seen::default();
    let blanks = [
        (NDJSON, vec![b'\n'; 16 << 20]),
        (
            "application/json",
            [b"[", &vec![b' '; 10 << 20][..], b"]"].concat(),
        ),
    ];
    for (kind, blank) in blanks {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&blank).unwrap();
        for (encoding, body) in [
            ("gzip", gzip.finish().unwrap()),
            ("zstd", zstd::bulk::compress(&blank, 3).unwrap()),
        ] {
            let headers = [("content-type", kind), ("content-encoding", encoding)];
            let (status, answer) = seen.post(&router, &headers, body).await;
            assert_eq!(status, 413, "{kind} {encoding}: {answer}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_sender_is_cut_off() {
    let router = open(&log(), Box::new(|| None), |_| {});
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let headers = [("content-type", NDJSON)];
    let mut seen = Seen::default();
    let (status, answer) = seen.post(&router, &headers, Body::from_stream(never)).await;
    assert_eq!(status, 408, "{answer}");
}

#[tokio::test]
async fn packed_bodies_and_protobuf_are_the_same_events() {
    let kept = log();
    let router = open(&kept, Box::new(|| None), |_| {});
    let mut seen = Seen::default();
    let lines = format!("{}\n{}\n", order("a"), order("b"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let packed = [
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::bulk::compress(lines.as_bytes(), 1).unwrap()),
    ];
    for (encoding, body) in packed {
        let headers = [("content-type", NDJSON), ("content-encoding", encoding)];
        let (status, answer) = seen.post(&router, &headers, body).await;
        assert_eq!(
            (status, &answer["accepted"]),
            (200, &2.into()),
            "{encoding}: {answer}"
        );
    }
    let event = fenghuo_event::pb::Event {
        meta: Some(fenghuo_event::pb::Meta {
            event_id: "p".to_owned(),
            source: "erp".to_owned(),
            occurred_at: Some(prost_types::Timestamp {
                seconds: 1_794_398_400,
                nanos: 0,
            }),
            ..Default::default()
        }),
        body: Some(fenghuo_event::pb::event::Body::Ops(
            fenghuo_event::pb::Ops {
                r#type: 1,
                component: "till".to_owned(),
                ..Default::default()
            },
        )),
    };
    let bytes = fenghuo_event::to_protobuf(&event);
    let mut body = vec![bytes.len() as u8];
    assert!(bytes.len() < 128, "a length of one byte");
    body.extend(&bytes);
    let headers = [("content-type", "application/x-protobuf")];
    let (status, answer) = seen.post(&router, &headers, body).await;
    assert_eq!((status, &answer["accepted"]), (200, &1.into()), "{answer}");
    assert_eq!(values(&kept, "shop.orders").len(), 4);
    assert_eq!(values(&kept, "shop.ops").len(), 1);
}

/// A request that the intake of a view and a log answers; the view counts what is refused.
#[tokio::test]
async fn what_is_refused_is_counted_once_and_told_of_in_part() {
    let kept = log();
    let intake = Arc::new(taker(&kept, Box::new(|| None)));
    let router = open(&kept, Box::new(|| None), |shown| {
        shown.intake = Some(Arc::clone(&intake));
    });
    let mut seen = Seen::default();
    let lines = format!("{}\n{}", order("a"), "no event\n".repeat(2_000));
    let headers = [("content-type", NDJSON), ("fenghuo-sender", "till-7")];
    let (_, answer) = seen.post(&router, &headers, lines).await;
    assert_eq!(answer["accepted"], 1);
    assert_eq!(answer["rejected"], 2_000);
    assert_eq!(answer["rejections"].as_array().unwrap().len(), 100);
    assert_eq!(values(&kept, "fenghuo.dead-letter").len(), 2_000);
    let view = intake.view();
    assert_eq!(view.dead_letters(), [("malformed", 2_000)]);
    assert_eq!((view.refused_unknown(), view.events()), (2_000, vec![]));
    // An event of another currency is known to be an order.
    let other = order("b").replace(
        r#""PAID","order_id":"b""#,
        r#""PAID","order_id":"b","lines":[{"sku_id":"s","quantity":1,"unit_price":{"currency_code":"CNY","minor_units":1}},{"sku_id":"s","quantity":1,"unit_price":{"currency_code":"JPY","minor_units":1}}]"#,
    );
    let (_, answer) = seen.post(&router, &headers, other).await;
    assert_eq!(answer["rejected"], 1, "{answer}");
    assert_eq!(view.dead_letters().len(), 2);
    let (stream, outcome, count) = view.events()[0];
    assert_eq!(
        (stream.topic(), outcome.as_str(), count),
        ("orders", "rejected", 1)
    );
    let condition = intake.refusals().condition().unwrap();
    assert!(
        condition.text.contains("2001 of 2002"),
        "{}",
        condition.text
    );
    assert!(condition.text.contains("till-7"), "{}", condition.text);
}

#[tokio::test]
async fn requests_that_are_refused_are_told_of() {
    let kept = log();
    let intake = Arc::new(taker(&kept, Box::new(|| Some("no room".to_owned()))));
    let router = open(&kept, Box::new(|| None), |shown| {
        shown.intake = Some(Arc::clone(&intake));
    });
    let mut seen = Seen::default();
    assert_eq!(intake.refusals().condition(), None);
    for _ in 0..20 {
        let (status, _) = seen
            .post(&router, &[("content-type", NDJSON)], order("a"))
            .await;
        assert_eq!(status, 507);
    }
    let condition = intake.refusals().condition().unwrap();
    assert!(condition.text.contains("disk_full"), "{}", condition.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_bombs_and_many_small_events_stay_within_the_budget() {
    let kept = log();
    let (router, context, _close) = served({
        let mut shown = shown();
        shown.intake = Some(Arc::new(taker(&kept, Box::new(|| None))));
        shown
    });
    // As dense as it may be: what packs worse accounts for the blanks before it.
    let words = (1..12_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29));
    let words: String = words
        .map(|word| format!("{:016x}", word.wrapping_mul(word >> 7 | 1)))
        .collect();
    let mut bomb = vec![b' '; 15 << 20];
    bomb.extend_from_slice(format!("\n{words}").as_bytes());
    let ratio = bomb.len();
    let bomb = zstd::bulk::compress(&bomb, 19).unwrap();
    let ratio = ratio / bomb.len();
    assert!(
        (100..200).contains(&ratio),
        "{ratio} times {} bytes",
        bomb.len()
    );
    let small = "{}\n".repeat(50_000).into_bytes();
    let post = |body: Vec<u8>, encoding: &'static str| {
        let request = Request::post("/api/v1/events").header("host", "localhost");
        let request = request.header("content-type", NDJSON);
        let request = request.header("content-encoding", encoding);
        let request = request.body(Body::from(body)).unwrap();
        tokio::spawn(router.clone().oneshot(request))
    };
    let mut posts: Vec<_> = (0..30).map(|_| post(bomb.clone(), "zstd")).collect();
    posts.extend((0..6).map(|_| post(small.clone(), "identity")));
    let mut answers = BTreeMap::new();
    for post in posts {
        let status = post.await.unwrap().unwrap().status().as_u16();
        *answers.entry(status).or_insert(0) += 1;
    }
    // Nothing else than being taken or being asked to come again.
    let all: i32 = [200, 429]
        .iter()
        .filter_map(|status| answers.get(status))
        .sum();
    assert_eq!(all, 36, "{answers:?}");
    assert!(answers.contains_key(&200), "{answers:?}");
    let most = Bounds::default().bodies_bytes_max;
    assert_eq!(context.bodies.left_bytes(), most);
}
