//! Connections that hold a place and do nothing with it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::probe::Probe;
use super::receivers::below_floor;
use super::site::{HEALTH_MS_MAX, PAGE_MS_MAX, Site};
use super::{Attack, Finding, Settings, pass, wire};
use crate::http;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "unread-answers",
        done: "600 connections ask for large answers again and again and read none",
        expected: EXPECTED,
        on_kafka: false,
        in_short: true,
        play: |settings| hold(settings, "unread-answers", unread_answers),
    },
    Attack {
        name: "slow-heads",
        done: "600 connections send a head a byte at a time",
        expected: EXPECTED,
        on_kafka: false,
        in_short: false,
        play: |settings| hold(settings, "slow-heads", slow_heads),
    },
    Attack {
        name: "idle-senders",
        done: "16 senders announce chunks and send nothing, 32 more announce 16 MiB and send a byte",
        expected: EXPECTED,
        on_kafka: false,
        in_short: true,
        play: |settings| hold(settings, "idle-senders", idle_senders),
    },
    Attack {
        name: "false-lengths",
        done: "64 senders announce 99 GB",
        expected: "413 at once, without a byte of body; and the same as of the others at the door",
        on_kafka: false,
        in_short: true,
        play: false_lengths,
    },
    Attack {
        name: "unread-streams",
        done: "150 connections open /api/v1/live and read nothing of it",
        expected: EXPECTED,
        on_kafka: false,
        in_short: false,
        play: |settings| hold(settings, "unread-streams", unread_streams),
    },
];

const EXPECTED: &str = "from fresh connections meanwhile: health p99 <= 100 ms, events accepted within 1 s, \
                        an operator's /api/v1/alerts and a stream within 1 s, pages p99 <= 2 s";

/// The token of senders and of operators.
const SENDER: &str = "sender-0123456789abcdef";
const OPERATOR: &str = "operator-0123456789abcdef";
const CONNECTS_WITHIN: Duration = Duration::from_secs(2);
const ANSWERS_WITHIN: Duration = Duration::from_secs(8);
const HONEST_MS_MAX: u128 = 1_000;

fn unread_answers(to: SocketAddr) -> Vec<TcpStream> {
    // Those who have no token get at least the screen.
    let asked: String = (0..64)
        .map(|number| {
            let path = [
                "/screen.js",
                "/",
                "/chart.js",
                "/api/v1/readings?limit=10000",
            ][number % 4];
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        })
        .collect();
    held(to, 600, asked.as_bytes())
}

fn slow_heads(to: SocketAddr) -> Vec<TcpStream> {
    held(to, 600, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")
}

fn idle_senders(to: SocketAddr) -> Vec<TcpStream> {
    let head = |length: &str| {
        format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {SENDER}\r\n\
             Content-Type: application/x-ndjson\r\n{length}\r\n\r\n"
        )
    };
    let mut streams = held(to, 16, head("Transfer-Encoding: chunked").as_bytes());
    let announced = head("Content-Length: 16777216") + "{";
    streams.extend(held(to, 32, announced.as_bytes()));
    streams
}

fn unread_streams(to: SocketAddr) -> Vec<TcpStream> {
    let asked = format!(
        "GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {OPERATOR}\r\n\r\n"
    );
    held(to, 150, asked.as_bytes())
}

/// Connections on which these bytes were sent, and nothing was read.
fn held(to: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = wire::connect(to, CONNECTS_WITHIN).ok()?;
        stream
            .set_write_timeout(Some(Duration::from_millis(50)))
            .ok()?;
        // Refused ones are dropped by the daemon; that is its right.
        let _ = stream.write_all(bytes);
        Some(stream)
    };
    (0..count).filter_map(connect).collect()
}

fn site(settings: &Settings, name: &str) -> Result<Site> {
    let mut site = Site::new(settings, name)?;
    site.installation.write("operator", OPERATOR)?;
    site.installation.write("sender", SENDER)?;
    let keys = "http.token_file = \"operator\"\nintake.token_file = \"sender\"\n";
    site.configure(keys, &site.pager_alone())?;
    site.start()?;
    Ok(site)
}

