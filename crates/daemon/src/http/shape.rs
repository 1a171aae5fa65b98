//! Shapes that several answers share: errors, times, and entities by name.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;

/// An answer that says what to do.
pub(super) fn failure(status: StatusCode, text: &str) -> Response {
    #[derive(Serialize)]
    struct Failure<'a> {
        error: &'a str,
    }
    (status, Json(Failure { error: text })).into_response()
}

/// Who is sent away comes again after this, in seconds.
const RETRY_AFTER_S: &str = "1";

/// An answer that says to come again.
pub(super) fn busy(status: StatusCode, text: &str) -> Response {
    let mut response = failure(status, text);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    response
}

/// RFC 3339, UTC; `None` for what no calendar holds.
pub(super) fn time(ms: i64) -> Option<String> {
    Timestamp::from_millisecond(ms)
        .ok()
        .map(|time| time.to_string())
}
