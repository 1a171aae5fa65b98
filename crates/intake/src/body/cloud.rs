//! CloudEvents 1.0, structured, in JSON: the envelope's attributes become the event's meta, and
//! its data is the rest of the event.
//!
//! `id` is the event id, `source` the source, `time` when it happened, and the extension `shopid`
//! the shop. The data may have a meta of its own for what the envelope cannot say; what it says
//! twice must be the same. `type` must be there, as the specification has it, and is not
//! interpreted: what happened is what the data says. The data is JSON, in place or in base64, or
//! protobuf in base64. This file must never read an event: it puts the two halves together, in
//! the form in which the ordinary decoder takes them. A place within an event that the decoder's
//! words name is therefore one in the event put together.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fenghuo_event::{Encoding, Event, Peek, Reason, Timestamp, pb};
use serde_json::value::RawValue;

use super::form::is_protobuf;
use super::members::{Members, unexpected};
use super::refused;
use crate::message::{message_if, reject};
use crate::{Message, Origin, Rejected};

/// What a meta member may be called: in snake_case and in lowerCamelCase.
type Names = [&'static str; 2];

const EVENT_ID: Names = ["event_id", "eventId"];
const SOURCE: Names = ["source", "source"];
const OCCURRED_AT: Names = ["occurred_at", "occurredAt"];
const SHOP_ID: Names = ["shop_id", "shopId"];

/// What an envelope can say of an event.
const ENVELOPED: [Names; 4] = [EVENT_ID, SOURCE, OCCURRED_AT, SHOP_ID];

/// The message that a CloudEvent is. A rejection has the CloudEvent as it was sent.
pub(super) fn message(origin: Origin, bytes: &[u8]) -> Result<Message, Rejected> {
    match unwrap(bytes) {
        Ok(Unwrapped {
            attributes,
            encoding,
            value,
        }) => {
            let agrees = |event: &Event<'_>| attributes.agree_with(event);
            message_if(origin, encoding, value, agrees).map_err(|rejected| Rejected {
                bytes: bytes.to_vec(),
                ..rejected
            })
        }
        Err(why) => Err(reject(origin, &why, bytes.to_vec())),
    }
}

/// An event taken out of its envelope.
struct Unwrapped<'a> {
    attributes: Attributes<'a>,
    encoding: Encoding,
    value: Vec<u8>,
}

/// What an envelope says of its event.
struct Attributes<'a> {
    id: Cow<'a, str>,
    source: Cow<'a, str>,
    time: Option<(Cow<'a, str>, Timestamp)>,
    shop_id: Option<Cow<'a, str>>,
}

fn unwrap(bytes: &[u8]) -> Result<Unwrapped<'_>, fenghuo_event::Rejected> {
    let text = utf_8("the event", bytes)?;
    let envelope = Members::read("the event", text)?;
    let attributes = Attributes::read(&envelope)?;
    let (encoding, data) = data(&envelope)?;
    let value = match encoding {
        Encoding::Json => attributes.before_json(utf_8("data_base64", &data)?)?,
        Encoding::Protobuf => attributes.before_protobuf(&data)?,
    };
    Ok(Unwrapped {
        attributes,
        encoding,
        value,
    })
}

fn utf_8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, fenghuo_event::Rejected> {
    std::str::from_utf8(bytes).map_err(|error| {
        let place = error.valid_up_to();
        refused(
            Reason::Malformed,
            format!("{name}: not UTF-8 at byte {place}"),
        )
    })
}

/// The data, and how it is encoded.
fn data<'a>(envelope: &Members<'a>) -> Result<(Encoding, Cow<'a, [u8]>), fenghuo_event::Rejected> {
    let encoding = encoding(envelope.text("datacontenttype")?.as_deref())?;
    let data = match (envelope.get("data")?, envelope.text("data_base64")?) {
        (Some(_), Some(_)) => {
            let detail = "data_base64: expected no data beside it".to_owned();
            return Err(refused(Reason::InvalidValue, detail));
        }
        (Some(_), None) if encoding == Encoding::Protobuf => {
            let detail = "data_base64: expected the event, since it is in protobuf".to_owned();
            return Err(refused(Reason::MissingField, detail));
        }
        (Some(value), None) => Cow::Borrowed(value.get().as_bytes()),
        (None, Some(text)) => match STANDARD.decode(text.as_bytes()) {
            Ok(bytes) => Cow::Owned(bytes),
            Err(_) => return Err(unexpected("data_base64", "base64", &text)),
        },
        (None, None) => {
            let detail = "data: expected the event".to_owned();
            return Err(refused(Reason::MissingField, detail));
        }
    };
    Ok((encoding, data))
}

/// How the data is encoded, as `datacontenttype` says.
fn encoding(content_type: Option<&str>) -> Result<Encoding, fenghuo_event::Rejected> {
    let Some(content_type) = content_type else {
        return Ok(Encoding::Json);
    };
    let media_type = content_type.split(';').next().unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    match media_type.as_str() {
        name if name == "application/json" || name.ends_with("+json") => Ok(Encoding::Json),
        name if is_protobuf(name) => Ok(Encoding::Protobuf),
        _ => Err(fenghuo_event::Rejected {
            reason: Reason::UnsupportedEncoding,
            ..unexpected(
                "datacontenttype",
                "application/json or application/protobuf",
                content_type,
            )
        }),
    }
}