fn hold(
    settings: &Settings,
    name: &str,
    open: fn(SocketAddr) -> Vec<TcpStream>,
) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = site(settings, name)?;
    let to = site.address()?;
    let mut streams = open(to);
    finding.measure(format!("{} connections held", streams.len()));
    let probe = Probe::start(to)?;
    for round in 0..settings.pick(2, 8) {
        honest(&mut finding, &site, round)?;
        // A byte more keeps a slow head alive.
        for stream in &mut streams {
            let _ = stream.write_all(b"x");
        }
        pass(Duration::from_millis(settings.pick(300, 1_500)));
    }
    let health = probe.finish();
    finding.measure(format!("health {health}"));
    finding.expect(
        health.percentile(99) <= HEALTH_MS_MAX,
        format!("health took {health} (5000 is never)"),
    );
    finding.expect(site.is_alive(), "the daemon died");
    drop(streams);
    Ok(finding)
}

/// What honest people do meanwhile, each from a connection of their own.
fn honest(finding: &mut Finding, site: &Site, round: usize) -> Result<()> {
    let to = site.address()?;
    let sku = format!("door-{round}");
    let events: Vec<Value> = below_floor(&sku, 1);
    let body: String = events.iter().map(|event| format!("{event}\n")).collect();
    let token = format!("Authorization: Bearer {SENDER}\r\n");
    let sent_ms = crate::now_ms();
    let taken = wire::exchange(
        to,
        &wire::post_bytes(&token, body.as_bytes()),
        ANSWERS_WITHIN,
    );
    finding.expect(
        taken.status == 200 && taken.took.as_millis() <= HONEST_MS_MAX,
        format!(
            "round {round}: honest events answered {} after {:?}",
            taken.status, taken.took
        ),
    );
    let alerts = format!(
        "GET /api/v1/alerts HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Authorization: Bearer {OPERATOR}\r\n\r\n"
    );
    let answer = wire::exchange(to, alerts.as_bytes(), ANSWERS_WITHIN);
    finding.expect(
        answer.status == 200 && answer.took.as_millis() <= HONEST_MS_MAX,
        format!(
            "round {round}: an operator's alerts answered {} after {:?}",
            answer.status, answer.took
        ),
    );
    let live = alerts.replace("/api/v1/alerts", "/api/v1/live");
    let stream = wire::exchange(to, live.as_bytes(), Duration::from_millis(900));
    finding.expect(
        stream.status == 200,
        format!(
            "round {round}: an operator's stream answered {}",
            stream.status
        ),
    );
    if taken.status == 200 {
        let came = site
            .pager
            .wait_for(&format!("\"{sku}-0\""), Duration::from_secs(5));
        let took = came.map(|at_ms| at_ms - sent_ms);
        finding.expect(
            took.is_some_and(|ms| ms <= PAGE_MS_MAX as i64),
            format!("round {round}: its page took {took:?} ms"),
        );
    }
    Ok(())
}

fn false_lengths(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = site(settings, "false-lengths")?;
    let to = site.address()?;
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {SENDER}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: 99000000000\r\n\r\n"
    );
    let answer = wire::exchange(to, head.as_bytes(), ANSWERS_WITHIN);
    finding.measure(format!(
        "99 GB answered {} after {:?}",
        answer.status, answer.took
    ));
    finding.expect(
        answer.status == 413 && answer.took.as_millis() <= HONEST_MS_MAX,
        format!(
            "99 GB were answered {} after {:?}",
            answer.status, answer.took
        ),
    );
    let malformed = head.replace("Content-Length: 99000000000", "Transfer-Encoding: chunked");
    let malformed = wire::exchange(
        to,
        (malformed + "zz\r\n{}\r\n0\r\n\r\n").as_bytes(),
        ANSWERS_WITHIN,
    );
    finding.measure(format!("a chunk of zz bytes answered {}", malformed.status));
    finding.expect(
        malformed.status == 400,
        format!("a malformed chunk was answered {}", malformed.status),
    );
    let streams = held(to, 64, head.as_bytes());
    honest(&mut finding, &site, 0)?;
    drop(streams);
    let health = http::get(&site.daemon()?.url("/-/healthy"), &[])?;
    finding.expect(
        health.status == 200,
        format!("health answers {}", health.status),
    );
    Ok(finding)
}
