//! Taking events in: from HTTP and from files into the shop's topics.
//!
//! Owns where an event and a refused line go, whose events they are, and when no more can be
//! taken. What it has said yes to is durable. It must never judge what an event means: whether it
//! is a duplicate, or late, ingest says.

use std::collections::BTreeMap;
use std::sync::Arc;

use fenghuo_engine::View;
use fenghuo_engine::record::topic;
use fenghuo_event::{Reason, Stream};
use fenghuo_intake::{Message, Rejected};
use fenghuo_log::{Append, Error, Log, TopicPartition};

use crate::clock;
use crate::config::Config;
use crate::identity::Identity;
use crate::load::partition_for;
use crate::measured::Holdings;
use crate::refusals::Refusals;
use crate::worker::{Course, Writer};

/// The `content-type` of a dead letter that is a row of a CSV file.
pub const ROW_CONTENT_TYPE: &str = "text/csv";

/// Bytes of a refused line that are kept.
const DEAD_LETTER_BYTES_MAX: usize = 900 * 1024;

/// Records that ingest may have yet to read: with more nothing is taken, so that who sends waits
/// and not who is to be woken.
const BEHIND_MAX: u64 = 1_000_000;

/// In a folder, what is being read may have been taken so long ago: with more, likewise. How many
/// records that are follows from what they cost, which one order of many lines decides alone. Who
/// sends little waits last.
const DELAY_MS_MAX: i64 = 2_000;
const LARGE_DELAY_MS_MAX: i64 = 1_000;

/// Rejected events of a request whose reasons are told; the others are only counted.
pub const REJECTIONS_MAX: usize = 100;

/// An event as it lies in a topic of so many partitions.
pub fn event(message: Message, topic: &Arc<str>, partitions: u32) -> Append {
    let partition = partition_for(message.key.as_bytes(), partitions);
    Append {
        to: TopicPartition::new(Arc::clone(topic), partition),
        key: Some(message.key.into_bytes()),
        value: Some(message.value),
        headers: vec![("content-type", message.content_type.into())],
    }
}

/// A refused line as it lies in the dead letters.
pub fn dead_letter(rejected: Rejected) -> Append {
    let (reason, detail) = split(&rejected.reason);
    let mut headers = vec![
        ("reason", reason.into()),
        ("detail", detail.into()),
        ("file", rejected.origin.file.as_bytes().to_vec()),
        ("line", rejected.origin.line.to_string().into_bytes()),
    ];
    let mut bytes = rejected.bytes;
    let mut whole = bytes.len() as u64;
    if let Some(row) = rejected.row {
        // What is kept of a row is no message, and not all of it.
        headers.push(("content-type", ROW_CONTENT_TYPE.into()));
        headers.push(("columns", row.columns.to_string().into_bytes()));
        whole = row.bytes;
    }
    bytes.truncate(DEAD_LETTER_BYTES_MAX);
    if whole != bytes.len() as u64 {
        headers.push(("bytes", whole.to_string().into_bytes()));
    }
    Append {
        to: TopicPartition::new(topic::DEAD_LETTER, 0),
        key: None,
        value: Some(bytes),
        headers,
    }
}

/// What decoding says begins with a countable word; what a mapping says does not.
fn split(reason: &str) -> (&str, &str) {
    match reason.split_once(": ") {
        Some((reason, detail)) if is_word(reason) => (reason, detail),
        _ => ("row", reason),
    }
}

/// The word by which a rejection is counted.
fn countable(rejected: &Rejected) -> &'static str {
    let (word, _) = split(&rejected.reason);
    let of_events = Reason::ALL.iter().map(|reason| reason.as_str());
    let mut known = of_events.chain(["other_shop", "other_currency", "wrong_topic"]);
    known.find(|known| *known == word).unwrap_or("row")
}

