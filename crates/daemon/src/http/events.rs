//! `POST /api/v1/events`: the intake over HTTP.
//!
//! Owns what a request may be and how its answer looks. The answer comes after the events are
//! durable; a bad line is told beside the good ones, and a body that cannot be split is refused
//! whole. It must never hold more of a request than the bounds, nor wait for a slow sender for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fenghuo_intake::body::{self, Form, Limits, Packing};
use serde_json::json;

use super::server::{Context, Peer};
use super::shape::failure;
use crate::intake::{Intake, Refused, Taken};

/// Bounds of one request.
const LIMITS: Limits = Limits {
    body_bytes_max: 16 * 1024 * 1024,
    events_max: 50_000,
    event_bytes_max: 1024 * 1024,
};
/// A body must be in by then; who sends more slowly is cut off.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Who is sent away comes again after this, in seconds.
const RETRY_AFTER_S: &str = "1";
/// Characters of a sender's name that are kept.
const SENDER_CHARS_MAX: usize = 100;

/// The header by which a sender names itself.
const SENDER: &str = "fenghuo-sender";

pub(super) async fn post(
    State(context): State<Arc<Context>>,
    peer: Option<Extension<Peer>>,
    request: Request,
) -> Response {
    let Some(intake) = context.shown.intake.clone() else {
        let text = "events are not taken over HTTP here: set http = true in [intake]";
        return failure(StatusCode::NOT_FOUND, text);
    };
    if let Err(refused) = intake.check() {
        return sent_away(&refused);
    }
    let (form, packing) = match kind(request.headers()) {
        Ok(kind) => kind,
        Err(text) => return failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, &text),
    };
    let sender = sender(request.headers(), peer.map(|Extension(peer)| peer));
    let Some(seat) = context.seat(request.headers(), LIMITS.body_bytes_max) else {
        let text = "too much is being sent at once; send this again later";
        return sent_away(&Refused::Behind(text.to_owned()));
    };
    let bytes = match received(request.into_body()).await {
        Ok(bytes) => bytes,
        Err(refused) => return refused,
    };
    let answer = tokio::task::spawn_blocking(move || {
        let _seat = seat;
        take(&intake, form, packing, &bytes, &sender)
    });
    answer.await.unwrap_or_else(|_| {
        let text = "the events could not be taken; send them again";
        failure(StatusCode::INTERNAL_SERVER_ERROR, text)
    })
}

/// How the body is split, and how it is packed.
fn kind(headers: &HeaderMap) -> Result<(Form, Packing), String> {
    let text = |name| headers.get(name).map(HeaderValue::to_str);
    let content_type = match text(header::CONTENT_TYPE) {
        Some(Ok(text)) => text,
        // What is not told is refused in the words of what is told wrongly.
        _ => "",
    };
    let form = Form::of(content_type).map_err(|error| error.to_string())?;
    let packing = match text(header::CONTENT_ENCODING) {
        None => Packing::Plain,
        Some(text) => Packing::of(text.unwrap_or_default()).map_err(|error| error.to_string())?,
    };
    Ok((form, packing))
}

/// Who sends: as it names itself, or where it connects from.
fn sender(headers: &HeaderMap, peer: Option<Peer>) -> Arc<str> {
    let named = headers.get(SENDER).and_then(|name| name.to_str().ok());
    match (named, peer) {
        (Some(name), _) if !name.is_empty() => name
            .chars()
            .take(SENDER_CHARS_MAX)
            .collect::<String>()
            .into(),
        (_, Some(Peer(address))) => address.ip().to_string().into(),
        _ => "http".into(),
    }
}

async fn received(body: Body) -> Result<axum::body::Bytes, Response> {
    let reading = to_bytes(body, LIMITS.body_bytes_max);
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let text = format!(
                "the body broke off, or has more than {} bytes; send it in several requests: {error}",
                LIMITS.body_bytes_max
            );
            Err(failure(StatusCode::PAYLOAD_TOO_LARGE, &text))
        }
        Err(_) => {
            let text = format!("the body was not there after {} s", BODY_TIMEOUT.as_secs());
            Err(failure(StatusCode::REQUEST_TIMEOUT, &text))
        }
    }
}

fn take(
    intake: &Intake,
    form: Form,
    packing: Packing,
    bytes: &[u8],
    sender: &Arc<str>,
) -> Response {
    let messages = body::unpack(bytes, packing, LIMITS)
        .and_then(|plain| body::messages(form, &plain, sender, LIMITS));
    let messages = match messages {
        Ok(messages) => messages,
        Err(error) => return cannot_split(&error),
    };
    match intake.take(messages) {
        Ok(taken) => answer(taken),
        Err(refused) => sent_away(&refused),
    }
}

fn answer(taken: Taken) -> Response {
    let rejected: Vec<_> = taken
        .rejected
        .iter()
        .map(|(line, reason)| json!({"line": line, "reason": reason}))
        .collect();
    Json(json!({
        "accepted": taken.accepted,
        "rejected": rejected.len(),
        "rejections": rejected,
    }))
    .into_response()
}

fn cannot_split(error: &body::Error) -> Response {
    let (status, byte) = match error {
        body::Error::CannotSplit { byte, .. } | body::Error::CannotUnpack { byte, .. } => {
            (StatusCode::BAD_REQUEST, Some(*byte))
        }
        body::Error::TooLarge { .. } | body::Error::TooMany { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, None)
        }
    };
    let mut said = json!({"error": error.to_string()});
    if let Some(byte) = byte {
        said["byte"] = byte.into();
    }
    (status, Json(said)).into_response()
}

fn sent_away(refused: &Refused) -> Response {
    let (status, text) = match refused {
        Refused::Full(why) => (StatusCode::INSUFFICIENT_STORAGE, why.clone()),
        Refused::Behind(why) => (StatusCode::TOO_MANY_REQUESTS, why.clone()),
        Refused::Ending => {
            let text = "this process is about to end; send the events again";
            (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
        }
        Refused::Log(error) => {
            let text = format!("the events could not be kept: {error}; send them again");
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    };
    let mut response = failure(status, &text);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    response
}

#[cfg(test)]
mod tests;
