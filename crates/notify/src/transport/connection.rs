//! Connections to receivers, of which a bounded number of bytes is read for one answer.
//!
//! Owns TCP, TLS and the machine's proxy settings. What counts is what the network delivers, whatever
//! it stands for: interim answers, header lines, chunks, a handshake. A library that reads on for as
//! long as something comes would else be kept busy by a receiver that never ends, and with it the
//! thread that others need.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service;

/// Bytes that are read for one answer: the handshake, all heads, and the body with its framing.
pub(super) const BYTES_MAX: usize = 64 * 1024;
/// Connecting and the handshake; who waits for a connection mostly gives up before.
const CONNECT_MAX: Duration = Duration::from_secs(30);

type Error = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// How much of a connection was read since its last answer was complete.
#[derive(Clone, Default)]
pub(super) struct Spent(Arc<AtomicUsize>);

impl Spent {
    /// An answer was read to its end: what comes now belongs to another.
    pub(super) fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A connection that ends with an error where too much is read.
pub(super) struct Bounded {
    stream: TcpStream,
    spent: Spent,
    to_proxy: bool,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.spent.0.load(Ordering::Relaxed) > BYTES_MAX {
            let problem = format!("the answer is longer than {} KiB", BYTES_MAX / 1024);
            return Poll::Ready(Err(io::Error::other(problem)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        self.spent.0.fetch_add(read, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connection for Bounded {
    fn connected(&self) -> Connected {
        let connected = self.stream.connected().proxy(self.to_proxy);
        connected.extra(self.spent.clone())
    }
}

/// Opens connections without TLS.
#[derive(Clone)]
struct Tcp {
    connector: HttpConnector,
    to_proxy: bool,
}

impl Tcp {
    fn new(to_proxy: bool) -> Self {
        let mut connector = HttpConnector::new();
        // Whether it is to be https is decided by who asks for the connection.
        connector.enforce_http(false);
        connector.set_nodelay(true);
        Self {
            connector,
            to_proxy,
        }
    }
}

impl Service<Uri> for Tcp {
    type Response = TokioIo<Bounded>;
    type Error = Error;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, to_proxy) = (self.connector.call(to), self.to_proxy);
        Box::pin(async move {
            Ok(TokioIo::new(Bounded {
                stream: connecting.await?.into_inner(),
                spent: Spent::default(),
                to_proxy,
            }))
        })
    }
}

/// A way to a receiver, direct or by the machine's proxy, without the receiver's own TLS.
#[derive(Clone)]
struct Way {
    direct: Tcp,
    proxy: HttpsConnector<Tcp>,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Way {
    type Response = MaybeHttpsStream<TokioIo<Bounded>>;
    type Error = Error;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.direct.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.intercept(&to) else {
            let connecting = self.direct.call(to);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) });
        };
        if to.scheme() != Some(&http::uri::Scheme::HTTPS) {
            return self.proxy.call(proxy.uri().clone());
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.proxy.clone());
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Box::pin(async move { Ok(tunnel.call(to).await?) })
    }
}

/// Opens connections to receivers.
#[derive(Clone)]
pub(super) struct Connector(HttpsConnector<Way>);

impl Connector {
    /// Trusts the system's certificates.
    pub(super) fn new(proxies: Arc<Matcher>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        // Where there are none, receivers without TLS are reached all the same.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self::with(proxies, tls))
    }

    pub(super) fn with(proxies: Arc<Matcher>, tls: ClientConfig) -> Self {
        let https = |tls| {
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
            builder.https_or_http().enable_http1()
        };
        let proxy = https(tls.clone()).wrap_connector(Tcp::new(true));
        let direct = Tcp::new(false);
        let way = Way {
            direct,
            proxy,
            proxies,
        };
        Self(https(tls).wrap_connector(way))
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<MaybeHttpsStream<TokioIo<Bounded>>>;
    type Error = Error;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        // Nobody may be waiting any more, so that a handshake which never ends has to end here.
        let connecting = tokio::time::timeout(CONNECT_MAX, self.0.call(to));
        Box::pin(async move {
            connecting
                .await
                .map_err(|_| Error::from("no connection in time"))?
        })
    }
}
