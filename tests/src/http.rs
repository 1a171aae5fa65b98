//! A small HTTP client that waits for its answers.
//!
//! It must never follow a redirect or retry: tests see what the server said first.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::runtime::Runtime;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

struct Client {
    runtime: Runtime,
    client: reqwest::Client,
}

static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let client = reqwest::Client::builder()
        .timeout(ANSWER_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build();
    match (runtime, client) {
        (Ok(runtime), Ok(client)) => Client { runtime, client },
        (Err(error), _) => panic!("no runtime for HTTP: {error}"),
        (_, Err(error)) => panic!("no client for HTTP: {error}"),
    }
});

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The whole body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body)
            .with_context(|| format!("no JSON, status {}: {}", self.status, self.body))
    }
}

/// Asks for `url` with these headers. Waits, so it must not be called within a runtime.
pub fn get(url: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let Client { runtime, client } = &*CLIENT;
    let mut request = client.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    runtime.block_on(async {
        let response = request.send().await.context("no answer")?;
        let status = response.status().as_u16();
        let body = response.text().await.context("half an answer")?;
        Ok(Answer { status, body })
    })
}

/// Posts `body` to `url` with these headers. Waits, so it must not be called within a runtime.
pub fn post(url: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Result<Answer> {
    let Client { runtime, client } = &*CLIENT;
    let mut request = client.post(url).body(body.as_ref().to_vec());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    runtime.block_on(async {
        let response = request.send().await.context("no answer")?;
        let status = response.status().as_u16();
        let body = response.text().await.context("half an answer")?;
        Ok(Answer { status, body })
    })
}

/// Percent-encoding of all but letters and digits, for a parameter.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_encoded_whole() {
        assert_eq!(encoded("a b/ü&"), "a%20b%2F%C3%BC%26");
    }
}
