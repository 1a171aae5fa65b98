//! `load --to`: files of events to a daemon, over HTTP.
//!
//! Owns a batch's form, its retries and whose line a rejection is about. It ends only when the
//! daemon has said of every batch that it is kept: sending one again changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fenghuo_intake::Message;
use fenghuo_notify::{Secret, SecretSource};
use serde::Deserialize;

use crate::clock;

/// A daemon that is away, full or behind is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(600);
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How often it is told that no answer has come.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// Bytes of an answer that are shown where it is no yes.
const SHOWN_BYTES: usize = 300;

/// What a daemon answers to a batch.
#[derive(Debug, Deserialize)]
struct Answer {
    rejections: Vec<Rejection>,
}

#[derive(Debug, Deserialize)]
struct Rejection {
    line: usize,
    reason: String,
}

/// A daemon that takes events.
pub struct Remote {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    url: String,
    token: Option<Secret>,
}

impl Remote {
    /// The daemon at an address such as `http://localhost:8686`; the token is in a file.
    pub fn new(to: &str, token_file: Option<&Path>) -> anyhow::Result<Self> {
        let token = token_file.map(|path| SecretSource::File(path.to_owned()).read_line());
        let token = token
            .transpose()
            .map_err(|problem| anyhow::anyhow!("--token-file: {problem}"))?;
        let client = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("an HTTP client")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        Ok(Self {
            runtime,
            client,
            url: format!("{}/api/v1/events", to.trim_end_matches('/')),
            token,
        })
    }

    /// Hands events in; gives those that were refused, with the reason, by their place.
    pub fn post(&self, messages: &[Message]) -> anyhow::Result<BTreeMap<usize, String>> {
        let (content_type, body) = body(messages);
        let began = clock::Watch::start();
        loop {
            let (status, text) = match self.runtime.block_on(self.answered(content_type, &body)) {
                // The server may have said again what it was sent.
                Ok((status, text)) => (status, self.quoted(text)),
                Err(error) => (0, self.quoted(format!("{error:#}"))),
            };
            let why = match status {
                200 => {
                    let answer: Answer = serde_json::from_str(&text)
                        .with_context(|| format!("{}: {}", self.url, cut(&text)))?;
                    let refused = answer.rejections.into_iter();
                    return Ok(refused
                        .map(|of| (of.line.saturating_sub(1), of.reason))
                        .collect());
                }
                0 => text,
                408 | 429 | 500..=599 => format!("{status}: {}", cut(&text)),
                _ => bail!("{}: {status}: {}", self.url, cut(&text)),
            };
            if began.elapsed() > PATIENCE {
                bail!("{}: {why}", self.url);
            }
            tracing::warn!(why, "the events are sent again");
            clock::wait(AGAIN_AFTER);
        }
    }

    fn quoted(&self, text: String) -> String {
        match &self.token {
            Some(token) => token.redact(text),
            None => text,
        }
    }

    /// Posts, and says that it waits while it does.
    async fn answered(
        &self,
        content_type: &str,
        body: &Arc<[u8]>,
    ) -> anyhow::Result<(u16, String)> {
        let mut posting = std::pin::pin!(self.try_post(content_type, body));
        loop {
            match tokio::time::timeout(TOLD_EVERY, posting.as_mut()).await {
                Ok(answered) => return answered,
                Err(_) => tracing::warn!(to = self.url, "no answer yet"),
            }
        }
    }

    async fn try_post(
        &self,
        content_type: &str,
        body: &Arc<[u8]>,
    ) -> anyhow::Result<(u16, String)> {
        let mut request = self.client.post(&self.url);
        request = request.header("content-type", content_type);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.body(body.to_vec()).send().await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await?))
    }
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN_BYTES);
    end.map_or(text, |(end, _)| &text[..end])
}

/// The events as one body: those of one file are of one form.
fn body(messages: &[Message]) -> (&'static str, Arc<[u8]>) {
    let is_json = messages
        .first()
        .is_some_and(|message| message.content_type == "application/json");
    let mut body = Vec::new();
    for message in messages {
        if is_json {
            body.extend_from_slice(&message.value);
            body.push(b'\n');
        } else {
            // Each behind its length, seven bits a byte, the lowest first.
            let mut length = message.value.len();
            while length >= 0x80 {
                body.push(length as u8 | 0x80);
                length >>= 7;
            }
            body.push(length as u8);
            body.extend_from_slice(&message.value);
        }
    }
    let content_type = match is_json {
        true => "application/x-ndjson",
        false => "application/x-protobuf",
    };
    (content_type, body.into())
}
