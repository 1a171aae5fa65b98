//! Tests of the decoders as a whole: the two encodings against each other and against an
//! independent implementation (prost-reflect), what is refused and with which words, and that no
//! bytes whatever bring them down.

mod encodings;
mod hostile;
mod random;
mod readable;
mod rejections;

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::decode::{Encoding, read};
use crate::{Body, Rejected, views};

/// The envelope, as prost-reflect knows it.
static EVENT: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    let set = protox::compile(["fenghuo/v1/events.proto"], [protos]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(set).unwrap();
    pool.get_message_by_name("fenghuo.v1.Event").unwrap()
});

/// A valid event of each stream, with its key.
const SAMPLES: [(&str, &str, &str); 10] = [
    (
        "orders",
        "o1",
        r#""order":{"type":"PAID","order_id":"o1","campaign_id":"d11","placed_at":"2026-11-11T11:59:58.250Z",
        "lines":[{"sku_id":"s1","quantity":2,"pack_units":6,"unit_price":{"currency_code":"CNY","minor_units":1999}},
        {"sku_id":"s2","quantity":1,"is_gift":true}],"promotion_ids":["p1","p2"],"initiator":"BUYER"}"#,
    ),
    (
        "inventory",
        "s1",
        r#""inventory":{"type":"SNAPSHOT","sku_id":"s1","location_id":"w1","levels":{"available":-3,"on_hand":40}}"#,
    ),
    (
        "couriers",
        "p1",
        r#""courier":{"status":"PICKED_UP","parcel_id":"p1","courier_id":"SF","order_ids":["o1"],"eta":"2026-11-13T00:00:00Z"}"#,
    ),
    (
        "feedback",
        "f1",
        r#""feedback":{"kind":"REVIEW","feedback_id":"f1","rating":1,"sentiment":-0.5,"text":"漏发了\n再也不来"}"#,
    ),
    (
        "visits",
        "d11",
        r#""visit":{"type":"AGGREGATE","campaign_id":"d11","window":"60s","page_views":900}"#,
    ),
    (
        "catalog",
        "s1",
        r#""catalog":{"type":"UPSERT","sku_id":"s1","price_floor":{"currency_code":"CNY","minor_units":1500}}"#,
    ),
    (
        "plans",
        "d11",
        r#""plan":{"type":"UPSERT","campaign_id":"d11","start":"2026-11-11T12:00:00Z","flash_offsets_s":[0,14400],
        "skus":[{"sku_id":"s1","planned_units":500,"curve":[{"offset_s":0,"units":1.5},{"offset_s":60,"units":2}]}]}"#,
    ),
    (
        "suppliers",
        "u1",
        r#""supplier":{"type":"ASSESSMENT","supplier_id":"u1","scores":{"quality":88.5}}"#,
    ),
    (
        "ops",
        "checkout",
        r#""ops":{"type":"HEARTBEAT","component":"checkout"}"#,
    ),
    (
        "custom",
        "oven.temperature,h2,m7",
        r#""custom":{"name":"oven.temperature","entity":{"machine":"m7","hall":"h2","line":""},
        "numbers":{"celsius":231.5,"offset":0},"texts":{"state":"预热\nok"}}"#,
    ),
];

const META: &str =
    r#""meta":{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z"}"#;

/// A message with a good meta and this body.
fn with_body(body: &str) -> String {
    format!("{{{META},{body}}}")
}

/// The same message in protobuf, by prost-reflect.
fn to_wire(json: &str) -> Vec<u8> {
    let mut parser = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(EVENT.clone(), &mut parser).unwrap();
    message.encode_to_vec()
}

/// Reads without checking; maps in key order, since they have none of their own.
fn read_sorted(bytes: &[u8], encoding: Encoding) -> Result<views::Event<'_>, Rejected> {
    let mut event = views::Event::default();
    read(&mut event, bytes, encoding)?;
    match &mut event.body {
        Some(Body::Supplier(supplier)) => supplier.scores.sort_by(|a, b| a.0.cmp(&b.0)),
        Some(Body::Custom(custom)) => {
            custom.entity.sort_by(|a, b| a.0.cmp(&b.0));
            custom.numbers.sort_by(|a, b| a.0.cmp(&b.0));
            custom.texts.sort_by(|a, b| a.0.cmp(&b.0));
        }
        _ => {}
    }
    Ok(event)
}
