//! How a request reaches a receiver: over HTTP, or in a test to a script.
//!
//! Owns the HTTP client and its limits. Never follows a redirect (a signed body must not travel to
//! where nobody signed it for), and never lets a URL into an error: it may be the secret.

use std::future::Future;
use std::pin::Pin;

use reqwest::Url;

pub use crate::retry::Answer;

/// Bytes of an answer that are read; the rest is of no use to anybody.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

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
    client: reqwest::Client,
}

impl Http {
    /// A client that trusts the system's certificates and honours its proxy settings.
    pub fn new() -> Result<Self, NoAnswer> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("fenghuo/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| NoAnswer(told(error)))?;
        Ok(Self { client })
    }
}

impl Transport for Http {
    fn post(&self, request: Request) -> Posting<'_> {
        Box::pin(async move {
            let mut sending = self
                .client
                .post(request.url)
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(request.body);
            for (name, value) in request.headers {
                sending = sending.header(name, value);
            }
            let mut response = sending
                .send()
                .await
                .map_err(|error| NoAnswer(told(error)))?;
            let retry_after = response.headers().get(reqwest::header::RETRY_AFTER);
            let retry_after = retry_after
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            let mut body = Vec::new();
            // The status is the answer; a body that breaks off changes nothing about it.
            while body.len() < ANSWER_BYTES_MAX
                && let Ok(Some(chunk)) = response.chunk().await
            {
                let room = ANSWER_BYTES_MAX - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer {
                status: response.status().as_u16(),
                retry_after,
                body,
            })
        })
    }
}

/// An error and its causes, without the URL.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
