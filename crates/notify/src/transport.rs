//! How a request reaches a receiver: over HTTP, or in a test to a script.
//!
//! Owns the HTTP client and its limits: what is read of one answer, its head, interim answers and TLS
//! included, is bounded. Never follows a redirect (a signed body must not travel to where nobody signed
//! it for), and never lets a URL into an error: it may be the secret.

mod connection;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes};
use hyper_util::client::legacy::Client;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use connection::{Connector, Spent};

pub use crate::retry::Answer;

/// Bytes of an answer that are read; the rest is of no use to anybody.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a connection is kept that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// What a channel wants sent: always a POST of JSON. It may hold secrets, so it has no `Debug`.
#[derive(Clone)]
pub struct Request {
    /// Where to.
    pub url: Url,
    /// Beside `content-type: application/json`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

/// No answer came; the text is for a person and contains no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// A future of [`Transport::post`].
pub type Posting<'a> = Pin<Box<dyn Future<Output = Result<Answer, NoAnswer>> + Send + 'a>>;

/// Something that can carry a request to its receiver.
pub trait Transport: Send + Sync {
    /// Sends once and waits for the answer; the caller sets the time limit.
    fn post(&self, request: Request) -> Posting<'_>;
}

/// Over HTTP.
pub struct Http {
    client: Client<Connector, Full<Bytes>>,
    proxies: Arc<Matcher>,
}

impl Http {
    /// A client that trusts the system's certificates and honours its proxy settings.
    pub fn new() -> Result<Self, NoAnswer> {
        let proxies = Arc::new(Matcher::from_system());
        let connector =
            Connector::new(Arc::clone(&proxies)).map_err(|error| NoAnswer(told(&error)))?;
        Ok(Self::with(connector, proxies))
    }

    /// HTTP/1 alone: a connection then carries one answer at a time, which can be bounded.
    fn with(connector: Connector, proxies: Arc<Matcher>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Self { client, proxies }
    }

    fn outgoing(&self, request: Request) -> Result<http::Request<Full<Bytes>>, NoAnswer> {
        // Neither error quotes what it is about.
        let unfit = |error: http::Error| NoAnswer(told(&error));
        let uri = Uri::try_from(request.url.as_str()).map_err(|error| unfit(error.into()))?;
        let proxy = match uri.scheme() == Some(&Scheme::HTTP) {
            true => self.proxies.intercept(&uri),
            // The tunnel asks for leave.
            false => None,
        };
        let mut outgoing = http::Request::post(uri)
            .header(header::ACCEPT, "*/*")
            .header(
                header::USER_AGENT,
                concat!("fenghuo/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = proxy.as_ref().and_then(Intercept::basic_auth) {
            outgoing = outgoing.header(header::PROXY_AUTHORIZATION, authorization);
        }
        for (name, value) in request.headers {
            outgoing = outgoing.header(name, value);
        }
        outgoing.body(Full::from(request.body)).map_err(unfit)
    }
}

impl Transport for Http {
    fn post(&self, request: Request) -> Posting<'_> {
        Box::pin(async move {
            let outgoing = self.outgoing(request)?;
            let sending = self.client.request(outgoing);
            let response = sending.await.map_err(|error| NoAnswer(told(&error)))?;
            let (head, mut incoming) = response.into_parts();
            let retry_after = head.headers.get(header::RETRY_AFTER);
            let retry_after = retry_after
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            let mut body = Vec::new();
            // The status is the answer; a body that breaks off changes nothing about it.
            while body.len() < ANSWER_BYTES_MAX
                && let Some(Ok(frame)) = incoming.frame().await
            {
                let chunk = frame.into_data().unwrap_or_default();
                let room = ANSWER_BYTES_MAX - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            if incoming.is_end_stream()
                && let Some(spent) = head.extensions.get::<Spent>()
            {
                spent.renew();
            }
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer {
                status: head.status.as_u16(),
                retry_after,
                body,
            })
        })
    }
}

/// An error and its causes. The client's own never quote the address.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
