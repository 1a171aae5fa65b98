//! One dead letter, as it is read back from its headers, and how it is shown.
//!
//! Everything in it may come from outside: headers may be missing or lie, and no byte of it may
//! reach a terminal unescaped.

use std::fmt::{self, Write as _};

use fenghuo_event::Timestamp;
use fenghuo_log::Whole;
use serde_json::{Value, json};

use crate::intake::ROW_CONTENT_TYPE;

/// Bytes of a message that are looked at for its excerpt, and characters that are shown of any
/// text.
const EXCERPT_BYTES_MAX: usize = 512;
const SHOWN_CHARS_MAX: usize = 160;

/// Where a message was when it was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a source topic.
    Record {
        topic: String,
        partition: u32,
        /// `None` where the message was gone when its topic was copied.
        offset: Option<u64>,
    },
    /// In a file that was loaded.
    File { file: String, line: u64 },
    /// The letter does not say.
    Unknown,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its own offset in the topic of dead letters.
    pub offset: u64,
    /// When it was written, Unix ms.
    pub at_ms: i64,
    pub reason: String,
    pub detail: String,
    pub origin: Origin,
    pub key: Option<Vec<u8>>,
    pub content_type: Option<Vec<u8>>,
    /// The message, or its beginning where it is cut.
    pub value: Vec<u8>,
    /// How long the message was.
    pub bytes: u64,
    /// How many columns it had, where it was a row of a CSV file.
    pub columns: Option<u64>,
    /// The key is not whole.
    pub key_is_cut: bool,
}

impl Letter {
    /// From its record.
    pub fn read(record: Whole) -> Self {
        let header = |name: &str| {
            let mut headers = record.headers.iter();
            let found = headers.find(|(header, _)| header == name);
            found.map(|(_, value)| value.as_slice())
        };
        let text = |name| header(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let number = |name| {
            let value = std::str::from_utf8(header(name)?).ok()?;
            value.parse::<u64>().ok()
        };
        let partition = number("partition").and_then(|number| u32::try_from(number).ok());
        let origin = match (text("topic"), partition) {
            (Some(topic), Some(partition)) => Origin::Record {
                topic,
                partition,
                offset: number("offset"),
            },
            _ => match (text("file"), number("line")) {
                (Some(file), Some(line)) => Origin::File { file, line },
                _ => Origin::Unknown,
            },
        };
        let value = record.value.unwrap_or_default();
        Self {
            offset: record.offset,
            at_ms: record.timestamp_ms,
            reason: text("reason").unwrap_or_default(),
            detail: text("detail").unwrap_or_default(),
            origin,
            content_type: header("content-type").map(<[u8]>::to_vec),
            bytes: number("bytes").unwrap_or(value.len() as u64),
            columns: number("columns").filter(|columns| *columns > 0),
            key_is_cut: header("key-bytes").is_some(),
            key: header("key").map(<[u8]>::to_vec),
            value,
        }
    }

    /// Whether the message or its key is no longer whole.
    pub fn is_cut(&self) -> bool {
        self.key_is_cut || self.bytes != self.value.len() as u64
    }

    /// Whether it was a row of a CSV file, of which only what may be shown is kept.
    pub fn is_row(&self) -> bool {
        let is_csv = self.content_type.as_deref() == Some(ROW_CONTENT_TYPE.as_bytes());
        // What came over a topic may call itself anything.
        is_csv && matches!(self.origin, Origin::File { .. })
    }

    /// The beginning of the message, on one line.
    pub fn excerpt(&self) -> String {
        let end = self.value.len().min(EXCERPT_BYTES_MAX);
        let mut shown = shown(&String::from_utf8_lossy(&self.value[..end]));
        if end < self.value.len() && !shown.ends_with('…') {
            shown.push('…');
        }
        shown
    }

    /// For programs.
    pub fn as_json(&self, replayed: bool) -> Value {
        let origin = match &self.origin {
            Origin::Record {
                topic,
                partition,
                offset,
            } => json!({"topic": shown(topic), "partition": partition, "offset": offset}),
            Origin::File { file, line } => json!({"file": shown(file), "line": line}),
            Origin::Unknown => Value::Null,
        };
        let mut letter = json!({
            "offset": self.offset,
            "at": Timestamp(self.at_ms).to_string(),
            "reason": shown(&self.reason),
            "detail": shown(&self.detail),
            "origin": origin,
            "bytes": self.bytes,
            "excerpt": self.excerpt(),
            "replayed": replayed,
        });
        if let Some(columns) = self.columns {
            letter["columns"] = columns.into();
        }
        letter
    }
}

impl fmt::Display for Letter {
    /// Three lines: what and where, why, and how it begins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Timestamp(self.at_ms);
        let (reason, origin, bytes) = (shown(&self.reason), &self.origin, self.bytes);
        write!(f, "{} {at} {reason} {origin} {bytes} bytes", self.offset)?;
        if let Some(columns) = self.columns {
            write!(f, " {columns} columns")?;
        }
        writeln!(f)?;
        writeln!(f, "    {}", shown(&self.detail))?;
        write!(f, "    {}", self.excerpt())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record {
                topic,
                partition,
                offset,
            } => {
                write!(f, "{}/{partition}", shown(topic))?;
                offset.map_or(Ok(()), |offset| write!(f, "@{offset}"))
            }
            Self::File { file, line } => write!(f, "{}:{line}", shown(file)),
            Self::Unknown => f.write_str("from nowhere known"),
        }
    }
}

/// A text from outside: cut, and with escapes for whatever is not a plain visible character, so
/// that it neither moves a cursor nor turns the direction of writing.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, letter) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        match letter {
            // Plain in a line of their own, and common.
            '"' | '\'' | '\\' => out.push(letter),
            letter if fenghuo_signal::is_invisible(letter) => {
                _ = write!(out, "{}", letter.escape_unicode());
            }
            letter => _ = write!(out, "{}", letter.escape_debug()),
        }
    }
    out
}
