//! A receiver of pages in any mood: it takes them, never answers, or says back what it was asked.
//!
//! It must never judge what it gets; it keeps it, with the time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use xtask::wait;

use crate::now_ms;

/// How it treats who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Answers 204.
    Healthy,
    /// Takes the request and never answers.
    Silent,
    /// Answers 400 with the path and every header that it was asked with.
    Echo,
    /// Answers with interim answers (100) without end.
    Interim,
    /// Answers 200 with a body without end.
    Endless,
}

#[derive(Debug)]
struct Shared {
    mood: Mood,
    taken: Mutex<Vec<(i64, String)>>,
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Vec<(i64, String)>> {
        // Nothing panics under this lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver on a free port of loopback. It ends with this value.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Receiver {
    /// Starts it.
    pub fn start(mood: Mood) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            mood,
            taken: Mutex::default(),
        });
        let router = Router::new()
            .fallback(take)
            .layer(DefaultBodyLimit::max(4 << 20))
            .with_state(Arc::clone(&shared));
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("no port for the receiver")?;
        let address = listener.local_addr()?;
        let pours = match mood {
            Mood::Interim => Some(("", "HTTP/1.1 100 Continue\r\n\r\n")),
            Mood::Endless => Some((
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                "a\r\n0123456789\r\n",
            )),
            Mood::Healthy | Mood::Silent | Mood::Echo => None,
        };
        match pours {
            Some((head, again)) => {
                runtime.spawn(pour(listener, Arc::clone(&shared), head, again));
            }
            None => {
                runtime.spawn(async move { axum::serve(listener, router).await });
            }
        }
        Ok(Self {
            shared,
            address,
            runtime: Some(runtime),
        })
    }

    /// Its address, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that came: when, Unix ms, and the body.
    pub fn taken(&self) -> Vec<(i64, String)> {
        self.shared.taken().clone()
    }

    /// How much came.
    pub fn count(&self) -> usize {
        self.shared.taken().len()
    }

    /// When the first body came that has this text in it.
    pub fn first(&self, text: &str) -> Option<i64> {
        let taken = self.shared.taken();
        let mut found = taken.iter().filter(|(_, body)| body.contains(text));
        found.next().map(|(at_ms, _)| *at_ms)
    }

    /// Waits for a body with this text.
    pub fn wait_for(&self, text: &str, within: Duration) -> Option<i64> {
        wait::until(text, within, || self.first(text)).ok()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Requests that are never answered would hold it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Answers every connection with `head` and then `again` for as long as anybody reads.
async fn pour(listener: TcpListener, shared: Arc<Shared>, head: &'static str, again: &'static str) {
    let many = again.repeat(1_000);
    while let Ok((mut connection, _)) = listener.accept().await {
        let (shared, many) = (Arc::clone(&shared), many.clone());
        tokio::spawn(async move {
            let mut asked = vec![0; 16 * 1024];
            let read = connection.read(&mut asked).await?;
            let text = String::from_utf8_lossy(&asked[..read]).into_owned();
            shared.taken().push((now_ms(), text));
            connection.write_all(head.as_bytes()).await?;
            loop {
                connection.write_all(many.as_bytes()).await?;
            }
            #[allow(unreachable_code, reason = "it tells the type of the error")]
            Ok::<_, std::io::Error>(())
        });
    }
}

async fn take(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response {
    let text = String::from_utf8_lossy(&body).into_owned();
    shared.taken().push((now_ms(), text));
    match shared.mood {
        Mood::Healthy => StatusCode::NO_CONTENT.into_response(),
        // The last two are poured, and never come here.
        Mood::Silent | Mood::Interim | Mood::Endless => std::future::pending().await,
        Mood::Echo => {
            let path = uri.path();
            let decoded = path.trim_start_matches('/');
            let told = format!("no route for {uri}; path {path:?}; last {decoded}");
            (StatusCode::BAD_REQUEST, told).into_response()
        }
    }
}
