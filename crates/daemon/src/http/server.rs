//! The listener: takes connections, bounds them, and lets them end when the process does.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Shown;
use super::bounds::Bounds;
use super::budget::Budget;
use super::door::{self, Door, Ticket};
use super::lane::Lane;
use super::live::{self, Live};
use super::stream::Watched;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an answer that the kernel holds for a connection.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// After a failed accept (no file handles, mostly) the next one waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What is being answered at shutdown may take this long to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Answers that read large parts of the view are made this many at a time.
const HEAVY_MAX: usize = 2;

/// What every route is handed.
pub(super) struct Context {
    pub(super) shown: Arc<Shown>,
    pub(super) bounds: Bounds,
    pub(super) live: Live,
    /// Only this machine can reach the listener.
    pub(super) is_loopback: bool,
    pub(super) door: Arc<Door>,
    /// Whoever makes a large answer holds one of these.
    pub(super) heavy: Semaphore,
    /// Whoever makes the metrics holds this: no other answer makes them wait.
    pub(super) scraping: Semaphore,
    /// Whoever unpacks and reads a small body holds a place here.
    pub(super) small_lane: Arc<Lane>,
    /// Small bodies that were read and are taken.
    pub(super) taking_lane: Arc<Lane>,
    /// Whoever unpacks, reads and takes a larger one holds a place here.
    pub(super) large_lane: Arc<Lane>,
    /// What small bodies hold.
    pub(super) small_bodies: Budget,
    /// What larger ones hold.
    pub(super) bodies: Budget,
    /// What answers hold until they are read.
    pub(super) answers: Budget,
    /// Turns true when the process is about to end.
    pub(super) closing: watch::Receiver<bool>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Context {
    pub(super) fn new(
        shown: Arc<Shown>,
        bounds: Bounds,
        is_loopback: bool,
        closing: watch::Receiver<bool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shown,
            live: Live::new(),
            is_loopback,
            door: Door::new(bounds),
            heavy: Semaphore::new(HEAVY_MAX),
            scraping: Semaphore::new(1),
            // They have seats, which are fewer.
            small_lane: Lane::new(bounds.small_parsing_max, bounds.connections_max),
            taking_lane: Lane::new(bounds.small_taking_max, bounds.connections_max),
            large_lane: Lane::new(bounds.parsing_max, bounds.parsing_waiting_max),
            small_bodies: Budget::new(bounds.small_bodies_bytes_max),
            bodies: Budget::new(bounds.bodies_bytes_max),
            answers: Budget::new(bounds.answers_bytes_max),
            bounds,
            closing,
        })
    }

    /// Makes something large beside the event loop. `None` when the process ends.
    pub(super) async fn beside<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Shown) -> T + Send + 'static,
    ) -> Option<T> {
        let shown = Arc::clone(&self.shown);
        tokio::task::spawn_blocking(move || make(&shown)).await.ok()
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
    let bounds = Bounds::default();
    let connections_max = bounds.connections_max.min(shown.connections_max);
    if connections_max < bounds.connections_max {
        tracing::warn!(
            connections_max,
            "as few files may be open, fewer connections than usual are taken at a time"
        );
    }
    let bounds = Bounds {
        connections_max,
        ..bounds
    };
    serve_within(listener, shown, bounds, shutdown).await
}

/// As [`serve`], within other bounds.
///
/// # Errors
/// As [`serve`].
pub(super) async fn serve_within(
    listener: TcpListener,
    shown: Arc<Shown>,
    bounds: Bounds,
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
    let context = Context::new(shown, bounds, is_loopback, closing.clone());
    let router = super::api::router(Arc::clone(&context));
    let mut tasks = JoinSet::new();
    tasks.spawn(live::publish(Arc::clone(&context), closing.clone()));
    // Connections inherit it: what the kernel holds for one that reads nothing is bounded too.
    if let Err(error) = SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER_BYTES) {
        tracing::debug!(%error, "the send buffer stays as it is");
    }
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
            // Ended connections are let go of as they end.
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => match context.door.enter(peer.ip()) {
                Some(ticket) => {
                    let slot = Arc::clone(&ticket.slot);
                    let router = router.clone().layer(Extension(Peer(peer)));
                    let router = router.layer(Extension(slot));
                    let closing = closing.clone();
                    tasks.spawn(connection(stream, ticket, bounds, router, closing));
                }
                // The caller sees it closed.
                None => door::count("refused", "connections"),
            },
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

async fn connection(
    stream: TcpStream,
    ticket: Ticket,
    bounds: Bounds,
    router: Router,
    mut closing: watch::Receiver<bool>,
) {
    // Small pushes to the screen must not wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set nodelay");
    }
    let slot = Arc::clone(&ticket.slot);
    let stream = Watched::new(stream, Arc::clone(&slot), bounds.write_stall);
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = slot.evicted() => return,
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
