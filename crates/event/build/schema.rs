//! Writes the table of the fields that an expression can read: for every stream the path, the type
//! and an accessor of each. What an accessor does by its type is in `src/schema.rs`; here fields
//! are only listed.

use std::collections::BTreeSet;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::emit::{ident, snake, upper_camel};
use crate::views::{Comments, DURATION, Marks, TIMESTAMP, map_entry};

/// Messages inside messages are followed this far.
const DEPTH_MAX: usize = 4;

/// Enums are compared as sets of 64 bits.
const ENUM_NUMBER_MAX: i32 = 63;

/// The tables of all bodies and of the meta, each named after its message, in capitals.
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
    let writer = Writer {
        file,
        prefix: format!(".{package}."),
        comments: Comments::of(file),
        marks,
    };
    writer.check_marks()?;
    let event = writer.message("Event")?.1;
    let mut code = String::from("// Generated from events.proto by build/schema.rs.\n");
    for field in &event.field {
        let name = writer.local(field)?;
        let body = field.oneof_index.is_some();
        code += &writer
            .table(name, body)
            .map_err(|error| format!("{package}.{name}: {error}"))?;
    }
    Ok(code)
}

struct Writer<'a> {
    file: &'a FileDescriptorProto,
    prefix: String,
    comments: Comments,
    marks: &'a Marks<'a>,
}

/// A message inside a stream's, as its fields are found from there.
struct Place<'p> {
    /// What its fields' paths begin with.
    path: String,
    /// Rust for an `Option` of a reference to it.
    rust: String,
    /// The repeated field that it is an element of.
    list: Option<&'p str>,
    depth: usize,
}

impl<'a> Writer<'a> {
    fn message(&self, name: &str) -> Result<(i32, &'a DescriptorProto), String> {
        (0..)
            .zip(&self.file.message_type)
            .find(|(_, message)| message.name() == name)
            .ok_or_else(|| format!("no message {name}"))
    }

