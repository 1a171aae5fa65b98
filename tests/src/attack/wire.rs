//! HTTP by hand over a socket, for what no honest client does: heads that never end, answers that
//! nobody reads, lengths that are not true.
//!
//! It must never wait without a bound, and never connect beyond loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 96 << 20;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code; 0 where none came.
    pub status: u16,
    /// Head and body as they came.
    pub text: String,
    /// From connecting to the end of the answer.
    pub took: Duration,
}

/// A connection that gives up reading and writing after `within`.
pub fn connect(to: SocketAddr, within: Duration) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, within).context("connecting")?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    Ok(stream)
}

/// Sends bytes on a connection of their own and reads until the other side closes or `within` is
/// over.
pub fn exchange(to: SocketAddr, bytes: &[u8], within: Duration) -> Answer {
    let began = Instant::now();
    let mut text = Vec::new();
    if let Ok(mut stream) = connect(to, within) {
        // A server that refuses early closes while this is written: its answer still counts.
        let _ = stream.write_all(bytes);
        let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    Answer {
        status: status_of(&text),
        text,
        took: began.elapsed(),
    }
}

/// Asks for a path on a connection of its own.
pub fn get(to: SocketAddr, path: &str, within: Duration) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    exchange(to, head.as_bytes(), within)
}

/// The bytes of a POST of events.
pub fn post_bytes(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn status_of(text: &str) -> u16 {
    let code = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_none_is_made_up() {
        assert_eq!(status_of("HTTP/1.1 204 No Content\r\n\r\n"), 204);
        assert_eq!(status_of(""), 0);
        assert_eq!(status_of("HTTP/1.1 "), 0);
    }
}
