//! What the programs that measure the daemon from outside share: the machine's clock, the daemon's
//! HTTP, processes' CPU time, and a receiver of pages.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures the real machine by its clock"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

/// Whatever goes wrong ends the program that measures.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the ids of skus begin with that are ordered below their floor; four digits follow.
pub const DIP: &str = "dip-";

/// Bytes of such an id.
const DIP_BYTES: usize = DIP.len() + 4;

/// Ticks of the kernel's CPU accounting in a second, as Linux fixes them for user space.
const TICKS: f64 = 100.0;

/// Now, Unix ms.
pub fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_millis() as i64
}

/// `2026-11-11T12:00:00.000Z`, by the civil calendar (Howard Hinnant, "chrono-compatible low-level
/// date algorithms").
pub fn rfc3339(ms: i64) -> [u8; 24] {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (s, milli) = (of_day / 1_000, of_day % 1_000);
    let mut bytes = *b"0000-00-00T00:00:00.000Z";
    digits(&mut bytes[0..4], year as u64);
    digits(&mut bytes[5..7], month as u64);
    digits(&mut bytes[8..10], day as u64);
    digits(&mut bytes[11..13], (s / 3_600) as u64);
    digits(&mut bytes[14..16], (s / 60 % 60) as u64);
    digits(&mut bytes[17..19], (s % 60) as u64);
    digits(&mut bytes[20..23], milli as u64);
    bytes
}

/// Fills `into` with the last digits of a number.
pub fn digits(into: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// What a path of the daemon answers.
///
/// # Errors
/// When it does not.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    Ok(body.unwrap_or_default())
}

/// Events that the daemon has taken into account, by its own metrics.
///
/// # Errors
/// When it does not answer.
pub fn judged(address: SocketAddr) -> Result<u64> {
    let metrics = get(address, "/metrics")?;
    let rows = metrics
        .lines()
        .filter(|line| line.starts_with("fenghuo_events_total{"));
    let counts = rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(counts.sum::<f64>() as u64)
}

/// CPU time that a process has used so far, in s; 0 where there is no such process.
pub fn cpu_s(process: u32) -> f64 {
    ticks(process, [11, 12]) / TICKS
}

/// CPU time that this process's children used that have ended, in s.
pub fn children_cpu_s() -> f64 {
    ticks(std::process::id(), [13, 14]) / TICKS
}

/// The sum of fields of `/proc/<pid>/stat`, counted from behind the command's name.
fn ticks(process: u32, fields: [usize; 2]) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let behind = stat.rsplit(')').next().unwrap_or("");
    let all: Vec<&str> = behind.split_whitespace().collect();
    let tick = |at: usize| all.get(at).and_then(|ticks| ticks.parse::<f64>().ok());
    fields.into_iter().filter_map(tick).sum()
}

/// Which sku was paged when, or ordered when.
pub type Paged = Vec<(String, Instant)>;

/// A receiver of pages on loopback: its port, and the skus of which it was told that they fire.
///
/// # Errors
/// When there is no port.
pub fn receiver() -> Result<(u16, Arc<Mutex<Paged>>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let paged = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&paged);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let told = Arc::clone(&told);
            std::thread::spawn(move || receive(stream, &told));
        }
    });
    Ok((port, paged))
}

fn receive(stream: TcpStream, told: &Mutex<Paged>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let at = Instant::now();
        write!(reader.get_mut(), "HTTP/1.1 204 No Content\r\n\r\n")?;
        let text = String::from_utf8_lossy(&body);
        if text.contains("alert.firing")
            && let Some(found) = text.find(DIP)
            && let Some(sku) = text.get(found..found + DIP_BYTES)
            && let Ok(mut told) = told.lock()
        {
            told.push((sku.to_owned(), at));
        }
    }
}

/// From when each was ordered to when its page came, in ms, ascending; what was not paged is not in
/// it.
pub fn delays_ms(ordered: &Paged, paged: &Paged) -> Vec<f64> {
    let of = |(sku, at): &(String, Instant)| {
        let first = paged.iter().find(|(of, _)| of == sku)?;
        Some(first.1.saturating_duration_since(*at).as_secs_f64() * 1e3)
    };
    let mut delays: Vec<f64> = ordered.iter().filter_map(of).collect();
    delays.sort_by(f64::total_cmp);
    delays
}

/// The value below which so many of a hundred lie; NaN where there is none.
pub fn percentile(ascending: &[f64], percent: usize) -> f64 {
    let at = (ascending.len() * percent).div_ceil(100).max(1) - 1;
    ascending.get(at).copied().unwrap_or(f64::NAN)
}