impl<'a> Attributes<'a> {
    fn read(envelope: &Members<'a>) -> Result<Self, fenghuo_event::Rejected> {
        let version = envelope.required("specversion")?;
        if version != "1.0" {
            return Err(unexpected("specversion", "1.0", &version));
        }
        envelope.required("type")?;
        let time = envelope.text("time")?.map(|text| match text.parse() {
            Ok(at) => Ok((text, at)),
            Err(_) => Err(unexpected(
                "time",
                "an RFC 3339 time such as 2026-11-11T12:00:00Z",
                &text,
            )),
        });
        Ok(Self {
            id: envelope.required("id")?,
            source: envelope.required("source")?,
            time: time.transpose()?,
            shop_id: envelope.text("shopid")?,
        })
    }

    /// The members of a meta that the attributes give.
    fn members(&self) -> impl Iterator<Item = (Names, &str)> {
        let time = self.time.as_ref().map(|(text, _)| text.as_ref());
        [
            (EVENT_ID, Some(self.id.as_ref())),
            (SOURCE, Some(self.source.as_ref())),
            (OCCURRED_AT, time),
            (SHOP_ID, self.shop_id.as_deref()),
        ]
        .into_iter()
        .filter_map(|(names, value)| Some((names, value?)))
    }

    /// The event in JSON: a meta of what the data's own says and the attributes add, then the
    /// other members of the data as they stand.
    fn before_json(&self, data: &str) -> Result<Vec<u8>, fenghuo_event::Rejected> {
        let data = Members::read("data", data)?;
        let meta = match data.get("meta")? {
            Some(meta) => Members::read("data.meta", meta.get())?,
            None => Members::none(),
        };
        if self.time.is_none() && !gives(&meta, OCCURRED_AT) {
            return Err(no_time());
        }
        let added = self.members().filter(|(names, _)| !gives(&meta, *names));
        let mut object = Object::open();
        for (names, value) in added {
            object.member(names[0], &quoted(value));
        }
        for (name, value) in meta.iter().filter(|(name, value)| !gives_way(name, value)) {
            object.member(name, value.get());
        }
        let meta = object.close();
        let mut event = Object::open();
        event.member("meta", &meta);
        for (name, value) in data.iter().filter(|(name, _)| *name != "meta") {
            event.member(name, value.get());
        }
        Ok(event.close().into_bytes())
    }

    /// The event in protobuf, where what comes twice is merged: the attributes as a meta, then the
    /// data as it stands. A time must not come twice.
    fn before_protobuf(&self, data: &[u8]) -> Result<Vec<u8>, fenghuo_event::Rejected> {
        let content_type = Encoding::Protobuf.content_type().as_bytes();
        let time = match (fenghuo_event::peek(data, Some(content_type)), &self.time) {
            // What cannot be read is the decoder's to reject.
            (None, _) => None,
            (
                Some(Peek {
                    occurred_at: Some(_),
                    ..
                }),
                _,
            ) => None,
            (Some(_), Some((_, at))) => Some((*at).into()),
            (Some(_), None) => return Err(no_time()),
        };
        let meta = pb::Meta {
            event_id: self.id.clone().into_owned(),
            source: self.source.clone().into_owned(),
            occurred_at: time,
            shop_id: self.shop_id.as_deref().unwrap_or_default().to_owned(),
            ..pb::Meta::default()
        };
        let mut value = fenghuo_event::to_protobuf(&pb::Event {
            meta: Some(meta),
            body: None,
        });
        value.extend_from_slice(data);
        Ok(value)
    }

    /// What the data's own meta says again must be what the envelope says.
    fn agree_with(&self, event: &Event<'_>) -> Result<(), fenghuo_event::Rejected> {
        let meta = &event.meta;
        if let Some((text, at)) = &self.time
            && meta.occurred_at != Some(*at)
        {
            let got = meta.occurred_at.unwrap_or_default().to_string();
            return Err(contradicts("occurred_at", "time", text, &got));
        }
        let shop_id = self.shop_id.as_deref().unwrap_or(&meta.shop_id);
        let pairs = [
            ("event_id", "id", self.id.as_ref(), &meta.event_id),
            ("source", "source", &self.source, &meta.source),
            ("shop_id", "shopid", shop_id, &meta.shop_id),
        ];
        match pairs.into_iter().find(|(_, _, said, again)| said != again) {
            None => Ok(()),
            Some((member, attribute, said, again)) => {
                Err(contradicts(member, attribute, said, again))
            }
        }
    }
}

#[cold]
fn no_time() -> fenghuo_event::Rejected {
    let detail = "time: expected an RFC 3339 time, here or as data.meta.occurred_at".to_owned();
    refused(Reason::MissingField, detail)
}

#[cold]
fn contradicts(member: &str, attribute: &str, said: &str, got: &str) -> fenghuo_event::Rejected {
    let name = format!("data.meta.{member}");
    let said = crate::shown(said.as_bytes());
    unexpected(&name, &format!("{said}, as {attribute} says"), got)
}

/// Whether a meta has a member of one of these names that says something.
fn gives(meta: &Members<'_>, names: Names) -> bool {
    meta.iter()
        .any(|(name, value)| names.contains(&name) && says_something(value))
}

/// Whether a member of a meta says nothing and would be a second beside what the envelope says.
fn gives_way(name: &str, value: &RawValue) -> bool {
    !says_something(value) && ENVELOPED.iter().any(|names| names.contains(&name))
}

/// A null and an empty string both mean that nothing is given.
fn says_something(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "\"\"")
}

/// A string as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON object being written.
struct Object(String);

impl Object {
    fn open() -> Self {
        Self("{".to_owned())
    }

    fn member(&mut self, name: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(value);
    }

    fn close(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
