//! `flood`: many senders hand events in over HTTP, as fast as they are taken, or at a steady pace
//! with pages in between.
//!
//! It starts the daemon on an empty folder and measures until the last event is judged. Beside it,
//! in the same run, the same bodies go to a server that only receives and parses them: what the
//! machine, the senders and the decoder leave to be had. The senders make their bodies by writing
//! digits into prepared ones, so that they cost little of what is measured.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures the real machine by its clock"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use fenghuo_benches::machine::{
    Paged, Result, cpu_s, delays_ms, digits, get, judged, now_ms, percentile, receiver, rfc3339,
};
use fenghuo_intake::body::{Form, Limits, messages};

/// Hand events in over HTTP and measure.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The daemon's binary.
    #[arg(long, default_value = "target/release/fenghuo")]
    binary: PathBuf,
    /// How long events are sent.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connections that send at a time.
    #[arg(long, default_value_t = 8)]
    senders: usize,
    /// Events in a request.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Events a second, all senders together; without it, as fast as they are taken.
    #[arg(long)]
    rate: Option<u64>,
    /// Orders below their floor, one every 100 ms, to be paged.
    #[arg(long, default_value_t = 0)]
    pages: usize,
    /// In the end kill the daemon, and start it again on what it left.
    #[arg(long)]
    reopen: bool,
}

/// Digits of the number that makes an event's ids its own.
const DIGITS: usize = 12;
const MARK: &str = "############";
const TIME_MARK: &str = "@@@@@@@@@@@@@@@@@@@@@@@@";

/// A prepared body, and where its numbers and times stand.
#[derive(Clone)]
struct Template {
    body: Vec<u8>,
    numbers: Vec<usize>,
    times: Vec<usize>,
}

impl Template {
    fn new(events: usize, seed: u64) -> Self {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut text = String::new();
        for _ in 0..events {
            let meta = |what: &str, source: &str| {
                format!(
                    r#"{{"meta":{{"event_id":"{what}-{MARK}","source":"{source}","shop_id":"tmall-42","occurred_at":"{TIME_MARK}"}},"#
                )
            };
            // Some skus are sold more than others.
            let sku = next(10_000).min(next(10_000)).min(next(10_000));
            match next(100) {
                0..80 => {
                    text += &meta("o", "erp");
                    text += &format!(
                        r#""order":{{"type":"PAID","order_id":"O{MARK}","channel":"app","lines":[{{"sku_id":"sku-{sku}","quantity":{},"pack_units":1,"unit_price":{{"currency_code":"CNY","minor_units":{}}}}}]}}}}"#,
                        1 + next(3),
                        1_000 + next(90_000)
                    );
                }
                80..90 => {
                    text += &meta("p", "tms");
                    text += &format!(
                        r#""courier":{{"status":"LABEL_CREATED","parcel_id":"P{MARK}","courier_id":"SF","warehouse_id":"WH-{}","origin_region":"BJ","dest_region":"SH"}}}}"#,
                        next(5)
                    );
                }
                90..97 => {
                    text += &meta("s", "wms");
                    text += &format!(
                        r#""inventory":{{"type":"SNAPSHOT","sku_id":"sku-{sku}","location_id":"WH-1","levels":{{"on_hand":{}}}}}}}"#,
                        1 + next(50)
                    );
                }
                _ => {
                    text += &meta("r", "crm");
                    text += &format!(
                        r#""feedback":{{"kind":"REVIEW","feedback_id":"F{MARK}","sku_id":"sku-{sku}","rating":{}}}}}"#,
                        1 + next(5)
                    );
                }
            }
            text.push('\n');
        }
        let all = |mark: &str| text.match_indices(mark).map(|(at, _)| at).collect();
        Self {
            numbers: all(MARK),
            times: all(TIME_MARK),
            body: text.into_bytes(),
        }
    }

    /// Writes numbers from `first` on, and the time now.
    fn fill(&mut self, first: u64) {
        let time = rfc3339(now_ms());
        for at in &self.times {
            self.body[*at..*at + TIME_MARK.len()].copy_from_slice(&time);
        }
        for (count, at) in self.numbers.iter().enumerate() {
            digits(&mut self.body[*at..*at + DIGITS], first + count as u64);
        }
    }
}

/// One connection that posts bodies and waits for each answer.
struct Poster {
    reader: BufReader<TcpStream>,
    head: String,
}

impl Poster {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
            head: format!(
                "POST /api/v1/events HTTP/1.1\r\nhost: {address}\r\n\
                 content-type: application/x-ndjson\r\ncontent-length: "
            ),
        })
    }

    /// Posts a body; the status of the answer, and what it says.
    fn post(&mut self, body: &[u8]) -> Result<(u16, String)> {
        let head = format!("{}{}\r\n\r\n", self.head, body.len());
        let stream = self.reader.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("no answer: {line:?}"))?;
        let mut length = 0;
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.reader.read_exact(&mut answer)?;
        Ok((status, String::from_utf8(answer)?))
    }
}

