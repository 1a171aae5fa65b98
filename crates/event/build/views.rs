//! Reads message descriptors for the generator: which fields a message has and what each becomes
//! in Rust. How that is written down is in `emit.rs`. It knows the constructs that events.proto
//! uses and refuses any other by name.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::emit::{self, Field, Message, Oneof, snake, upper_camel};

/// What the .proto does not tell.
pub struct Marks<'a> {
    /// Names of the string fields that hold free text.
    pub text_fields: &'a [&'a str],
    /// Fields of such a name that are ids all the same, as `Message.field`.
    pub id_fields: &'a [&'a str],
    /// Names of the string fields that each name one life: one order, one parcel.
    pub life_fields: &'a [&'a str],
    /// Names of the messages that `rules.rs` knows.
    pub ruled_messages: &'a [&'a str],
}

impl Marks<'_> {
    /// Whether the field holds free text.
    pub fn is_text(&self, message: &str, field: &str) -> bool {
        let is_id = |id: &&str| id.split_once('.') == Some((message, field));
        self.text_fields.contains(&field) && !self.id_fields.iter().any(is_id)
    }
}

/// More fields than this do not fit the set of those already seen (a `u64`).
const FIELDS_MAX: usize = 64;

const MAPS: &str = "only maps from string to string, float or double";

pub const TIMESTAMP: &str = ".google.protobuf.Timestamp";
pub const DURATION: &str = ".google.protobuf.Duration";

/// Numbers of descriptor fields, of which the paths to comments are made.
mod path {
    pub const MESSAGE: i32 = 4;
    pub const FIELD: i32 = 2;
    pub const ONEOF: i32 = 8;
}

/// Rust code for every message of `package`.
pub fn generate(
    set: &FileDescriptorSet,
    package: &str,
    marks: &Marks<'_>,
) -> Result<String, String> {
    let file = set
        .file
        .iter()
        .find(|file| file.package() == package)
        .ok_or_else(|| format!("no package {package} in the descriptors"))?;
    let is_there = |name: &&&str| {
        file.message_type
            .iter()
            .any(|message| message.name() == **name)
    };
    if let Some(stranger) = marks.ruled_messages.iter().find(|name| !is_there(name)) {
        return Err(format!("ruled message {stranger} is not in {package}"));
    }
    let reader = Reader {
        prefix: format!(".{package}."),
        borrowing: borrowing(file, package),
        comments: Comments::of(file),
        marks,
    };
    let mut code = String::from("// Generated from events.proto by build/views.rs.\n");
    for (index, message) in file.message_type.iter().enumerate() {
        let message = reader
            .message(message, index as i32)
            .map_err(|error| format!("{package}.{}: {error}", message.name()))?;
        code.push_str(&emit::message(&message));
    }
    Ok(code)
}

/// Names of the messages that hold a string, themselves or further down.
fn borrowing(file: &FileDescriptorProto, package: &str) -> BTreeSet<String> {
    let prefix = format!(".{package}.");
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for message in &file.message_type {
            let borrows = message.field.iter().any(|field| match field.r#type() {
                Type::String => true,
                Type::Message => {
                    found.contains(field.type_name().trim_start_matches(&prefix))
                        || map_entry(message, field).is_some()
                }
                _ => false,
            });
            if borrows {
                found.insert(message.name().to_owned());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Leading comments by descriptor path.
pub struct Comments(BTreeMap<Vec<i32>, String>);

impl Comments {
    pub fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let texts = locations.filter_map(|location| {
            let text = location.leading_comments().trim();
            (!text.is_empty()).then(|| (location.path.clone(), text.to_owned()))
        });
        Self(texts.collect())
    }

    fn text(&self, path: &[i32]) -> &str {
        self.0.get(path).map_or("As its name says.", String::as_str)
    }

    /// The comment of a message's field, on one line.
    pub fn line(&self, message: i32, field: i32) -> String {
        let text = self.text(&[path::MESSAGE, message, path::FIELD, field]);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.join(" ")
    }
}

/// The message that an entry of the map `field` is on the wire.
pub fn map_entry<'a>(
    message: &'a DescriptorProto,
    field: &FieldDescriptorProto,
) -> Option<&'a DescriptorProto> {
    let name = field.type_name().rsplit('.').next()?;
    message.nested_type.iter().find(|nested| {
        let is_map = nested
            .options
            .as_ref()
            .is_some_and(|options| options.map_entry());
        is_map && nested.name() == name
    })
}

