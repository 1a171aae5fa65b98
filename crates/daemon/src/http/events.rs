//! `POST /api/v1/events`: the intake over HTTP.
//!
//! Owns what a request may be and how its answer looks. The answer comes after the events are
//! durable; a bad line is told beside the good ones, and a body that cannot be split is refused
//! whole. It must never hold more of a request than the bounds, nor wait for a slow sender for ever.

mod incoming;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fenghuo_intake::body::{self, Form, Limits, Packing, Room as _};
use fenghuo_intake::{Message, Rejected};
use serde_json::json;

use super::budget::Reserved;
use super::door::{Class, Slot};
use super::guard::too_many;
use super::lane::Place;
use super::server::{Context, Peer};
use super::shape::{busy, failure};
use crate::intake::{Intake, Refused, Taken};
use incoming::Incoming;

/// Bounds of one request.
const LIMITS: Limits = Limits {
    body_bytes_max: 16 * 1024 * 1024,
    events_max: 50_000,
    event_bytes_max: 1024 * 1024,
};
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
    let slot = slot.map(|Extension(slot)| slot);
    let mut incoming = Incoming::new(&context, told(request.headers()));
    if let Err(refused) = incoming
        .receive(request.into_body(), &context.bounds, slot.as_deref())
        .await
    {
        return *refused;
    }
    if let Some(slot) = &slot
        && !context.door.moves(slot, Class::Intake)
    {
        return too_many();
    }
    let request = Sent {
        form,
        packing,
        sender,
        peer: slot.map_or(IpAddr::from([127, 0, 0, 1]), |slot| slot.peer()),
        intake,
    };
    take(&context, request, incoming).await
}

/// A request, without its body.
#[derive(Clone)]
struct Sent {
    form: Form,
    packing: Packing,
    sender: Arc<str>,
    peer: IpAddr,
    intake: Arc<Intake>,
}

/// Takes what came: a small body in the lane of small ones. A large one is taken in its own lane,
/// and so is one that turns out to be none of the small ones when it is unpacked.
async fn take(context: &Context, request: Sent, incoming: Incoming) -> Response {
    let incoming = match incoming.is_small() {
        false => incoming,
        true => match take_small(context, &request, incoming).await {
            Ok(response) => return response,
            Err(incoming) => incoming,
        },
    };
    let mut incoming = incoming;
    if let Err(refused) = request.intake.check_large() {
        return sent_away(&refused);
    }
    if !incoming.becomes_large() {
        return *no_room();
    }
    let cost = incoming.bytes.len() as u64;
    let Ok(place) = context.large_lane.enter(request.peer, cost).await else {
        return *no_room();
    };
    let taken = tokio::task::spawn_blocking(move || {
        // Held until the events are taken, too: appending many of them keeps others waiting.
        let place = place;
        let Incoming { room, bytes, .. } = incoming;
        match read(&request, bytes, room, &place) {
            Ok((messages, room)) => taken(&request, messages, room),
            Err(error) => cannot_split(&error),
        }
    });
    taken.await.unwrap_or_else(|_| broken())
}

/// Takes a small body, or gives it back where it is none.
async fn take_small(
    context: &Context,
    request: &Sent,
    incoming: Incoming,
) -> Result<Response, Incoming> {
    let cost = incoming.bytes.len() as u64;
    let Ok(place) = context.small_lane.enter(request.peer, cost).await else {
        return Ok(*no_room());
    };
    let (form, packing, sender) = (request.form, request.packing, Arc::clone(&request.sender));
    let limits = Limits {
        body_bytes_max: context.bounds.small_bytes_max,
        ..LIMITS
    };
    let room = context.small_bodies.empty();
    let read = tokio::task::spawn_blocking(move || {
        let read = read_small(form, packing, &incoming.bytes, &sender, limits, room);
        drop(place);
        (read, incoming)
    });
    match read.await {
        Ok((Some(Ok((messages, room))), incoming)) => {
            drop(incoming);
            let Ok(place) = context.taking_lane.enter(request.peer, cost).await else {
                return Ok(*no_room());
            };
            let request = request.clone();
            let taken = tokio::task::spawn_blocking(move || {
                let _place = place;
                taken(&request, messages, room)
            });
            Ok(taken.await.unwrap_or_else(|_| broken()))
        }
        Ok((Some(Err(error)), _)) => Ok(cannot_split(&error)),
        Ok((None, incoming)) => Err(incoming),
        Err(_) => Ok(broken()),
    }
}

/// Hands events over; room is held for them until they are.
fn taken(request: &Sent, messages: Vec<Result<Message, Rejected>>, _room: Reserved) -> Response {
    match request.intake.take(messages, &request.sender) {
        Ok(taken) => answer(&taken),
        Err(refused) => sent_away(&refused),
    }
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

/// Events, and the room that is held for them.
type Held = (Vec<Result<Message, Rejected>>, Reserved);

/// Unpacks a small body and reads its events; nothing where it is none, or finds no room among the
/// small ones.
fn read_small(
    form: Form,
    packing: Packing,
    bytes: &[u8],
    sender: &Arc<str>,
    limits: Limits,
    mut room: Reserved,
) -> Option<Result<Held, body::Error>> {
    // What cannot be unpacked may only want a larger window, and is told in the other lane.
    let plain = body::unpack(bytes, packing, limits, &mut room).ok()?;
    match body::messages_within(form, &plain, sender, limits, &mut room) {
        Ok(messages) => Some(Ok((messages, room))),
        Err(body::Error::NoRoom) => None,
        Err(error) => Some(Err(error)),
    }
}

/// Unpacks a body and reads its events. The body is gone then, and room is held for the events.
fn read(
    request: &Sent,
    bytes: Vec<u8>,
    mut room: Reserved,
    place: &Place,
) -> Result<Held, body::Error> {
    let received_bytes = bytes.capacity();
    let plain = body::unpack(&bytes, request.packing, LIMITS, &mut room)?;
    let (bytes, plain_bytes) = match plain {
        std::borrow::Cow::Borrowed(_) => (bytes, received_bytes),
        std::borrow::Cow::Owned(plain) => {
            place.charge(plain.len().saturating_sub(bytes.len()) as u64);
            drop(bytes);
            room.give(received_bytes);
            let plain_bytes = plain.capacity();
            (plain, plain_bytes)
        }
    };
    let (form, sender) = (request.form, &request.sender);
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
        body::Error::TooLarge { .. }
        | body::Error::TooMany { .. }
        | body::Error::Inflates { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
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
        Refused::Lost(why) => {
            let text = format!(
                "nothing is taken: {why}; take fenghuo log backup now, and send these events again \
                 to the daemon that runs on it"
            );
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    };
    busy(status, &text)
}

#[cfg(test)]
pub(super) mod tests;
