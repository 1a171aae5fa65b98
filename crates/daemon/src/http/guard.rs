//! The guard: who may ask, and what every answer tells the browser.
//!
//! It must never log or echo a token, and takes none from an address: addresses end up in logs
//! and histories.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::door::{Class, Slot};
use super::page::Seated;
use super::server::Context;
use super::shape::{busy, failure};

/// The screen and its parts hold no data: who has no token yet must be able to load them, to be
/// asked for it.
const ALWAYS_OPEN: [&str; 8] = [
    "/",
    "/screen.css",
    "/screen.js",
    "/chart.js",
    "/words.js",
    "/icon.svg",
    "/-/healthy",
    "/-/ready",
];

/// Where events are handed in.
const EVENTS: &str = "/api/v1/events";

const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// Lets a request through, or answers it.
pub(super) async fn guard(
    State(context): State<Arc<Context>>,
    request: Request,
    next: Next,
) -> Response {
    let is_sender = request.uri().path() == EVENTS;
    let mut response = match refuse(&context, request.uri(), request.headers()) {
        // What is refused takes no seat: the answer is small, and the connection waits again.
        Some(refused) => refused,
        None => seated(&context, request, next).await,
    };
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    if is_sender
        && !response.status().is_success()
        && let Some(intake) = &context.shown.intake
    {
        intake.refusals().request(response.status().as_u16());
    }
    response
}

/// Answers a request in a seat of its class, which is held until the answer is handed over.
async fn seated(context: &Arc<Context>, request: Request, next: Next) -> Response {
    let class = class(context, request.uri(), request.headers());
    let slot = request.extensions().get::<Arc<Slot>>().cloned();
    let Some(seat) = context.door.seat(slot, class) else {
        return match class {
            Class::Receiving | Class::Intake => too_many(),
            Class::Live => failure(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many screens are open; close one, or ask /api/v1/alerts now and then",
            ),
            _ => busy(
                StatusCode::SERVICE_UNAVAILABLE,
                "too much is being asked at once; ask again",
            ),
        };
    };
    let response = next.run(request).await;
    response.map(|body| Body::new(Seated { body, _seat: seat }))
}

/// The seats of senders are taken.
pub(super) fn too_many() -> Response {
    busy(
        StatusCode::TOO_MANY_REQUESTS,
        "too many are sending at once; send this again later",
    )
}

/// What a request that was let through is.
fn class(context: &Context, uri: &Uri, headers: &HeaderMap) -> Class {
    match uri.path() {
        "/-/healthy" | "/-/ready" => Class::Health,
        "/metrics" => Class::Scrape,
        EVENTS => Class::Receiving,
        "/api/v1/live" => Class::Live,
        _ => match &context.shown.token {
            Some(token) if carries(headers, token.expose()) => Class::Operator,
            _ => Class::Anonymous,
        },
    }
}

fn refuse(context: &Context, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    if is_foreign(context, headers) {
        return Some(failure(
            StatusCode::FORBIDDEN,
            "pages of other sites are answered nothing",
        ));
    }
    if uri.path() == EVENTS {
        return refuse_sender(context, uri, headers);
    }
    let Some(token) = &context.shown.token else {
        return (context.is_loopback && !is_local(uri, headers)).then(|| {
            failure(
                StatusCode::FORBIDDEN,
                "this address is served to this machine alone: ask for localhost or 127.0.0.1",
            )
        });
    };
    let path = uri.path();
    let is_open = ALWAYS_OPEN.contains(&path) || (path == "/metrics" && context.shown.metrics_open);
    if is_open || carries(headers, token.expose()) {
        return None;
    }
    Some(unauthorized())
}

fn unauthorized() -> Response {
    let mut refused = failure(
        StatusCode::UNAUTHORIZED,
        "a token is needed: send the header Authorization: Bearer <token>",
    );
    refused
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refused
}

/// Whoever hands events in carries the token for that, which is good for nothing else. Without one
/// this machine alone may.
fn refuse_sender(context: &Context, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    if let Some(token) = &context.shown.intake_token {
        return (!carries(headers, token.expose())).then(unauthorized);
    }
    if !context.is_loopback {
        return Some(unauthorized());
    }
    (!is_local(uri, headers)).then(|| {
        failure(
            StatusCode::FORBIDDEN,
            "events are taken from this machine alone: ask for localhost or 127.0.0.1",
        )
    })
}

/// Whether a browser asks for a page of another site. It names the site with whatever is sent to
/// another, and with what opens a stream; the screen's own requests name where it was loaded from.
fn is_foreign(context: &Context, headers: &HeaderMap) -> bool {
    let own = headers.get(header::HOST);
    let is_own =
        |host: &str| own.is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(host.as_bytes()));
    let is_public = |origin: &str| {
        let public = context.shown.public_url.as_deref();
        let public = public.and_then(|url| reqwest::Url::parse(url).ok());
        let origin = reqwest::Url::parse(origin).ok();
        let both = public.zip(origin);
        both.is_some_and(|(public, origin)| public.origin() == origin.origin())
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    origins.any(|origin| {
        let origin = origin.to_str().ok();
        let named = origin.and_then(|origin| Some((origin, origin.split_once("://")?.1)));
        !named
            .is_some_and(|(origin, host)| is_local_host(host) || is_own(host) || is_public(origin))
    })
}

/// Whether the request carries the token. Takes as long for a wrong one as for the right one.
pub(super) fn carries(headers: &HeaderMap, token: &str) -> bool {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return false;
    };
    let Some((scheme, given)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer")
        && !token.is_empty()
        && bool::from(given.trim().as_bytes().ct_eq(token.as_bytes()))
}

/// Whether the caller asked for this machine by name. A foreign page whose name was made to
/// resolve to 127.0.0.1 asks for its own name.
fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let asked = uri.authority().map(|authority| authority.as_str());
    host.to_str().is_ok_and(is_local_host) && asked.is_none_or(is_local_host)
}

fn is_local_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // The colons of a bracketed address are its own.
        Some((name, port)) if !port.ends_with(']') => {
            if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return false;
            }
            name
        }
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|local| name.eq_ignore_ascii_case(local))
}

#[cfg(test)]
mod tests {
    use super::is_local_host;

    #[test]
    fn only_names_of_this_machine_are_local() {
        let local = [
            "localhost",
            "LocalHost:8686",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8686",
        ];
        for host in local {
            assert!(is_local_host(host), "{host} was refused");
        }
        let foreign = [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com:8686",
            "localhost:80@example.com",
            "localhost:",
            "localhost:x",
            "[::2]:80",
            "::1",
            "10.0.0.1",
        ];
        for host in foreign {
            assert!(!is_local_host(host), "{host} was taken");
        }
    }
}
