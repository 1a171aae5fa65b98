//! `POST /api/v1/events`: the intake over HTTP.
//!
//! Owns what a request may be and how its answer looks. The answer comes after the events are
//! durable; a bad line is told beside the good ones, and a body that cannot be split is refused
//! whole. It must never hold more of a request than the bounds, nor wait for a slow sender for ever.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fenghuo_intake::body::{self, Form, Limits, Packing, Room as _};
use fenghuo_intake::{Message, Rejected};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use super::bounds::Bounds;
use super::budget::Reserved;
use super::door::Slot;
use super::server::{Context, Peer};
use super::shape::{busy, failure};
use crate::intake::{Refused, Taken};

/// Bounds of one request.
const LIMITS: Limits = Limits {
    body_bytes_max: 16 * 1024 * 1024,
    events_max: 50_000,
    event_bytes_max: 1024 * 1024,
};
/// Whoever sends fewer bytes than this within the time has not gone on.
const STEP_BYTES: usize = 1024;
/// Characters of a sender's name that are kept.
const SENDER_CHARS_MAX: usize = 100;

/// The header by which a sender names itself.
const SENDER: &str = "fenghuo-sender";

pub(super) async fn post(
    State(context): State<Arc<Context>>,
    peer: Option<Extension<Peer>>,
    slot: Option<Extension<Arc<Slot>>>,
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
    let mut incoming = Incoming {
        room: context.bodies.empty(),
        bytes: Vec::new(),
        told: told(request.headers()),
    };
    let slot = slot.map(|Extension(slot)| slot);
    if let Err(refused) = incoming
        .receive(request.into_body(), &context.bounds, slot.as_deref())
        .await
    {
        return *refused;
    }
    // An error means that the process ends.
    let Ok(parsing) = context.parsing.acquire().await else {
        return sent_away(&Refused::Ending);
    };
    let Incoming { room, bytes, .. } = incoming;
    let from = Arc::clone(&sender);
    let work = move || read(form, packing, bytes, &from, room);
    let read = tokio::task::spawn_blocking(work).await;
    drop(parsing);
    let (messages, room) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return cannot_split(&error),
        Err(_) => return broken(),
    };
    let answer = tokio::task::spawn_blocking(move || {
        let _room = room;
        match intake.take(messages, &sender) {
            Ok(taken) => answer(&taken),
            Err(refused) => sent_away(&refused),
        }
    });
    answer.await.unwrap_or_else(|_| broken())
}

fn broken() -> Response {
    let text = "the events could not be taken; send them again";
    failure(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// The length that a request tells.
fn told(headers: &HeaderMap) -> Option<usize> {
    let told = headers.get(header::CONTENT_LENGTH)?;
    // What does not fit is as good as endless.
    Some(told.to_str().ok()?.parse().unwrap_or(usize::MAX))
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

/// A body that is coming in.
struct Incoming {
    room: Reserved,
    bytes: Vec<u8>,
    /// The length that was told of it.
    told: Option<usize>,
}

impl Incoming {
    /// Reads a body to its end. Room is taken as bytes come, never for what is only told.
    async fn receive(
        &mut self,
        body: Body,
        bounds: &Bounds,
        slot: Option<&Slot>,
    ) -> Result<(), Box<Response>> {
        if self.told.is_some_and(|told| told > LIMITS.body_bytes_max) {
            return Err(too_large());
        }
        if let Some(slot) = slot {
            slot.awaits();
        }
        let received = timeout(bounds.body, self.read(body, bounds.body_stall, slot)).await;
        if let Some(slot) = slot {
            slot.goes_on();
        }
        received.unwrap_or_else(|_| Err(too_slow(bounds.body)))
    }

    async fn read(
        &mut self,
        body: Body,
        stall: Duration,
        slot: Option<&Slot>,
    ) -> Result<(), Box<Response>> {
        let mut parts = body.into_data_stream();
        let (mut deadline, mut step_bytes) = (Instant::now() + stall, 0);
        loop {
            let Ok(part) = timeout_at(deadline, parts.next()).await else {
                return Err(too_slow(stall));
            };
            let part = match part {
                None => return Ok(()),
                Some(Ok(part)) => part,
                Some(Err(error)) => return Err(no_body(&error)),
            };
            self.add(&part)?;
            step_bytes += part.len();
            if step_bytes >= STEP_BYTES {
                (deadline, step_bytes) = (Instant::now() + stall, 0);
                if let Some(slot) = slot {
                    slot.progressed();
                }
            }
        }
    }

    fn add(&mut self, part: &[u8]) -> Result<(), Box<Response>> {
        let length = self.bytes.len() + part.len();
        if length > LIMITS.body_bytes_max {
            return Err(too_large());
        }
        let held = self.bytes.capacity();
        if length > held {
            let most = self.told.unwrap_or(LIMITS.body_bytes_max);
            let wanted = (2 * held).min(most).max(length);
            // While it is copied there are two of it.
            if !self.room.take(wanted) {
                return Err(no_room());
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
            self.room.give(held + wanted - self.bytes.capacity());
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }
}

/// Unpacks a body and reads its events. The body is gone then, and room is held for the events.
fn read(
    form: Form,
    packing: Packing,
    bytes: Vec<u8>,
    sender: &Arc<str>,
    mut room: Reserved,
) -> Result<(Vec<Result<Message, Rejected>>, Reserved), body::Error> {
    let received_bytes = bytes.capacity();
    let plain = body::unpack(&bytes, packing, LIMITS, &mut room)?;
    let (bytes, plain_bytes) = match plain {
        std::borrow::Cow::Borrowed(_) => (bytes, received_bytes),
        std::borrow::Cow::Owned(plain) => {
            drop(bytes);
            room.give(received_bytes);
            let plain_bytes = plain.capacity();
            (plain, plain_bytes)
        }
    };
    let messages = body::messages_within(form, &bytes, sender, LIMITS, &mut room)?;
    drop(bytes);
    room.give(plain_bytes);
    Ok((messages, room))
}

/// An answer after which nothing more is read from the connection.
fn last(mut response: Response) -> Box<Response> {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    Box::new(response)
}

fn too_large() -> Box<Response> {
    let text = format!(
        "the body has more than {} bytes; send it in several requests",
        LIMITS.body_bytes_max
    );
    last(failure(StatusCode::PAYLOAD_TOO_LARGE, &text))
}

fn too_slow(time: Duration) -> Box<Response> {
    let text = format!("too little of the body came in {} s", time.as_secs_f64());
    last(failure(StatusCode::REQUEST_TIMEOUT, &text))
}

fn no_room() -> Box<Response> {
    let text = "too much is being sent at once; send this again later";
    last(sent_away(&Refused::Behind(text.to_owned())))
}

/// The body broke off, or is not cut as HTTP wants it.
fn no_body(error: &axum::Error) -> Box<Response> {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        why = error.to_string();
        source = error.source();
    }
    let text = format!("the body broke off, or its chunks are malformed: {why}");
    last(failure(StatusCode::BAD_REQUEST, &text))
}

fn answer(taken: &Taken) -> Response {
    let rejections: Vec<_> = taken
        .rejections
        .iter()
        .map(|(line, reason)| json!({"line": line, "reason": reason}))
        .collect();
    Json(json!({
        "accepted": taken.accepted,
        "rejected": taken.rejected,
        "rejections": rejections,
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
        body::Error::NoRoom => return sent_away(&Refused::Behind(error.to_string())),
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
    busy(status, &text)
}

#[cfg(test)]
pub(super) mod tests;
