//! Connections that keep the listener waiting, against the listener itself: whoever means well is
//! answered all the same.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::http::server::serve_within;

const GET_HEALTH: &[u8] =
    b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// Short enough for a test, in the same proportions.
fn bounds() -> Bounds {
    Bounds {
        connections_max: 64,
        head: Duration::from_secs(2),
        write_stall: Duration::from_secs(1),
        body_stall: Duration::from_millis(500),
        body: Duration::from_secs(2),
        patience: Duration::from_millis(100),
        ..Bounds::default()
    }
}

struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn start(bounds: Bounds) -> Self {
        Self::with(bounds, shown()).await
    }

    async fn with(bounds: Bounds, shown: Shown) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let server = tokio::spawn(serve_within(listener, Arc::new(shown), bounds, shutdown));
        Self {
            address,
            stop,
            server,
        }
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// What comes until the connection ends.
    async fn ask(&self, bytes: &[u8]) -> String {
        rest(&mut self.send(bytes).await).await
    }

    async fn is_healthy(&self) -> bool {
        let asked = tokio::time::timeout(Duration::from_secs(5), self.ask(GET_HEALTH)).await;
        asked.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has ended, too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn with_intake() -> Shown {
    let mut shown = shown();
    shown.intake = Some(Arc::new(crate::http::events::tests::open_intake()));
    shown
}

#[tokio::test]
async fn health_is_answered_beside_connections_that_ask_nothing() {
    let served = Served::start(bounds()).await;
    let mut silent = Vec::new();
    for _ in 0..3 * bounds().connections_max {
        silent.push(served.send(b"GET /").await);
    }
    assert!(served.is_healthy().await);
    served.end().await;
}

#[tokio::test]
async fn health_is_answered_beside_answers_that_nobody_reads() {
    let served = Served::start(bounds()).await;
    let mut unread = Vec::new();
    // Pipelined, so that the buffers of the kernel are full at last.
    let request = "GET /screen.js HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(200);
    for _ in 0..bounds().connections_max {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        // Whoever made room for another gets an error here.
        let _ = stream.try_write(request.as_bytes());
        stream.flush().await.unwrap();
        unread.push(stream);
        if unread.len() % 16 == 0 {
            assert!(served.is_healthy().await, "beside {}", unread.len());
        }
    }
    assert!(served.is_healthy().await);
    served.end().await;
}

#[tokio::test]
async fn senders_that_send_nothing_are_cut_off_and_hold_nothing() {
    let served = Served::with(bounds(), with_intake()).await;
    let head =
        "POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let told = format!("{head}content-length: 16000000\r\n\r\n");
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(served.send(chunked.as_bytes()).await);
        silent.push(served.send(told.as_bytes()).await);
    }
    let body = "{}\n";
    let honest = format!(
        "{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = served.ask(honest.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for mut stream in silent {
        let answer = rest(&mut stream).await;
        let is_cut = answer.is_empty() || answer.starts_with("HTTP/1.1 408");
        assert!(is_cut, "{answer}");
    }
    served.end().await;
}

#[tokio::test]
async fn more_silent_senders_than_there_are_connections_keep_no_sender_out() {
    // With patience alone a sender would be kept out for as long as that.
    let patient = Bounds {
        body_stall: Duration::from_secs(600),
        body: Duration::from_secs(600),
        patience: Duration::from_secs(600),
        ..bounds()
    };
    let served = Served::with(patient, with_intake()).await;
    let head =
        "POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let told = format!("{head}content-length: 16000000\r\n\r\n");
    let body = "{}\n";
    let honest = format!(
        "{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut silent = Vec::new();
    for number in 0..2 * patient.connections_max {
        let silently = if number % 2 == 0 { &chunked } else { &told };
        silent.push(served.send(silently.as_bytes()).await);
        if number % 16 == 15 {
            let answer = served.ask(honest.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{number}: {answer}");
        }
    }
    served.end().await;
}

#[tokio::test]
async fn a_body_that_is_told_too_large_is_refused_at_once() {
    let slow = Bounds {
        body_stall: Duration::from_secs(600),
        body: Duration::from_secs(600),
        ..bounds()
    };
    let served = Served::with(slow, with_intake()).await;
    for length in ["99000000000", "16777217", "99999999999999999999999999"] {
        let request = format!(
            "POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {length}\r\n\r\n"
        );
        let answer = served.ask(request.as_bytes()).await;
        let is_refused = answer.starts_with("HTTP/1.1 413") || answer.starts_with("HTTP/1.1 400");
        assert!(is_refused, "{length}: {answer}");
    }
    served.end().await;
}

#[tokio::test]
async fn malformed_chunks_are_a_bad_request() {
    let served = Served::with(bounds(), with_intake()).await;
    for chunks in ["zz\r\n{}\r\n0\r\n\r\n", "-1\r\n{}\r\n", "2\r\n{}xx"] {
        let request = format!(
            "POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
             transfer-encoding: chunked\r\n\r\n{chunks}"
        );
        let answer = served.ask(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{chunks:?}: {answer}");
    }
    served.end().await;
}

#[tokio::test]
async fn a_screen_finds_room_beside_streams_that_nobody_reads() {
    let served = Served::start(bounds()).await;
    let live = b"GET /api/v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let head = "HTTP/1.1 200 OK";
    let mut open = Vec::new();
    for _ in 0..bounds().seats(Class::Live) {
        let mut stream = served.send(live).await;
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin[..], head.as_bytes());
        open.push(stream);
    }
    // They read, so nobody is sent away for another.
    let mut refused = served.send(live).await;
    let mut begin = [0; 12];
    refused.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 503");
    assert!(served.is_healthy().await);
    drop(open);
    served.end().await;
}

#[tokio::test]
async fn other_forms_of_a_request_are_answered_or_refused() {
    let served = Served::start(bounds()).await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "x".repeat(64 << 10)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
        "x: y\r\n".repeat(2_000)
    );
    let cases = [
        (
            "GET /-/healthy HTTP/1.0\r\nhost: localhost\r\n\r\n",
            "HTTP/1.0 200",
        ),
        (
            "HEAD / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200",
        ),
        (&long, "HTTP/1.1 431"),
        (&many, "HTTP/1.1 431"),
    ];
    for (request, expected) in cases {
        let answer = served.ask(request.as_bytes()).await;
        assert!(answer.starts_with(expected), "{}: {answer}", &request[..20]);
    }
    assert!(served.is_healthy().await);
    served.end().await;
}
