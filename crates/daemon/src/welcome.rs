//! What `fenghuo run` tells who starts it on a folder: where everything is, and, as long as nothing
//! was sent, how to send the first events.

use std::net::SocketAddr;
use std::path::Path;

/// Where everything is.
pub fn text(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "Fenghuo is watching. Everything is kept in {folder}.\n\n  \
         screen   http://{address}/\n  \
         events   POST http://{address}/api/v1/events\n"
    )
}

/// A command that works as it stands: it makes its own times and ids, can be sent again, and leads
/// to a page.
pub fn first_events(address: SocketAddr, utc_offset: &str) -> String {
    let meta = |what: &str| {
        format!(
            r#""meta":{{"event_id":"{what}-$(date +%s)","source":"by-hand","shop_id":"my-shop","occurred_at":"$(date +%Y-%m-%dT%H:%M:%S){utc_offset}"}}"#
        )
    };
    let (floor, order) = (meta("floor"), meta("order"));
    format!(
        r#"Send first events: a price floor, and an order below it, which pages. Again is fine.

curl -sS http://{address}/api/v1/events -H 'Content-Type: application/x-ndjson' --data-binary @- <<END
{{{floor},"catalog":{{"type":"UPSERT","sku_id":"tea-500g","pack_units":1,"price_floor":{{"currency_code":"CNY","minor_units":4900}}}}}}
{{{order},"order":{{"type":"PAID","order_id":"by-hand-$(date +%s)","lines":[{{"sku_id":"tea-500g","quantity":1,"pack_units":1,"unit_price":{{"currency_code":"CNY","minor_units":490}}}}]}}}}
END
"#
    )
}
