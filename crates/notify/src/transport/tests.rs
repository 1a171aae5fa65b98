//! Receivers that never come to an end, and such as do.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::connection::BYTES_MAX;
use super::*;

/// What a receiver writes: once, and then again and again.
#[derive(Clone, Copy)]
struct Flood(&'static str, &'static str);

/// Starts a receiver that writes without an end to whoever sends something; says how much it got
/// rid of.
async fn flooding(flood: Flood) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(flood_one(stream, flood, Arc::clone(&counted)));
        }
    });
    (url.parse().unwrap(), written)
}

async fn flood_one(mut stream: TcpStream, flood: Flood, written: Arc<AtomicUsize>) {
    let mut request = [0; 64 * 1024];
    if !matches!(stream.read(&mut request).await, Ok(1..)) {
        return;
    }
    let _ = stream.write_all(flood.0.as_bytes()).await;
    let block = flood.1.repeat(16 * 1024 / flood.1.len());
    while let Ok(more) = stream.write(block.as_bytes()).await {
        written.fetch_add(more, Ordering::Relaxed);
    }
}

fn request(url: Url) -> Request {
    Request {
        url,
        headers: Vec::new(),
        body: "{}".to_owned(),
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_given_up_after_a_bounded_number_of_bytes() {
    let floods = [
        Flood("", "HTTP/1.1 100 Continue\r\n\r\n"),
        Flood("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
        Flood("HTTP/1.1 200 OK\r\n", "a: b\r\n"),
        Flood("HTTP/1.1 200 OK\r\na: ", "b"),
        Flood("", "\r\n"),
        Flood("", "x"),
    ];
    for flood in floods {
        let (url, written) = flooding(flood).await;
        let began = Instant::now();
        let posting = Http::new().unwrap();
        let posting = timeout(Duration::from_secs(20), posting.post(request(url)));
        let outcome = posting.await.expect("it is given up by itself");
        assert!(outcome.is_err(), "{:?} gave {outcome:?}", flood.1);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", flood.1);
        // Beside what was read, what the sockets of both sides hold.
        let written = written.load(Ordering::Relaxed);
        assert!(written < 16 << 20, "{:?}: {written} bytes", flood.1);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_changes_nothing_about_the_status() {
    let head = "HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n";
    let floods = [
        Flood(head, "1\r\nx\r\n"),
        Flood(head, "1;a=b;c=d\r\nx\r\n"),
        Flood("HTTP/1.1 400 Bad Request\r\n\r\n", "x"),
    ];
    for flood in floods {
        let (url, _) = flooding(flood).await;
        let client = Http::new().unwrap();
        let posting = timeout(Duration::from_secs(5), client.post(request(url)));
        let answer = posting.await.unwrap().unwrap();
        assert_eq!(answer.status, 400);
        assert!((1..=ANSWER_BYTES_MAX).contains(&answer.body.len()));
    }
}

/// Answers every request on a connection in the same way; counts connections.
async fn answering(answer: String) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 64 * 1024];
                while matches!(stream.read(&mut request).await, Ok(1..)) {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (url.parse().unwrap(), connections)
}

#[tokio::test]
async fn a_connection_is_used_again_and_every_answer_has_its_own_bound() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    let body = "x".repeat(1_000);
    let (url, connections) = answering(format!(
        "{interim}HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{body}"
    ))
    .await;
    let client = Http::new().unwrap();
    // Together several times the bound.
    for _ in 0..4 * BYTES_MAX / (interim.len() + body.len()) {
        let answer = client.post(request(url.clone())).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 1_000));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_proxy_is_asked_where_one_is_set() {
    let (proxy, connections) = answering(
        "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n".to_owned(),
    )
    .await;
    let proxies = Arc::new(Matcher::builder().all(proxy.as_str()).build());
    let client = Http::with(
        Connector::new(Arc::clone(&proxies)).unwrap(),
        Arc::clone(&proxies),
    );
    let plain = client.post(request("http://shop.invalid/".parse().unwrap()));
    assert_eq!(plain.await.unwrap().status, 407);
    let tunnel = client.post(request("https://shop.invalid/".parse().unwrap()));
    let problem = tunnel.await.unwrap_err().to_string();
    assert!(problem.contains("proxy auth"), "{problem}");
    assert!(!problem.contains("shop.invalid"), "{problem}");
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    // Empty records of a handshake, which TLS may pass over one after another.
    let (url, written) = flooding(Flood("", "\u{16}\u{3}\u{3}\0\0")).await;
    let url = url.as_str().replace("http://", "https://");
    let client = Http::new().unwrap();
    let posting = client.post(request(url.parse().unwrap()));
    let posting = timeout(Duration::from_secs(5), posting);
    assert!(posting.await.unwrap().is_err());
    assert!(written.load(Ordering::Relaxed) < 16 << 20);
}
