//! Shapes that several answers share: errors, times, and entities by name.

use axum::Json;
use axum::http::StatusCode;
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

/// RFC 3339, UTC; `None` for what no calendar holds.
pub(super) fn time(ms: i64) -> Option<String> {
    Timestamp::from_millisecond(ms)
        .ok()
        .map(|time| time.to_string())
}
