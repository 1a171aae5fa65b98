//! The listener: takes connections, bounds them, and lets them end when the process does.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::http::{HeaderMap, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::Shown;
use super::live::{self, Live};

/// Connections at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 512;
/// A request's head must be in by then; an idle connection ends by then too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// After a failed accept (no file handles, mostly) the next one waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What is being answered at shutdown may take this long to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// KiB of bodies that are read and taken in at a time; beyond it senders are asked to wait.
const BODIES_KIB_MAX: usize = 128 * 1024;
/// Answers that copy large parts of the board are made this many at a time.
const HEAVY_MAX: usize = 2;

/// What every route is handed.
pub(super) struct Context {
    pub(super) shown: Arc<Shown>,
    pub(super) live: Live,
    /// Only this machine can reach the listener.
    pub(super) is_loopback: bool,
    /// Whoever makes a large answer holds one of these.
    heavy: Arc<Semaphore>,
    /// KiB of bodies that may be under way.
    bodies: Arc<Semaphore>,
    /// Turns true when the process is about to end.
    pub(super) closing: watch::Receiver<bool>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Context {
    pub(super) fn new(
        shown: Arc<Shown>,
        is_loopback: bool,
        closing: watch::Receiver<bool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shown,
            live: Live::new(),
            is_loopback,
            heavy: Arc::new(Semaphore::new(HEAVY_MAX)),
            bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX)),
            closing,
        })
    }

    /// Room for a body, by the length that is told; for as much as it may have where none is.
    pub(super) fn seat(
        &self,
        headers: &HeaderMap,
        bytes_max: usize,
    ) -> Option<OwnedSemaphorePermit> {
        let told = headers.get(header::CONTENT_LENGTH);
        let told = told.and_then(|told| told.to_str().ok()?.parse::<usize>().ok());
        let kib = told
            .unwrap_or(bytes_max)
            .min(bytes_max)
            .div_ceil(1024)
            .max(1);
        Arc::clone(&self.bodies)
            .try_acquire_many_owned(kib as u32)
            .ok()
    }

    /// Makes a large answer beside the event loop, a few at a time. `None` when the process ends.
    pub(super) async fn heavy<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Shown) -> T + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.heavy).acquire_owned().await.ok()?;
        let shown = Arc::clone(&self.shown);
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            make(&shown)
        });
        made.await.ok()
    }
}

/// Serves until `shutdown`, then lets what is being answered end.
///
/// # Errors
/// A listener beyond loopback without a token is refused.
pub async fn serve(
    listener: TcpListener,
    shown: Arc<Shown>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let is_loopback = address.ip().is_loopback();
    if !is_loopback && shown.token.is_none() {
        let text = format!(
            "{address} can be reached from other machines: give a token, or listen on 127.0.0.1"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let (close, closing) = watch::channel(false);
    let context = Context::new(shown, is_loopback, closing.clone());
    let router = super::api::router(Arc::clone(&context));
    let mut tasks = JoinSet::new();
    tasks.spawn(live::publish(context, closing.clone()));
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
            // Ended connections are let go of as they end.
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Beyond the bound the connection is dropped: the caller sees it closed.
                if let Ok(seat) = Arc::clone(&seats).try_acquire_owned() {
                    let router = router.clone().layer(Extension(Peer(peer)));
                    let closing = closing.clone();
                    tasks.spawn(async move {
                        let _seat = seat;
                        connection(stream, router, closing).await;
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    close.send_replace(true);
    let drained = async { while tasks.join_next().await.is_some() {} };
    // What does not end in time is cut off when `tasks` is dropped.
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::debug!("connections were cut off");
    }
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, mut closing: watch::Receiver<bool>) {
    // Small pushes to the screen must not wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set nodelay");
    }
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Waits until the process is about to end.
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the server is gone already.
    drop(closing.wait_for(|closing| *closing).await);
}