struct Reader<'a> {
    prefix: String,
    borrowing: BTreeSet<String>,
    comments: Comments,
    marks: &'a Marks<'a>,
}

impl Reader<'_> {
    fn message(&self, message: &DescriptorProto, index: i32) -> Result<Message, String> {
        let name = message.name();
        if message.field.len() > FIELDS_MAX {
            return Err(format!("more than {FIELDS_MAX} fields"));
        }
        let fields = message.field.iter().zip(0..).map(|(field, at)| {
            let comment = self.comment(&[path::MESSAGE, index, path::FIELD, at]);
            self.field(message, field, comment)
                .map_err(|error| format!("{}: {error}", field.name()))
        });
        let oneof = match message.oneof_decl.as_slice() {
            [] => None,
            [oneof] => Some(Oneof {
                name: oneof.name().to_owned(),
                comment: self.comment(&[path::MESSAGE, index, path::ONEOF, 0]),
            }),
            _ => return Err("only one oneof a message".to_owned()),
        };
        Ok(Message {
            name: name.to_owned(),
            view: self.view(name),
            comment: self.comment(&[path::MESSAGE, index]),
            enums: message
                .enum_type
                .iter()
                .map(|nested| nested.name().to_owned())
                .collect(),
            fields: fields.collect::<Result<_, _>>()?,
            oneof,
            ruled: self.marks.ruled_messages.contains(&name),
        })
    }

    fn field(
        &self,
        message: &DescriptorProto,
        field: &FieldDescriptorProto,
        comment: String,
    ) -> Result<Field, String> {
        let repeated = field.label() == Label::Repeated;
        let is_enum = field.r#type() == Type::Enum;
        if field.proto3_optional() || (repeated && is_enum) {
            return Err("neither `optional` nor repeated enums".to_owned());
        }
        let single = self.single(message, field)?;
        let variant = field.oneof_index.map(|_| upper_camel(field.name()));
        let optional = field.r#type() == Type::Message && variant.is_none();
        let rust = match (repeated, optional) {
            (true, _) => format!("Vec<{single}>"),
            (false, true) => format!("Option<{single}>"),
            (false, false) => single,
        };
        Ok(Field {
            name: field.name().to_owned(),
            camel: field.json_name().to_owned(),
            number: field.number(),
            rust,
            text: self.marks.is_text(message.name(), field.name()),
            is_map: map_entry(message, field).is_some(),
            is_enum,
            variant,
            comment,
        })
    }

    /// The Rust type of one value of `field`.
    fn single(
        &self,
        message: &DescriptorProto,
        field: &FieldDescriptorProto,
    ) -> Result<String, String> {
        let plain = match field.r#type() {
            Type::String => "Cow<'a, str>",
            Type::Int32 => "i32",
            Type::Int64 => "i64",
            Type::Uint64 => "u64",
            Type::Float => "f32",
            Type::Double => "f64",
            Type::Bool => "bool",
            Type::Enum => {
                let path = self.local(field.type_name())?;
                let (message, name) = path.split_once('.').ok_or("only enums inside messages")?;
                return Ok(format!("pb::{}::{name}", snake(message)));
            }
            Type::Message => match (field.type_name(), map_entry(message, field)) {
                (TIMESTAMP, _) => "Timestamp",
                (DURATION, _) => "DurationMs",
                (_, Some(entry)) => match entry.field.as_slice() {
                    [key, value] if key.r#type() == Type::String => match value.r#type() {
                        Type::Float => "(Cow<'a, str>, f32)",
                        Type::Double => "(Cow<'a, str>, f64)",
                        Type::String => "(Cow<'a, str>, Cow<'a, str>)",
                        _ => return Err(MAPS.to_owned()),
                    },
                    _ => return Err(MAPS.to_owned()),
                },
                (name, None) => return Ok(self.view(self.local(name)?)),
            },
            other => return Err(format!("no views of {}", other.as_str_name())),
        };
        Ok(plain.to_owned())
    }

    /// The view's type, with a lifetime where it borrows.
    fn view(&self, name: &str) -> String {
        match self.borrowing.contains(name) {
            true => format!("{name}<'a>"),
            false => name.to_owned(),
        }
    }

    fn local<'n>(&self, name: &'n str) -> Result<&'n str, String> {
        name.strip_prefix(self.prefix.as_str())
            .ok_or_else(|| format!("{name} is neither in this package nor well known"))
    }

    fn comment(&self, path: &[i32]) -> String {
        let text = self.comments.text(path);
        text.lines()
            .map(|line| format!("/// {}\n", line.trim()))
            .collect()
    }
}