    fn local<'n>(&self, field: &'n FieldDescriptorProto) -> Result<&'n str, String> {
        let name = field.type_name();
        name.strip_prefix(self.prefix.as_str())
            .ok_or_else(|| format!("{name} is neither in this package nor well known"))
    }

    /// A mark for a field that is no more would mark nothing.
    fn check_marks(&self) -> Result<(), String> {
        let messages = &self.file.message_type;
        let fields = messages.iter().flat_map(|m| &m.field);
        let names: BTreeSet<&str> = fields.map(FieldDescriptorProto::name).collect();
        let is_there = |id: &str| {
            id.split_once('.').is_some_and(|(message, field)| {
                let mut of = messages.iter().filter(|of| of.name() == message);
                of.any(|of| of.field.iter().any(|known| known.name() == field))
            })
        };
        if let Some(stranger) = self.marks.id_fields.iter().find(|id| !is_there(id)) {
            return Err(format!("marked field {stranger} is not there"));
        }
        let marked = self.marks.text_fields.iter().chain(self.marks.life_fields);
        match marked.into_iter().find(|name| !names.contains(**name)) {
            Some(stranger) => Err(format!("marked field {stranger} is in no message")),
            None => Ok(()),
        }
    }

    fn table(&self, name: &str, body: bool) -> Result<String, String> {
        let (function, constant) = (snake(name), snake(name).to_uppercase());
        let (reader, path) = match body {
            true => (
                format!(
                    "match &scope.event.body {{ Body::{name}(body) => Some(body), _ => None }}"
                ),
                String::new(),
            ),
            false => (
                format!("Some(&scope.event.{function})"),
                format!("{function}."),
            ),
        };
        let mut rows = Vec::new();
        let place = Place {
            path,
            rust: format!("{function}(scope)"),
            list: None,
            depth: 0,
        };
        self.rows(name, &place, &mut rows)?;
        let mut paths = BTreeSet::new();
        if let Some((path, _)) = rows.iter().find(|(path, _)| !paths.insert(path)) {
            return Err(format!("two fields have the path {path}"));
        }
        let rows: String = rows.iter().map(|(_, row)| row.as_str()).collect();
        Ok(format!(
            "
#[inline]
fn {function}<'e>(scope: Scope<'e>) -> Option<&'e views::{name}<'e>> {{ {reader} }}

pub(super) static {constant}: &[Field] = &[
{rows}];
"
        ))
    }

    /// Adds path and Rust of every field of message `name` at `place`.
    fn rows(
        &self,
        name: &str,
        place: &Place<'_>,
        rows: &mut Vec<(String, String)>,
    ) -> Result<(), String> {
        if place.depth > DEPTH_MAX {
            return Err(format!("messages nested deeper than {DEPTH_MAX}"));
        }
        let (index, message) = self.message(name)?;
        for (field, at) in message.field.iter().zip(0..) {
            let member = ident(field.name());
            let path = format!("{}{}", place.path, field.name());
            let repeated = field.label() == Label::Repeated;
            let step = match field.r#type() == Type::Message && !repeated {
                true => format!(".and_then(|m| m.{member}.as_ref())"),
                false => format!(".map(|m| &m.{member})"),
            };
            let rust = format!("{}{step}", place.rust);
            let value = self.value(message, field, &rust)?;
            let given = match field.r#type() {
                Type::Message if !repeated => format!("{rust}.is_some()"),
                Type::Enum => format!("number({rust}) != 0"),
                _ => format!("given({rust})"),
            };
            let list = match place.list {
                Some(list) => format!("Some({list:?})"),
                None => "None".to_owned(),
            };
            let mark = self.mark(name, field.name());
            let doc = self.comments.line(index, at);
            let row = format!(
                "Field {{ path: {path:?}, value: {value}, given: |scope| {given}, \
                 list: {list}, mark: Mark::{mark}, doc: {doc:?} }},\n"
            );
            rows.push((path, row));
            if let Some(inner) = self.inner(message, field, place, rust)? {
                self.rows(self.local(field)?, &inner, rows)?;
            }
        }
        Ok(())
    }

    /// Where the fields of the message in `field` are found, where there are any.
    fn inner<'f>(
        &self,
        message: &DescriptorProto,
        field: &'f FieldDescriptorProto,
        place: &Place<'f>,
        rust: String,
    ) -> Result<Option<Place<'f>>, String> {
        let well_known = [TIMESTAMP, DURATION].contains(&field.type_name());
        let is_message = field.r#type() == Type::Message;
        if !is_message || well_known || map_entry(message, field).is_some() {
            return Ok(None);
        }
        let (name, depth) = (field.name(), place.depth + 1);
        if field.label() != Label::Repeated {
            return Ok(Some(Place {
                path: format!("{}{name}.", place.path),
                rust,
                list: place.list,
                depth,
            }));
        }
        // One index points into one list; lists inside the elements of another are left out.
        if place.list.is_some() || place.depth > 0 {
            return Ok(None);
        }
        let element = name.strip_suffix('s').unwrap_or(name);
        Ok(Some(Place {
            path: format!("{}{element}.", place.path),
            rust: format!(
                "{}.and_then(|m| m.{}.get(scope.element))",
                place.rust,
                ident(name)
            ),
            list: Some(name),
            depth,
        }))
    }

    fn value(
        &self,
        message: &DescriptorProto,
        field: &FieldDescriptorProto,
        rust: &str,
    ) -> Result<String, String> {
        let repeated = field.label() == Label::Repeated;
        if let Some(entry) = map_entry(message, field) {
            let value = entry.field.iter().find(|field| field.name() == "value");
            let (variant, reader) = match value.map(FieldDescriptorProto::r#type) {
                Some(Type::Float) => ("Single", "entry_float"),
                Some(Type::Double) => ("Double", "entry_float"),
                Some(Type::String) => ("Text", "entry_text"),
                _ => return Err("no accessor of such a map".to_owned()),
            };
            return Ok(format!(
                "Value::Map(&Map {{ count: |scope| count({rust}), \
                 has: |scope, key| entry({rust}, key).is_some(), \
                 value: MapValue::{variant}(|scope, key| {reader}({rust}, key)) }})"
            ));
        }
        let (variant, reader) = match field.r#type() {
            Type::String if repeated => ("Texts", "texts"),
            _ if repeated => ("List", "count"),
            Type::String => ("Text", "text"),
            Type::Bool => ("Bool", "given"),
            Type::Int32 | Type::Int64 | Type::Uint64 => ("Int", "whole"),
            Type::Float => ("Single", "float"),
            Type::Double => ("Double", "float"),
            Type::Enum => {
                let names = self.enumeration(message, field)?;
                return Ok(format!("Value::Enum({names}, |scope| number({rust}))"));
            }
            Type::Message => match field.type_name() {
                TIMESTAMP => ("Time", "whole"),
                DURATION => ("Duration", "whole"),
                _ if self.local(field)? == "Money" => ("Money", "whole"),
                _ => return Ok("Value::Message".to_owned()),
            },
            other => return Err(format!("no accessor of {}", other.as_str_name())),
        };
        Ok(format!("Value::{variant}(|scope| {reader}({rust}))"))
    }

    /// The names and numbers of the enum of `field`, which is one inside `message`.
    fn enumeration(
        &self,
        message: &DescriptorProto,
        field: &FieldDescriptorProto,
    ) -> Result<String, String> {
        let name = self.local(field)?;
        let nested = name.strip_prefix(&format!("{}.", message.name()));
        let found = message
            .enum_type
            .iter()
            .find(|nested_enum| Some(nested_enum.name()) == nested)
            .ok_or_else(|| format!("{}: only enums of the message itself", field.name()))?;
        let mut values = String::new();
        for value in &found.value {
            let (name, number) = (value.name(), value.number());
            if !(0..=ENUM_NUMBER_MAX).contains(&number) {
                return Err(format!("{name}: only numbers from 0 to {ENUM_NUMBER_MAX}"));
            }
            values += &format!("({name:?}, {number}), ");
        }
        Ok(format!(
            "&Enumeration {{ name: {name:?}, values: &[{values}] }}"
        ))
    }

    fn mark(&self, message: &str, name: &str) -> String {
        let mark = match () {
            () if name.ends_with("_hash") => "hash",
            () if self.marks.life_fields.contains(&name) => "life",
            () if self.marks.is_text(message, name) => "free_text",
            () => "plain",
        };
        upper_camel(mark)
    }
}
