//! Turns message descriptors into the borrowed views: for each message a struct, how its fields
//! are found in JSON and on the wire, and what is checked; and the JSON writer of its prost twin.
//! What a field does is in `src/field.rs` and beside it; this file only lists the fields. It knows
//! the constructs that events.proto uses and refuses any other by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// What the .proto does not tell.
pub struct Marks<'a> {
    /// Names of the string fields that hold free text.
    pub text_fields: &'a [&'a str],
    /// Names of the messages that `rules.rs` knows.
    pub ruled_messages: &'a [&'a str],
}

/// More fields than this do not fit the set of those already seen (a `u64`).
const FIELDS_MAX: usize = 64;

const TIMESTAMP: &str = ".google.protobuf.Timestamp";
const DURATION: &str = ".google.protobuf.Duration";

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
    let names: BTreeSet<&str> = file
        .message_type
        .iter()
        .map(|message| message.name())
        .collect();
    if let Some(stranger) = marks
        .ruled_messages
        .iter()
        .find(|name| !names.contains(*name))
    {
        return Err(format!("ruled message {stranger} is not in {package}"));
    }
    let generator = Generator {
        prefix: format!(".{package}."),
        borrowing: borrowing(file, package),
        comments: comments(file),
        marks,
    };
    let mut code = String::from("// Generated from events.proto by build/views.rs.\n");
    for (index, message) in file.message_type.iter().enumerate() {
        generator
            .message(&mut code, message, index as i32)
            .map_err(|error| format!("{package}.{}: {error}", message.name()))?;
    }
    Ok(code)
}

/// Names of the messages that hold a string, themselves or further down.
fn borrowing(file: &FileDescriptorProto, package: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for message in &file.message_type {
            let borrows = message.field.iter().any(|field| match field.r#type() {
                Type::String => true,
                Type::Message => {
                    let name = field
                        .type_name()
                        .trim_start_matches(&format!(".{package}."));
                    found.contains(name) || is_map(message, field)
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
fn comments(file: &FileDescriptorProto) -> BTreeMap<Vec<i32>, String> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    locations
        .filter(|location| !location.leading_comments().trim().is_empty())
        .map(|location| {
            (
                location.path.clone(),
                location.leading_comments().to_owned(),
            )
        })
        .collect()
}

fn is_map(message: &DescriptorProto, field: &FieldDescriptorProto) -> bool {
    map_entry(message, field).is_some()
}

fn map_entry<'a>(
    message: &'a DescriptorProto,
    field: &FieldDescriptorProto,
) -> Option<&'a DescriptorProto> {
    let name = field.type_name().rsplit('.').next()?;
    message.nested_type.iter().find(|nested| {
        nested.name() == name
            && nested
                .options
                .as_ref()
                .is_some_and(|options| options.map_entry())
    })
}

/// One field, as the emitters below need it.
struct Field<'a> {
    /// As in the .proto.
    name: &'a str,
    /// As in Rust: the same, escaped where it is a keyword.
    ident: String,
    /// The other name that JSON may use.
    camel: &'a str,
    number: i32,
    /// Type in the view.
    rust: String,
    /// Free text.
    text: bool,
    /// A single enum, which prost holds as a number.
    enumeration: bool,
    /// For a member of a oneof, its variant.
    variant: Option<String>,
    comment: String,
}

struct Generator<'a> {
    prefix: String,
    borrowing: BTreeSet<String>,
    comments: BTreeMap<Vec<i32>, String>,
    marks: &'a Marks<'a>,
}

