//! A relay of TCP connections that can fall silent or close: a network that fails, on any machine
//! and without rights.
//!
//! What was sent into silence comes through when it ends, as it does on a network where TCP sends
//! again. It must never change a byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const BUFFER_BYTES: usize = 64 * 1024;

/// What the relay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It passes everything on.
    Open,
    /// It passes nothing on and tells nobody.
    Silent,
    /// It closes what is open and whatever comes.
    Closed,
}

/// A relay on a free port. It ends with this value.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    target: Arc<AtomicU16>,
    line: watch::Sender<Line>,
    _runtime: Runtime,
}

impl Relay {
    /// Starts one that closes whatever comes until it has a target.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("no port for a relay")?;
        let port = listener.local_addr()?.port();
        let target = Arc::new(AtomicU16::new(0));
        let (line, told) = watch::channel(Line::Open);
        let to = Arc::clone(&target);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, Arc::clone(&to), told.clone()));
            }
        });
        Ok(Self {
            port,
            target,
            line,
            _runtime: runtime,
        })
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes connections on to this port of loopback from now on.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    /// Does this from now on.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn relay(client: TcpStream, target: Arc<AtomicU16>, line: watch::Receiver<Line>) {
    let mut opened = line.clone();
    if !open(&mut opened).await {
        return;
    }
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, target.load(Ordering::Relaxed)));
    // Where nothing listens, the client is told so by a connection that ends.
    let Ok(server) = TcpStream::connect(to).await else {
        return;
    };
    // What is small and waits for its answer is not held back.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // One direction that ends, ends the other.
    tokio::select! {
        () = pump(from_client, to_server, line.clone()) => {}
        () = pump(from_server, to_client, line) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        tokio::select! {
            read = from.read(&mut buffer) => {
                let Ok(bytes @ 1..) = read else { return };
                if !open(&mut line).await || to.write_all(&buffer[..bytes]).await.is_err() {
                    return;
                }
            }
            changed = line.changed() => {
                if changed.is_err() || !open(&mut line).await {
                    return;
                }
            }
        }
    }
}

/// Waits out a silence; `false` where the line is closed.
async fn open(line: &mut watch::Receiver<Line>) -> bool {
    match line.wait_for(|line| *line != Line::Silent).await {
        Ok(line) => *line == Line::Open,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> u16 {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 64];
                    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                        stream.write_all(&buffer[..bytes]).unwrap();
                    }
                });
            }
        });
        port
    }

    #[test]
    fn what_was_sent_into_silence_comes_when_it_ends_and_a_closed_line_ends_connections() {
        let relay = Relay::start().unwrap();
        relay.lead_to(echo());
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).unwrap();
        let mut answer = [0; 3];
        stream.write_all(b"one").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"one");

        relay.set(Line::Silent);
        stream.write_all(b"two").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let nothing = stream.read_exact(&mut answer).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(None).unwrap();
        relay.set(Line::Open);
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"two");

        relay.set(Line::Closed);
        assert!(matches!(stream.read(&mut answer), Ok(0) | Err(_)));
        let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).unwrap();
        assert!(matches!(refused.read(&mut answer), Ok(0) | Err(_)));
    }
}
