//! Tests of the language as a whole: values by tables, mistakes by their words, random expressions
//! against an interpreter that was written apart, and that no source brings it down.

mod mistakes;
mod oracle;
mod other_scope;
mod random;
mod specialised;
mod values;

use fenghuo_event::schema::Scope;
use fenghuo_event::{Event, Stream, decode};

use super::{EventExpression, EventSchema, Type};

const META: &str = r#""meta":{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z","recorded_at":"2026-11-11T12:00:03Z"}"#;

/// A message with a good meta and this body.
fn with_body(body: &str) -> String {
    format!("{{{META},{body}}}")
}

fn event(json: &str) -> Event<'_> {
    decode(json.as_bytes(), None).unwrap_or_else(|rejected| panic!("{rejected}: {json}"))
}

fn parse(stream: Stream, source: &str) -> EventExpression {
    EventExpression::parse(source, &EventSchema(stream))
        .unwrap_or_else(|errors| panic!("{source}\n{errors}"))
}

/// Its value as the language would write it.
fn value(expression: EventExpression, scope: Scope<'_>) -> String {
    match expression.kind() {
        Type::Bool => expression
            .into_condition()
            .unwrap()
            .holds(scope)
            .to_string(),
        Type::Float => format!("{:?}", expression.into_number().unwrap().value(scope)),
        Type::Text | Type::Enum(_) => {
            format!("{:?}", expression.into_phrase().unwrap().value(scope))
        }
        _ => expression.into_quantity().unwrap().value(scope).to_string(),
    }
}