#[derive(Default)]
struct Sent {
    events: AtomicU64,
    bytes: AtomicU64,
    waits: AtomicU64,
    stop: AtomicBool,
}

/// Sends from all connections until the time is over.
fn send(address: SocketAddr, arguments: &Arguments, sent: &Arc<Sent>) -> Result<Duration> {
    let began = Instant::now();
    let number = Arc::new(AtomicU64::new(1));
    let threads: Vec<_> = (0..arguments.senders)
        .map(|sender| {
            let (sent, number, arguments) =
                (Arc::clone(sent), Arc::clone(&number), arguments.clone());
            std::thread::spawn(move || -> Result<()> {
                let mut poster = Poster::connect(address)?;
                let mut templates: Vec<Template> = (0..4)
                    .map(|of| Template::new(arguments.batch, (sender * 4 + of) as u64 + 1))
                    .collect();
                let mut round = 0;
                while began.elapsed() < Duration::from_secs(arguments.seconds)
                    && !sent.stop.load(Ordering::Relaxed)
                {
                    if let Some(rate) = arguments.rate {
                        let due = began.elapsed().as_secs_f64() * rate as f64;
                        if sent.events.load(Ordering::Relaxed) as f64 > due {
                            std::thread::sleep(Duration::from_millis(2));
                            continue;
                        }
                    }
                    let template = &mut templates[round % 4];
                    round += 1;
                    let count = template.numbers.len() as u64;
                    template.fill(number.fetch_add(count, Ordering::Relaxed));
                    loop {
                        match poster.post(&template.body)? {
                            (200, answer) if answer.contains("\"rejected\":0") => break,
                            (429, _) => {
                                sent.waits.fetch_add(1, Ordering::Relaxed);
                                std::thread::sleep(Duration::from_millis(50));
                            }
                            (status, answer) => {
                                let answer: String = answer.chars().take(300).collect();
                                return Err(format!("{status}: {answer}").into());
                            }
                        }
                    }
                    sent.events
                        .fetch_add(arguments.batch as u64, Ordering::Relaxed);
                    let bytes = template.body.len() as u64;
                    sent.bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a sender panicked")??;
    }
    Ok(began.elapsed())
}

/// A server that receives bodies and parses them, and keeps nothing.
fn parse_only() -> Result<SocketAddr> {
    const LIMITS: Limits = Limits {
        body_bytes_max: 16 << 20,
        events_max: 50_000,
        event_bytes_max: 1 << 20,
    };
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> Result<()> {
                stream.set_nodelay(true)?;
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                loop {
                    let mut length = 0;
                    loop {
                        line.clear();
                        if reader.read_line(&mut line)? == 0 {
                            return Ok(());
                        }
                        let header = line.trim_end();
                        if header.is_empty() {
                            break;
                        }
                        if let Some(value) = header.strip_prefix("content-length: ") {
                            length = value.parse()?;
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body)?;
                    let parsed = messages(Form::JsonLines, &body, &"flood".into(), LIMITS)?;
                    let accepted = parsed.iter().filter(|message| message.is_ok()).count();
                    let rejected = parsed.len() - accepted;
                    let answer = format!("{{\"accepted\":{accepted},\"rejected\":{rejected}}}");
                    let length = answer.len();
                    write!(
                        reader.get_mut(),
                        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}"
                    )?;
                }
            });
        }
    });
    Ok(address)
}

/// The daemon on an empty folder; it ends with this value.
struct Daemon {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start(binary: &PathBuf, hook: Option<u16>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("flood-")
            .tempdir_in("target")?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut config = format!(
            "http.listen = \"{address}\"\nlog.kind = \"embedded\"\n\
             [ingest.duplicates]\nentries_max = 1000000\n"
        );
        if let Some(port) = hook {
            config += &format!(
                "[[channel]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n\
                 unsigned = true\nrate_per_minute = 60000\nburst = 1000\n\
                 [[route]]\nchannels = [\"hook\"]\n"
            );
        }
        std::fs::write(folder.path().join("fenghuo.toml"), config)?;
        let child = spawn(binary, &folder)?;
        let daemon = Self {
            child,
            address,
            folder,
        };
        daemon.until("/-/healthy")?;
        Ok(daemon)
    }

    /// Waits until a path answers that all is well.
    fn until(&self, path: &str) -> Result<()> {
        for _ in 0..6_000 {
            if get(self.address, path).is_ok_and(|answer| answer.contains("\"ok\":true")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("{path} does not say yes; see target/flood.log").into())
    }

    /// Kills it and starts it again: how long until it answers, and until it is ready.
    fn reopen(&mut self, binary: &PathBuf) -> Result<(Duration, Duration)> {
        self.child.kill()?;
        self.child.wait()?;
        let began = Instant::now();
        self.child = spawn(binary, &self.folder)?;
        self.until("/-/healthy")?;
        let answers = began.elapsed();
        self.until("/-/ready")?;
        Ok((answers, began.elapsed()))
    }

    /// Blocks that the folder takes on the disk, in bytes.
    fn disk_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let path = self.folder.path().join("fenghuo-data/log.redb");
        std::fs::metadata(path).map_or(0, |of| of.blocks() * 512)
    }
}

