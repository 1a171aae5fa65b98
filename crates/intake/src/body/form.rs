//! How a body is cut into events, as its content type says. What a browser sends without being
//! asked, forms and plain text, must never be taken.

use super::UnsupportedError;

/// What is accepted, for whoever sent something else.
const EXPECTED: &str = "application/x-ndjson, application/json, application/x-protobuf, \
     application/cloudevents+json or application/cloudevents-batch+json, in UTF-8";

/// How a body is cut into events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An event a line, in JSON.
    JsonLines,
    /// JSON that begins with `[` is an array of events; else it is one event, over however many
    /// lines, or an event a line.
    Json,
    /// Before each event its length in bytes, as a varint; the event in protobuf.
    Protobuf,
    /// One CloudEvent, structured, in JSON.
    CloudEvent,
    /// An array of CloudEvents in JSON.
    CloudEvents,
}

impl Form {
    /// What a `content-type` header names.
    ///
    /// # Errors
    /// Where it names anything else, or text that is not in UTF-8.
    pub fn of(content_type: &str) -> Result<Self, UnsupportedError> {
        let unsupported = || UnsupportedError::new("content-type", EXPECTED, content_type);
        let mut parts = content_type.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        if parts.any(is_other_charset) {
            return Err(unsupported());
        }
        match media_type.as_str() {
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/json-lines" => Ok(Form::JsonLines),
            "application/json" => Ok(Form::Json),
            "application/cloudevents+json" => Ok(Form::CloudEvent),
            "application/cloudevents-batch+json" => Ok(Form::CloudEvents),
            other if is_protobuf(other) => Ok(Form::Protobuf),
            _ => Err(unsupported()),
        }
    }
}

/// Whether a media type, in lower case, is one of the names that protobuf goes by.
pub(super) fn is_protobuf(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/x-protobuf" | "application/protobuf" | "application/vnd.google.protobuf"
    )
}

/// Whether a parameter of a content type asks for an encoding of text that is not UTF-8.
fn is_other_charset(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    let value = value.trim().trim_matches('"');
    let is_utf_8 = ["utf-8", "utf8", "us-ascii"]
        .iter()
        .any(|known| value.eq_ignore_ascii_case(known));
    name.trim().eq_ignore_ascii_case("charset") && !is_utf_8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_name_forms() {
        let cases = [
            ("application/x-ndjson", Some(Form::JsonLines)),
            ("application/ndjson", Some(Form::JsonLines)),
            ("application/jsonl", Some(Form::JsonLines)),
            ("application/json-lines", Some(Form::JsonLines)),
            ("application/json", Some(Form::Json)),
            (
                " Application/JSON ; Charset=\"UTF-8\" ; q=1",
                Some(Form::Json),
            ),
            ("application/json;", Some(Form::Json)),
            ("application/json; charset = utf8", Some(Form::Json)),
            ("application/json; charset=us-ascii", Some(Form::Json)),
            ("application/json; charset=gbk", None),
            ("application/json; charset=utf-8; charset=utf-16", None),
            ("application/json; charset=", None),
            ("application/x-protobuf", Some(Form::Protobuf)),
            ("application/protobuf", Some(Form::Protobuf)),
            (
                "application/vnd.google.protobuf; delimited=true",
                Some(Form::Protobuf),
            ),
            ("application/cloudevents+json", Some(Form::CloudEvent)),
            (
                "application/cloudevents+json; charset=UTF-8",
                Some(Form::CloudEvent),
            ),
            (
                "application/cloudevents-batch+json",
                Some(Form::CloudEvents),
            ),
            ("application/cloudevents+avro", None),
            ("text/plain", None),
            ("text/plain;charset=UTF-8", None),
            ("application/x-www-form-urlencoded", None),
            ("multipart/form-data; boundary=application/json", None),
            ("application/json, text/plain", None),
            ("text/csv", None),
            ("", None),
        ];
        for (content_type, expected) in cases {
            assert_eq!(Form::of(content_type).ok(), expected, "{content_type:?}");
        }
    }

    #[test]
    fn a_refusal_names_what_is_accepted_and_stays_short() {
        let error = Form::of("text/plain").unwrap_err().to_string();
        assert_eq!(
            error,
            "content-type: expected application/x-ndjson, application/json, \
             application/x-protobuf, application/cloudevents+json or \
             application/cloudevents-batch+json, in UTF-8, got \"text/plain\""
        );
        let error = Form::of(&"x".repeat(9_000)).unwrap_err().to_string();
        assert!(error.len() < 300, "{error}");
    }
}
