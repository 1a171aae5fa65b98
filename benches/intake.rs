//! Bodies of requests to messages: what that costs beyond decoding each event, which has to be
//! done in any case.
//!
//! Every figure is events a second on one core. Beside ours stands what the same events cost only
//! to decode, and to decode and keep, measured in the same run.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fenghuo_event::Encoding;
use fenghuo_intake::body::{Form, Limits, messages};
use serde_json::value::RawValue;

const EVENTS: u64 = 1_000;

const LIMITS: Limits = Limits {
    body_bytes_max: 1 << 24,
    events_max: EVENTS as usize,
    event_bytes_max: 1 << 20,
};

/// Decodes events that are apart already, and keeps nothing of them.
fn decode(events: &[Vec<u8>], encoding: Encoding) -> usize {
    let content_type = Some(encoding.content_type().as_bytes());
    let decoded = events
        .iter()
        .filter(|event| black_box(fenghuo_event::decode(event, content_type)).is_ok());
    decoded.count()
}

/// Decodes events that are apart already, and keeps of each what a message must own: the memory
/// that this takes from the system and gives back is part of what a body costs.
fn keep(events: &[Vec<u8>], encoding: Encoding) -> usize {
    let content_type = Some(encoding.content_type().as_bytes());
    let kept = events.iter().filter_map(|event| {
        let key = match &fenghuo_event::decode(event, content_type) {
            Ok(event) => event.key().into_owned(),
            Err(_) => return None,
        };
        Some((key, event.clone()))
    });
    black_box(kept.collect::<Vec<_>>()).len()
}

/// Events in a CloudEvent each, with the meta that they have and an envelope that says it again.
fn cloud_events(events: &[Vec<u8>]) -> Vec<u8> {
    let events = events.iter().enumerate().map(|(number, event)| {
        let data = String::from_utf8_lossy(event);
        format!(
            r#"{{"specversion":"1.0","type":"shop.order","id":"e{number:08}","source":"shop/42","data":{data}}}"#
        )
    });
    let events: Vec<_> = events.collect();
    format!("[{}]", events.join(",")).into_bytes()
}

fn bodies(c: &mut Criterion) {
    let (json, protobuf) = (
        fenghuo_benches::json(EVENTS),
        fenghuo_benches::protobuf(EVENTS),
    );
    let spans = protobuf.iter().flat_map(|event| {
        // None of these orders is longer than two bytes can say.
        let length = [event.len() as u8 | 0x80, (event.len() >> 7) as u8];
        [&length[..], event].concat()
    });
    let array = [&b"["[..], &json.join(&b','), b"]"].concat();
    let mut group = c.benchmark_group("intake");
    group.throughput(Throughput::Elements(EVENTS));
    let sender: Arc<str> = Arc::from("sender");
    for (name, form, body) in [
        ("JSON lines", Form::JsonLines, json.join(&b'\n')),
        ("JSON array", Form::Json, array.clone()),
        ("protobuf", Form::Protobuf, spans.collect()),
        ("CloudEvents", Form::CloudEvents, cloud_events(&json)),
    ] {
        let read = messages(form, &body, &sender, LIMITS).unwrap_or_default();
        let taken = read.iter().filter(|event| event.is_ok()).count();
        assert_eq!(taken as u64, EVENTS, "{name}: {:?}", read.first());
        let (events, encoding) = match form {
            Form::Protobuf => (&protobuf, Encoding::Protobuf),
            _ => (&json, Encoding::Json),
        };
        group.bench_function(format!("{name}: bound: decode alone"), |b| {
            b.iter(|| decode(events, encoding));
        });
        group.bench_function(format!("{name}: bound: decode, keep bytes and key"), |b| {
            b.iter(|| keep(events, encoding));
        });
        group.bench_function(format!("{name}: messages"), |b| {
            b.iter(|| black_box(messages(form, &body, &sender, LIMITS)).is_ok());
        });
    }
    group.bench_function("JSON array: bound: serde_json to raw values", |b| {
        b.iter(|| serde_json::from_slice::<Vec<&RawValue>>(black_box(&array)).is_ok());
    });
    group.finish();
}

criterion_group!(benches, bodies);
criterion_main!(benches);