fn spawn(binary: &PathBuf, folder: &tempfile::TempDir) -> Result<Child> {
    let log = std::fs::File::create("target/flood.log")?;
    let config = folder.path().join("fenghuo.toml");
    Ok(Command::new(std::fs::canonicalize(binary)?)
        .args(["run", "--log", "warn", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends an order below its floor every 100 ms; gives the times at which each was begun to be sent.
fn dips(address: SocketAddr, count: usize) -> Result<Paged> {
    let mut poster = Poster::connect(address)?;
    let meta = |id: &str| {
        let time = String::from_utf8_lossy(&rfc3339(now_ms())).into_owned();
        format!(
            r#"{{"meta":{{"event_id":"{id}","source":"dips","shop_id":"tmall-42","occurred_at":"{time}"}},"#
        )
    };
    let floors: String = (0..count)
        .map(|number| {
            let meta = meta(&format!("f-{number}"));
            format!(
                "{meta}\"catalog\":{{\"type\":\"UPSERT\",\"sku_id\":\"dip-{number:04}\",\"pack_units\":1,\
                 \"price_floor\":{{\"currency_code\":\"CNY\",\"minor_units\":1800}}}}}}\n"
            )
        })
        .collect();
    poster.post(floors.as_bytes())?;
    std::thread::sleep(Duration::from_secs(3));
    let mut sent = Vec::new();
    for number in 0..count {
        let meta = meta(&format!("d-{number}"));
        let order = format!(
            "{meta}\"order\":{{\"type\":\"PAID\",\"order_id\":\"D{number}\",\"lines\":[{{\"sku_id\":\
             \"dip-{number:04}\",\"quantity\":1,\"pack_units\":1,\"unit_price\":{{\"currency_code\":\
             \"CNY\",\"minor_units\":180}}}}]}}}}\n"
        );
        sent.push((format!("dip-{number:04}"), Instant::now()));
        poster.post(order.as_bytes())?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(sent)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.rate.is_none() {
        let bound = Arc::new(Sent::default());
        let shorter = Arguments {
            seconds: (arguments.seconds / 4).max(3),
            ..arguments.clone()
        };
        let took = send(parse_only()?, &shorter, &bound)?;
        let events = bound.events.load(Ordering::Relaxed);
        println!(
            "received and parsed alone: {:.0} k events/s",
            events as f64 / took.as_secs_f64() / 1e3
        );
    }
    let (port, paged) = receiver()?;
    let mut daemon = Daemon::start(&arguments.binary, (arguments.pages > 0).then_some(port))?;
    let sent = Arc::new(Sent::default());
    let pages = arguments.pages;
    let address = daemon.address;
    let dipping = (pages > 0).then(|| std::thread::spawn(move || dips(address, pages)));
    let began = Instant::now();
    let sending = send(daemon.address, &arguments, &sent)?;
    let events = sent.events.load(Ordering::Relaxed);
    let dipped = match dipping {
        Some(thread) => thread.join().map_err(|_| "the dips panicked")??,
        None => Vec::new(),
    };
    let all = events + 2 * pages as u64;
    while judged(daemon.address)? < all {
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    println!(
        "{events} events of {:.0} bytes in batches of {}, {} senders: acknowledged at {:.0} k/s, \
         taken into account at {:.0} k/s; asked to wait {} times",
        sent.bytes.load(Ordering::Relaxed) as f64 / events.max(1) as f64,
        arguments.batch,
        arguments.senders,
        events as f64 / sending.as_secs_f64() / 1e3,
        events as f64 / took.as_secs_f64() / 1e3,
        sent.waits.load(Ordering::Relaxed)
    );
    println!(
        "daemon: {:.2} CPU s a million events, {:.1} bytes an event on the disk",
        cpu_s(daemon.child.id()) / events.max(1) as f64 * 1e6,
        daemon.disk_bytes() as f64 / events.max(1) as f64
    );
    if arguments.reopen {
        let (answers, ready) = daemon.reopen(&arguments.binary)?;
        println!(
            "killed and started again: answers after {:.2} s, ready after {:.2} s",
            answers.as_secs_f64(),
            ready.as_secs_f64()
        );
    }
    if pages > 0 {
        std::thread::sleep(Duration::from_secs(2));
        let paged = paged.lock().map_err(|_| "the receiver panicked")?;
        let delays = delays_ms(&dipped, &paged);
        let at = |percent| percentile(&delays, percent);
        println!(
            "{} of {pages} pages; from POST to page: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            delays.len(),
            at(50),
            at(99),
            at(100)
        );
    }
    Ok(())
}
