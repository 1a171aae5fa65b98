//! Events as a shop's own systems write them, in the names of either form of JSON.

use serde_json::{Value, json};

use crate::rfc3339;

/// How long `price.floor` remembers a price, ms.
pub const REMEMBERED_MS: i64 = 600_000;

/// The built-in rule of `price.floor`, which waits two minutes before it resolves, with a second
/// instead.
pub const FLOOR_RULE: &str = r#"
[[rule]]
name = "price-floor"
signal = "price.floor"
where = { kind = "sku" }
page = [{ read = "value", below = 1 }]
keep_firing = "1s"
playbook = "price-below-floor"
owner_role = "pricing"
labels = { area = "price" }
summary = "{sku} was ordered at {value} of its floor price."
"#;

/// The catalogue tells the lowest price of a sku; names in snake_case.
pub fn floor(sku: &str, floor_minor: i64, at_ms: i64) -> Value {
    let floor = json!({"currency_code": "CNY", "minor_units": floor_minor});
    let id = format!("floor-{sku}");
    json!({
        "meta": {"event_id": id, "source": "erp", "shop_id": "shop-42", "occurred_at": rfc3339(at_ms)},
        "catalog": {"type": "UPSERT", "sku_id": sku, "pack_units": 1, "price_floor": floor},
    })
}

/// A paid order of one unit; names in lowerCamelCase and the amount as text.
pub fn order(id: &str, sku: &str, price_minor: i64, at_ms: i64) -> Value {
    let price = json!({"currencyCode": "CNY", "minorUnits": price_minor.to_string()});
    json!({
        "meta": {"eventId": id, "source": "erp", "shopId": "shop-42", "occurredAt": rfc3339(at_ms)},
        "order": {
            "type": "PAID", "orderId": id, "campaignId": "double-11",
            "lines": [{"skuId": sku, "quantity": 1, "packUnits": 1, "unitPrice": price}],
        },
    })
}
