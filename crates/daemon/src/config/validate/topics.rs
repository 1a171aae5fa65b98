//! `[topics]`: the names of the shop's topics, and how late their events may come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fenghuo_engine::SourceTopic;
use fenghuo_event::Stream;
use fenghuo_signal::Catalogue;
use fenghuo_signal::catalogue::Origin;

use super::super::document::Document;
use super::super::{Topics, Watched, raw};
use super::{DAY, HOUR};

/// Kafka's own bound on the name of a topic.
const TOPIC_BYTES_MAX: usize = 249;

fn stream(at: &Document<'_>, key: &str, name: &str) -> Option<Stream> {
    let stream = Stream::from_topic(name);
    if stream.is_none() {
        at.unknown(key, name, Stream::ALL.map(Stream::topic));
    }
    stream
}

/// Checks `[topics]`, with `[ingest.lateness]`, which is said by stream. A stream that is fed by
/// exports may be as late as the next one is due, and as a file takes to rest, unless it is named
/// there itself.
pub fn topics(
    at: &Document<'_>,
    raw: &raw::Topics,
    lateness: &BTreeMap<String, String>,
    watched: Option<&Watched>,
) -> Topics {
    let mut streams = Vec::new();
    match &raw.streams {
        None => streams.extend(Stream::ALL),
        Some(names) => {
            for (index, name) in names.iter().enumerate() {
                streams.extend(stream(at, &format!("topics.streams[{index}]"), name));
            }
        }
    }
    streams.sort_unstable();
    streams.dedup();
    if streams.is_empty() {
        at.mistake("topics.streams", "is empty; expected at least one stream");
    }
    for name in raw.names.keys() {
        let key = format!("topics.names.{name}");
        if let Some(stream) = stream(at, &key, name)
            && !streams.contains(&stream)
            && !at.is_unsure("topics.streams")
        {
            at.mistake(&key, "names a stream that topics.streams leaves out");
        }
    }
    let range = Duration::ZERO..=7 * DAY;
    let mut lateness_ms = BTreeMap::new();
    let mut usual_ms = 5_000;
    for (name, text) in lateness {
        let key = format!("ingest.lateness.{name}");
        let ms = at.duration_ms(&key, text, range.clone());
        if name == "default" {
            usual_ms = ms.unwrap_or_default();
        } else if let Some(stream) = stream(at, &key, name) {
            lateness_ms.insert(stream, ms.unwrap_or_default());
        }
    }
    check_fed(at, watched, &streams);
    let prefix = raw.prefix.as_deref().unwrap_or("shop.");
    let mut sources: Vec<SourceTopic> = Vec::with_capacity(streams.len());
    for stream in streams {
        let (key, name) = match raw.names.get(stream.topic()) {
            Some(name) => (format!("topics.names.{stream}"), name.clone()),
            None => ("topics.prefix".to_owned(), format!("{prefix}{stream}")),
        };
        check_topic(at, &key, &name);
        let is_twice = sources.iter().any(|other| *other.name == *name);
        if is_twice && !at.is_unsure("topics.prefix") {
            let problem = format!("is {name:?}; expected a topic of its own for each stream");
            at.mistake(&key, problem);
        }
        sources.push(SourceTopic {
            name: Arc::from(name),
            stream,
            lateness_ms: match lateness_ms.get(&stream) {
                Some(ms) => *ms,
                None => usual_ms.max(rhythm_ms(watched, stream)),
            },
        });
    }
    let partitions = |key: &str, given: Option<i64>| at.number(key, given.unwrap_or(4), 1..=1_024);
    Topics {
        sources,
        panes_partitions: partitions("topics.panes_partitions", raw.panes_partitions),
        panes_retention_ms: retention_ms(
            at,
            "panes_retention",
            raw.panes_retention.as_deref(),
            "7d",
        ),
        dead_letter_retention_ms: retention_ms(
            at,
            "dead_letter_retention",
            raw.dead_letter_retention.as_deref(),
            "14d",
        ),
        create: raw.create.unwrap_or(true),
        source_partitions: partitions("topics.source_partitions", raw.source_partitions),
    }
}

/// Measures of the shop's own whose events are not read.
pub fn uncounted(catalogue: &Catalogue, topics: &Topics) -> Vec<String> {
    let own = catalogue.measures().iter().filter(|measure| measure.is_own);
    let uncounted = own.filter_map(|measure| match measure.origin {
        Origin::Stream(stream) if topics.sources.iter().all(|one| one.stream != stream) => {
            Some(format!(
                "measure {:?} counts {stream}, which topics.streams leaves out: what rests on it is \
                 unknown",
                measure.name
            ))
        }
        _ => None,
    });
    uncounted.collect()
}

/// How long a topic keeps its records; `None` = for ever.
fn retention_ms(at: &Document<'_>, key: &str, given: Option<&str>, usual: &str) -> Option<i64> {
    let key = format!("topics.{key}");
    match given.unwrap_or(usual) {
        "forever" => None,
        text if humantime::parse_duration(text).is_err() => {
            let problem = format!("is {text:?}; expected \"forever\" or a time such as {usual:?}");
            at.mistake(&key, problem);
            None
        }
        text => at.duration_ms(&key, text, HOUR..=3_650 * DAY),
    }
}

/// After how long the next export of a stream is in, where it is fed by exports.
fn rhythm_ms(watched: Option<&Watched>, stream: Stream) -> i64 {
    let Some(watched) = watched else { return 0 };
    let mappings = watched.settings.mappings.iter();
    let mappings = mappings.filter(|mapping| mapping.kind.stream() == stream);
    let every_ms = mappings.filter_map(|mapping| mapping.every_ms);
    let every_ms = every_ms.max();
    every_ms.map_or(0, |every_ms| {
        every_ms.saturating_add(watched.settings.settle_ms)
    })
}

/// What is read from files has to have a topic.
fn check_fed(at: &Document<'_>, watched: Option<&Watched>, streams: &[Stream]) {
    // A mapping that was not read leaves a gap in the numbers.
    if at.is_unsure("topics.streams") || at.is_unsure("intake.mappings") {
        return;
    }
    let mappings = watched.into_iter().flat_map(|one| &one.settings.mappings);
    for (index, mapping) in mappings.enumerate() {
        let stream = mapping.kind.stream();
        if !streams.contains(&stream) {
            let problem = format!("holds {stream}, which topics.streams leaves out");
            at.mistake(&format!("intake.mappings[{index}]"), problem);
        }
    }
}

fn check_topic(at: &Document<'_>, key: &str, name: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > TOPIC_BYTES_MAX || !name.bytes().all(plain) {
        let problem = format!(
            "makes the topic {name:?}; expected 1 to {TOPIC_BYTES_MAX} letters, digits, '.', '_' or '-'"
        );
        at.mistake(key, problem);
    } else if name.starts_with("fenghuo.") {
        let problem = format!("makes the topic {name:?}; topics of this prefix are Fenghuo's own");
        at.mistake(key, problem);
    }
}