impl Generator<'_> {
    fn message(
        &self,
        code: &mut String,
        message: &DescriptorProto,
        index: i32,
    ) -> Result<(), String> {
        let name = message.name();
        if message.field.len() > FIELDS_MAX {
            return Err(format!("more than {FIELDS_MAX} fields"));
        }
        let fields = message
            .field
            .iter()
            .enumerate()
            .map(|(at, field)| {
                let path = [4, index, 2, at as i32];
                self.field(message, field, &path)
                    .map_err(|error| format!("{}: {error}", field.name()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let oneof = match message.oneof_decl.as_slice() {
            [] => None,
            [oneof] => Some((oneof.name(), self.comment(&[4, index, 8, 0], "    "))),
            _ => return Err("only one oneof a message".to_owned()),
        };
        for nested in &message.enum_type {
            let path = format!("pb::{}::{}", snake(name), nested.name());
            put(
                code,
                &format!("\nenumeration!({path}, \"{name}.{}\");", nested.name()),
            );
        }
        let view = self.view(name);
        self.structs(
            code,
            name,
            &fields,
            oneof.as_ref(),
            &self.comment(&[4, index], ""),
        );
        self.readers(code, &view, &fields, oneof.as_ref());
        self.checks(code, name, &view, &fields, oneof.as_ref());
        self.writer(code, name, &fields, oneof.as_ref());
        Ok(())
    }

    fn field<'a>(
        &self,
        message: &DescriptorProto,
        field: &'a FieldDescriptorProto,
        path: &[i32],
    ) -> Result<Field<'a>, String> {
        let repeated = field.label() == Label::Repeated;
        let single = match field.r#type() {
            Type::String => "Cow<'a, str>".to_owned(),
            Type::Int32 => "i32".to_owned(),
            Type::Int64 => "i64".to_owned(),
            Type::Uint64 => "u64".to_owned(),
            Type::Float => "f32".to_owned(),
            Type::Double => "f64".to_owned(),
            Type::Bool => "bool".to_owned(),
            Type::Enum => self.enumeration(field.type_name())?,
            Type::Message => match field.type_name() {
                TIMESTAMP => "Timestamp".to_owned(),
                DURATION => "DurationMs".to_owned(),
                local => match map_entry(message, field) {
                    None => self.view(self.local(local)?),
                    Some(entry) if string_to_float(entry) => "(Cow<'a, str>, f32)".to_owned(),
                    Some(_) => return Err("only maps from string to float".to_owned()),
                },
            },
            other => return Err(format!("no views of {}", other.as_str_name())),
        };
        if field.proto3_optional() || (repeated && field.r#type() == Type::Enum) {
            return Err("neither `optional` nor repeated enums".to_owned());
        }
        let variant = field.oneof_index.map(|_| upper_camel(field.name()));
        let message_like = field.r#type() == Type::Message && variant.is_none();
        let rust = match (repeated, message_like) {
            (true, _) => format!("Vec<{single}>"),
            (false, true) => format!("Option<{single}>"),
            (false, false) => single,
        };
        Ok(Field {
            name: field.name(),
            ident: ident(field.name()),
            camel: field.json_name(),
            number: field.number(),
            rust,
            text: self.marks.text_fields.contains(&field.name()),
            enumeration: field.r#type() == Type::Enum,
            variant,
            comment: self.comment(path, "    "),
        })
    }

    fn structs(
        &self,
        code: &mut String,
        name: &str,
        fields: &[Field<'_>],
        oneof: Option<&(&str, String)>,
        comment: &str,
    ) {
        let view = self.view(name);
        let derive = if self.borrowing.contains(name) {
            "Clone, Debug, Default, PartialEq"
        } else {
            "Clone, Copy, Debug, Default, PartialEq"
        };
        put(
            code,
            &format!("\n{comment}#[derive({derive})]\npub struct {view} {{"),
        );
        for field in fields.iter().filter(|field| field.variant.is_none()) {
            put(
                code,
                &format!("{}    pub {}: {},", field.comment, field.ident, field.rust),
            );
        }
        let Some((oneof, comment)) = oneof else {
            put(code, "}");
            return;
        };
        let body = upper_camel(oneof);
        put(
            code,
            &format!("{comment}    pub {}: Option<{body}<'a>>,\n}}", ident(oneof)),
        );
        let head = comment.replace("    ///", "///");
        put(code, &format!("\n{head}#[derive(Clone, Debug, PartialEq)]"));
        // Boxing would cost every event an allocation to make a rare move shorter.
        put(
            code,
            "#[allow(clippy::large_enum_variant, reason = \"decoded in place, seldom moved\")]",
        );
        put(code, &format!("pub enum {body}<'a> {{"));
        for (field, variant) in variants(fields) {
            put(
                code,
                &format!(
                    "    /// The message of that name.\n    {variant}({}),",
                    field.rust
                ),
            );
        }
        put(code, "}");
    }

    fn readers(
        &self,
        code: &mut String,
        view: &str,
        fields: &[Field<'_>],
        oneof: Option<&(&str, String)>,
    ) {
        put(
            code,
            &format!("\nmessage!({view});\n\nimpl<'a> Message<'a> for {view} {{"),
        );
        put(
            code,
            "    const FIELDS: &'static [(u32, &'static str)] = &[",
        );
        for field in fields {
            put(
                code,
                &format!("        ({}, {:?}),", field.number, field.name),
            );
        }
        put(
            code,
            "    ];\n\n    fn member(name: &[u8]) -> Option<usize> {\n        Some(match name {",
        );
        for (index, field) in fields.iter().enumerate() {
            let camel = match field.camel == field.name {
                true => String::new(),
                false => format!(" | b{:?}", field.camel),
            };
            put(
                code,
                &format!("            b{:?}{camel} => {index},", field.name),
            );
        }
        put(code, "            _ => return None,\n        })\n    }\n");
        put(
            code,
            "    fn merge_wire(&mut self, number: u32, wire: Wire, input: &mut Reader<'a>) -> Result<(), Fault> {",
        );
        put(code, "        match number {");
        for field in fields {
            let call = match (&field.variant, oneof) {
                (Some(variant), Some((oneof, _))) => format!(
                    "wire::choose(&mut self.{}, {}::{variant}, wire, input)",
                    ident(oneof),
                    upper_camel(oneof)
                ),
                _ => format!("self.{}.merge_wire(wire, input)", field.ident),
            };
            put(code, &format!("            {} => {call},", field.number));
        }
        put(
            code,
            "            _ => input.skip(number, wire),\n        }\n    }\n",
        );
        put(
            code,
            "    fn merge_json<A: MapAccess<'a>>(&mut self, member: usize, map: &mut A, trail: &Trail) -> Result<(), A::Error> {",
        );
        put(code, "        match member {");
        for (index, field) in fields.iter().enumerate() {
            let call = match (&field.variant, oneof) {
                (Some(variant), Some((oneof, _))) => format!(
                    "json::choose(&mut self.{}, {}::{variant}, map, trail)",
                    ident(oneof),
                    upper_camel(oneof)
                ),
                _ => format!("json::member(&mut self.{}, map, trail)", field.ident),
            };
            put(code, &format!("            {index} => {call},"));
        }
        put(
            code,
            "            _ => json::skip(map, trail),\n        }\n    }\n}",
        );
    }

    fn checks(
        &self,
        code: &mut String,
        name: &str,
        view: &str,
        fields: &[Field<'_>],
        oneof: Option<&(&str, String)>,
    ) {
        let view = view.replace("'a", "'_");
        put(code, &format!("\nimpl Check for {view} {{"));
        put(code, "    fn check(&self) -> Result<(), Fault> {");
        for field in fields.iter().filter(|field| field.variant.is_none()) {
            let call = match field.text {
                true => format!("check::text(&self.{})", field.ident),
                false => format!("self.{}.check()", field.ident),
            };
            put(
                code,
                &format!("        check::field({:?}, {call})?;", field.name),
            );
        }
        if let Some((oneof, _)) = oneof {
            put(
                code,
                &format!(
                    "        match &self.{} {{\n            None => {{}}",
                    ident(oneof)
                ),
            );
            for (field, variant) in variants(fields) {
                let body = upper_camel(oneof);
                let call = format!("check::field({:?}, body.check())?", field.name);
                put(
                    code,
                    &format!("            Some({body}::{variant}(body)) => {call},"),
                );
            }
            put(code, "        }");
        }
        let last = match self.marks.ruled_messages.contains(&name) {
            true => format!("rules::{}(self)", snake(name)),
            false => "Ok(())".to_owned(),
        };
        put(code, &format!("        {last}\n    }}\n}}"));
    }

    fn writer(
        &self,
        code: &mut String,
        name: &str,
        fields: &[Field<'_>],
        oneof: Option<&(&str, String)>,
    ) {
        put(code, &format!("\nimpl Members for pb::{name} {{"));
        put(code, "    fn members(&self, object: &mut Object<'_>) {");
        for field in fields.iter().filter(|field| field.variant.is_none()) {
            put(
                code,
                &match field.enumeration {
                    true => format!(
                        "        object.enumeration({:?}, self.{}, self.{}().as_str_name());",
                        field.name, field.ident, field.ident
                    ),
                    false => format!(
                        "        object.member({:?}, &self.{});",
                        field.name, field.ident
                    ),
                },
            );
        }
        if let Some((oneof, _)) = oneof {
            put(
                code,
                &format!(
                    "        match &self.{} {{\n            None => {{}}",
                    ident(oneof)
                ),
            );
            for (field, variant) in variants(fields) {
                let path = format!("pb::{}::{}::{variant}", snake(name), upper_camel(oneof));
                put(
                    code,
                    &format!(
                        "            Some({path}(body)) => object.required({:?}, body),",
                        field.name
                    ),
                );
            }
            put(code, "        }");
        }
        put(code, "    }\n}");
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
            .filter(|name| !name.contains('.'))
            .ok_or_else(|| format!("message {name} is neither here nor well known"))
    }

    fn enumeration(&self, name: &str) -> Result<String, String> {
        let nested = name
            .strip_prefix(self.prefix.as_str())
            .and_then(|name| name.split_once('.'));
        let (message, name) =
            nested.ok_or_else(|| format!("enum {name} is not in a message of this package"))?;
        Ok(format!("pb::{}::{name}", snake(message)))
    }

    /// The comment at `path` as documentation, each line behind `indent`.
    fn comment(&self, path: &[i32], indent: &str) -> String {
        let text = self
            .comments
            .get(path)
            .map_or("As its name says.", |text| text.trim());
        let mut out = String::new();
        for line in text.lines() {
            let _ = writeln!(out, "{indent}/// {}", line.trim());
        }
        out
    }
}

fn put(code: &mut String, text: &str) {
    code.push_str(text);
    code.push('\n');
}

fn variants<'f>(fields: &'f [Field<'f>]) -> impl Iterator<Item = (&'f Field<'f>, &'f str)> {
    fields
        .iter()
        .filter_map(|field| Some((field, field.variant.as_deref()?)))
}

fn string_to_float(entry: &DescriptorProto) -> bool {
    entry
        .field
        .iter()
        .map(|field| field.r#type())
        .eq([Type::String, Type::Float])
}

fn ident(name: &str) -> String {
    match name {
        "type" | "in" | "as" | "use" | "move" | "ref" | "match" | "where" => format!("r#{name}"),
        _ => name.to_owned(),
    }
}

fn upper_camel(name: &str) -> String {
    let mut out = String::new();
    for part in name.split('_') {
        let mut letters = part.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