fn is_word(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// What became of events that were handed in.
#[derive(Debug, Default)]
pub struct Taken {
    /// Events that are in the log now, durably.
    pub accepted: u64,
    /// Events that are not; they are in the dead letters.
    pub rejected: u64,
    /// Line and reason of the first of them, up to [`REJECTIONS_MAX`].
    pub rejections: Vec<(u64, String)>,
}

/// Why nothing was taken.
#[derive(Debug)]
pub enum Refused {
    /// The disk has no room.
    Full(String),
    /// The stages have to catch up first.
    Behind(String),
    /// The process is about to end.
    Ending,
    /// The log could not be written.
    Log(Error),
    /// What is written is not there after a restart.
    Lost(String),
}

/// Why there is no room for more, where that is so.
pub type Full = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What takes events in.
pub struct Intake {
    log: Arc<dyn Log>,
    full: Full,
    lost: Full,
    identity: Arc<Identity>,
    holdings: Holdings,
    course: Arc<Course>,
    /// Topic and number of partitions of each stream, by the stream's name.
    places: BTreeMap<&'static str, (Arc<str>, u32)>,
    view: Arc<View>,
    refusals: Arc<Refusals>,
    /// How far an event may lie ahead of the log's time.
    ahead_ms_max: i64,
}

impl Intake {
    /// Takes events into the topics of a config.
    pub fn new(
        config: &Config,
        log: Arc<dyn Log>,
        full: Full,
        partitions: &BTreeMap<String, u32>,
        identity: Arc<Identity>,
        holdings: Holdings,
        course: Arc<Course>,
    ) -> Self {
        let sources = config.topics.sources.iter();
        let places = sources
            .map(|source| {
                let count = partitions.get(&*source.name).copied().unwrap_or(1);
                (source.stream.topic(), (Arc::clone(&source.name), count))
            })
            .collect();
        Self {
            log,
            full,
            lost: Box::new(|| None),
            identity,
            holdings,
            course,
            places,
            view: Arc::default(),
            refusals: Arc::default(),
            ahead_ms_max: config.ingest.ahead_ms_max,
        }
    }

    /// Takes nothing more once this says that what is written is lost.
    pub fn unless(self, lost: Full) -> Self {
        Self { lost, ..self }
    }

    /// Counts what is refused on a view.
    pub fn counting_on(self, view: Arc<View>) -> Self {
        Self { view, ..self }
    }

    /// What is refused.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// What counts are put on.
    #[cfg(test)]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether there is room, and nobody is far behind.
    pub fn check(&self) -> Result<(), Refused> {
        if self.course.is_closed() {
            return Err(Refused::Ending);
        }
        if let Some(why) = (self.lost)() {
            return Err(Refused::Lost(why));
        }
        if let Some(why) = (self.full)() {
            return Err(Refused::Full(why));
        }
        let behind = self.holdings.behind("ingest");
        if behind > BEHIND_MAX {
            let why = format!("{behind} records are being caught up with; send this again later");
            return Err(Refused::Behind(why));
        }
        self.keeps_up(DELAY_MS_MAX)
    }

    /// Whether there is room for a large body as well.
    pub fn check_large(&self) -> Result<(), Refused> {
        self.keeps_up(LARGE_DELAY_MS_MAX)
    }

    /// On Kafka others write as well, with times of their own.
    fn keeps_up(&self, delay_ms_max: i64) -> Result<(), Refused> {
        let delay_ms = self.holdings.delay_ms(clock::now_ms());
        if !self.course.is_alone() || delay_ms <= delay_ms_max {
            return Ok(());
        }
        let seconds = delay_ms as f64 / 1e3;
        let why = format!("what was taken {seconds:.1} s ago is being read; send this again later");
        Err(Refused::Behind(why))
    }

    /// Takes events in one transaction: when it answers they are durable.
    pub fn take(
        &self,
        messages: Vec<Result<Message, Rejected>>,
        sender: &Arc<str>,
    ) -> Result<Taken, Refused> {
        // In this order: who counts as a writer is waited for, and who came too late is told.
        let _writing = self.course.enter(Writer::Intake);
        if self.course.is_closed() {
            return Err(Refused::Ending);
        }
        let mut taken = Taken::default();
        let mut appends = Vec::with_capacity(messages.len() + 1);
        let mut newest_ms = None;
        let mut ahead = Vec::new();
        let before_ms = clock::now_ms();
        let mut refused: BTreeMap<(Option<Stream>, &'static str), u64> = BTreeMap::new();
        for message in messages {
            let stream = message.as_ref().ok().map(|message| message.stream);
            let at_ms = message.as_ref().ok().map(|message| message.at_ms);
            let happened = message.as_ref().ok();
            let happened = happened.map(|message| (message.origin.line, message.occurred_ms));
            let message = message.and_then(|message| self.identity.admitted(message));
            match message.and_then(|message| self.placed(message)) {
                Ok(append) => {
                    taken.accepted += 1;
                    newest_ms = newest_ms.max(at_ms);
                    ahead.extend(happened.filter(|(_, ms)| *ms > before_ms + self.ahead_ms_max));
                    appends.push(append);
                }
                Err(rejected) => {
                    taken.rejected += 1;
                    *refused.entry((stream, countable(&rejected))).or_default() += 1;
                    if taken.rejections.len() < REJECTIONS_MAX {
                        let line = rejected.origin.line;
                        taken.rejections.push((line, rejected.reason.clone()));
                    }
                    appends.push(dead_letter(rejected));
                }
            }
        }
        // One vote a request: a history says little of the time, however long it is.
        if let Some(newest_ms) = newest_ms {
            clock::hear(newest_ms);
        }
        self.tell_ahead(&mut taken, ahead);
        let learned = self.identity.unkept();
        appends.extend(learned.clone());
        if !appends.is_empty() {
            let appended = self.log.append(appends);
            if appended.is_err() && learned.is_some() {
                self.identity.unlearn();
            }
            appended.map_err(Refused::Log)?;
            // The append has compared the file before it wrote: what it wrote may be nowhere.
            if let Some(why) = (self.lost)() {
                return Err(Refused::Lost(why));
            }
        }
        if let Some(learned) = learned {
            self.identity.kept(&learned);
        }
        let accepted = taken.accepted;
        self.refusals.events(&self.view, sender, accepted, &refused);
        Ok(taken)
    }

    /// Tells of events that lie ahead of the time that they are written at. They are in their topic
    /// and rejected there, since dead letters of a topic can be submitted again once a clock is right.
    fn tell_ahead(&self, taken: &mut Taken, ahead: Vec<(u64, i64)>) {
        let now_ms = clock::now_ms();
        for (line, occurred_ms) in ahead {
            let by_ms = occurred_ms.saturating_sub(now_ms);
            if by_ms <= self.ahead_ms_max {
                continue;
            }
            taken.accepted -= 1;
            taken.rejected += 1;
            if taken.rejections.len() < REJECTIONS_MAX {
                let most_ms = self.ahead_ms_max;
                taken.rejections.push((
                    line,
                    format!(
                        "future: meta.occurred_at: {by_ms} ms ahead of the log, at most {most_ms} are allowed"
                    ),
                ));
            }
        }
        taken.rejections.sort_by_key(|(line, _)| *line);
    }

    fn placed(&self, message: Message) -> Result<Append, Rejected> {
        match self.places.get(message.stream.topic()) {
            Some((topic, partitions)) => Ok(event(message, topic, *partitions)),
            None => Err(Rejected {
                reason: format!("wrong_topic: no topic takes {} events", message.stream),
                origin: message.origin,
                bytes: message.value,
                row: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fenghuo_embedded::EmbeddedLog;
    use fenghuo_intake::body::{Form, Limits, messages};
    use fenghuo_log::TopicSpec;

    use super::*;
    use crate::config::Folder;
    use crate::topics::Topics;

    /// Hexadecimal digits that do not pack well.
    fn noise(seed: u64) -> String {
        let words = (0..20_u64).map(|n| (seed * 20 + n).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        words.map(|word| format!("{word:016x}")).collect()
    }

    fn taken(intake: &Intake, text: &str) -> Taken {
        let limits = Limits {
            body_bytes_max: 10_000_000,
            events_max: 10_000,
            event_bytes_max: 10_000,
        };
        let lines = messages(Form::Json, text.as_bytes(), &"test".into(), limits).unwrap();
        intake.take(lines, &"test".into()).unwrap()
    }

    /// Guards: an event that was rejected afterwards had been answered as taken.
    #[test]
    fn an_event_of_the_future_is_told_to_its_sender() {
        let data = tempfile::tempdir().unwrap();
        let config = Config::parse("test", "log.kind = \"embedded\"").unwrap();
        let log = EmbeddedLog::open(data.path()).unwrap();
        let orders = TopicSpec {
            name: "shop.orders".to_owned(),
            partitions: 1,
            compacted: false,
            retention_ms: None,
        };
        log.ensure(&[orders]).unwrap();
        let identity = Identity::open(&config, &log).unwrap();
        let intake = Intake::new(
            &config,
            Arc::new(log.clone()),
            Box::new(|| None),
            &BTreeMap::from([("shop.orders".to_owned(), 1)]),
            Arc::new(identity),
            Holdings::default(),
            Arc::new(Course::new(Duration::from_secs(1), true)),
        );
        let lines: Vec<String> = [-60_000, 0, 50_000, 61_000, 3_600_000]
            .into_iter()
            .map(|by_ms| {
                let at = jiff::Timestamp::from_millisecond(clock::now_ms() + by_ms).unwrap();
                format!(
                    r#"{{"meta":{{"event_id":"{by_ms}","source":"erp","occurred_at":"{at}"}},"order":{{"type":"PAID","order_id":"o"}}}}"#
                )
            })
            .collect();
        let taken = taken(&intake, &lines.join("\n"));
        assert_eq!((taken.accepted, taken.rejected), (3, 2));
        let told = taken.rejections.iter();
        let told: Vec<_> = told
            .map(|(line, why)| (*line, why.split(':').next().unwrap()))
            .collect();
        assert_eq!(told, [(4, "future"), (5, "future")]);
        assert_eq!(log.high(&TopicPartition::new("shop.orders", 0)), 5);
    }

    #[test]
    fn a_flood_of_bad_lines_pushes_no_order_out() {
        let data = tempfile::tempdir().unwrap();
        let config = Config::parse("test", "log.kind = \"embedded\"").unwrap();
        let log = EmbeddedLog::open(data.path()).unwrap();
        let plain = |name: &str| TopicSpec {
            name: name.to_owned(),
            partitions: 1,
            compacted: false,
            retention_ms: None,
        };
        log.ensure(&[plain("shop.orders"), plain(topic::DEAD_LETTER)])
            .unwrap();
        let identity = Identity::open(&config, &log).unwrap();
        let intake = Intake::new(
            &config,
            Arc::new(log.clone()),
            Box::new(|| None),
            &BTreeMap::from([("shop.orders".to_owned(), 1)]),
            Arc::new(identity),
            Holdings::default(),
            Arc::new(Course::new(Duration::from_secs(1), true)),
        );
        let order = |id: u64| {
            format!(
                r#"{{"meta":{{"event_id":"{id}","source":"erp","shop_id":"42","occurred_at":"2026-11-11T20:00:00+08:00"}},"order":{{"type":"PAID","order_id":"{}"}}}}"#,
                &noise(id)[..64]
            )
        };
        for number in 0..10 {
            let orders: Vec<String> = (number * 20..number * 20 + 20).map(order).collect();
            assert_eq!(taken(&intake, &orders.join("\n")).accepted, 20);
        }
        for number in 0..20 {
            let bad = (number * 200..number * 200 + 200).map(|id| noise(id + 1_000_000));
            let bad: Vec<String> = bad.collect();
            assert_eq!(taken(&intake, &bad.join("\n")).rejected, 200);
        }
        let folder = Folder {
            bytes_max: Some(400_000),
            ..Folder::at(data.path().to_owned())
        };
        let topics = Topics::Folder(log.clone(), folder);
        topics.tidy().unwrap();
        let left = |topic: &str| {
            let mut left = 0;
            let of = TopicPartition::new(topic, 0);
            log.dump(&of, 0, &mut |_| {
                left += 1;
                true
            })
            .unwrap();
            left
        };
        assert_eq!(left("shop.orders"), 200);
        let letters = left(topic::DEAD_LETTER);
        assert!(letters > 0 && letters < 1_000, "{letters}");
    }
}
