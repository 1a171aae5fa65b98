//! Writes the Rust of one message: the view's struct, how its fields are found in JSON and on the
//! wire, what is checked, and the JSON writer of its prost twin. What a field does is in
//! `src/field.rs` and beside it; here fields are only listed, so that the templates stay plain.

/// A message, as the templates need it.
pub struct Message {
    /// As in the .proto.
    pub name: String,
    /// The view's type: the name, with a lifetime where it borrows.
    pub view: String,
    pub comment: String,
    /// Names of the enums inside.
    pub enums: Vec<String>,
    pub fields: Vec<Field>,
    pub oneof: Option<Oneof>,
    /// `rules.rs` has a function for it.
    pub ruled: bool,
}

/// One field.
pub struct Field {
    /// As in the .proto.
    pub name: String,
    /// The other name that JSON may use.
    pub camel: String,
    pub number: i32,
    /// Type in the view.
    pub rust: String,
    /// Free text.
    pub text: bool,
    /// A map, whose keys are ids whatever its values are.
    pub is_map: bool,
    /// prost holds enums as numbers.
    pub is_enum: bool,
    /// For a member of the oneof, its variant.
    pub variant: Option<String>,
    pub comment: String,
}

/// The oneof of a message.
pub struct Oneof {
    pub name: String,
    pub comment: String,
}

/// All of a message's code.
pub fn message(message: &Message) -> String {
    [
        structs(message),
        readers(message),
        checks(message),
        writer(message),
    ]
    .concat()
}

impl Message {
    /// The fields outside the oneof.
    fn plain(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.variant.is_none())
    }

    /// A `match` over the oneof of `self`, where there is one: `arm` writes what is done
    /// with the `body` of one variant.
    fn match_oneof(&self, arm: impl Fn(&Field, &str) -> String) -> String {
        let Some(oneof) = &self.oneof else {
            return String::new();
        };
        let arms: String = self
            .fields
            .iter()
            .filter_map(|field| Some(arm(field, field.variant.as_deref()?)))
            .collect();
        format!(
            "match &self.{} {{ None => {{}} {arms} }}\n",
            ident(&oneof.name)
        )
    }
}

fn structs(message: &Message) -> String {
    let Message {
        name,
        view,
        comment,
        ..
    } = message;
    let enums: String = message
        .enums
        .iter()
        .map(|nested| {
            format!(
                "enumeration!(pb::{}::{nested}, \"{name}.{nested}\");\n",
                snake(name)
            )
        })
        .collect();
    let mut members: String = message
        .plain()
        .map(|field| {
            format!(
                "{}pub {}: {},\n",
                field.comment,
                ident(&field.name),
                field.rust
            )
        })
        .collect();
    let mut choice = String::new();
    if let Some(oneof) = &message.oneof {
        let body = upper_camel(&oneof.name);
        let variants: String = message
            .fields
            .iter()
            .filter_map(|field| Some((field.variant.as_ref()?, &field.rust)))
            .map(|(variant, rust)| format!("/// The message of that name.\n{variant}({rust}),\n"))
            .collect();
        members += &format!(
            "{}pub {}: Option<{body}<'a>>,\n",
            oneof.comment,
            ident(&oneof.name)
        );
        choice = format!(
            r#"
{}#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a box would cost every event an allocation")]
pub enum {body}<'a> {{ {variants} }}
"#,
            oneof.comment
        );
    }
    let copy = if view == name { "Copy, " } else { "" };
    format!(
        "
{enums}
{comment}#[derive(Clone, {copy}Debug, Default, PartialEq)]
pub struct {view} {{ {members} }}
{choice}"
    )
}

fn readers(message: &Message) -> String {
    let view = &message.view;
    let (mut fields, mut names) = (String::new(), String::new());
    let (mut wire, mut json) = (String::new(), String::new());
    for (place, field) in message.fields.iter().enumerate() {
        let Field {
            name,
            camel,
            number,
            ..
        } = field;
        fields += &format!("({number}, {name:?}),\n");
        let other = if camel == name {
            String::new()
        } else {
            format!("| b{camel:?}")
        };
        names += &format!("b{name:?} {other} => {place},\n");
        let (from_wire, from_json) = match (&message.oneof, &field.variant) {
            (Some(oneof), Some(variant)) => {
                let choice = choice(oneof, variant);
                (
                    format!("wire::choose({choice}, wire, input)"),
                    format!("json::choose({choice}, map, trail)"),
                )
            }
            _ => (
                format!("self.{}.merge_wire(wire, input)", ident(name)),
                format!("json::member(&mut self.{}, map, trail)", ident(name)),
            ),
        };
        wire += &format!("{number} => {from_wire},\n");
        json += &format!("{place} => {from_json},\n");
    }
    format!(
        "
message!({view});

impl<'a> Message<'a> for {view} {{
    const FIELDS: &'static [(u32, &'static str)] = &[{fields}];

    fn member(name: &[u8]) -> Option<usize> {{
        Some(match name {{ {names} _ => return None }})
    }}

    fn merge_wire(&mut self, number: u32, wire: Wire, input: &mut Reader<'a>) -> Result<(), Fault> {{
        match number {{ {wire} _ => input.skip(number, wire) }}
    }}

    fn merge_json<A: MapAccess<'a>>(
        &mut self,
        member: usize,
        map: &mut A,
        trail: &Trail,
    ) -> Result<(), A::Error> {{
        match member {{ {json} _ => json::skip(map, trail) }}
    }}
}}
"
    )
}

/// A oneof's field, how its `variant` is made, and how it is found again.
fn choice(oneof: &Oneof, variant: &str) -> String {
    let path = format!("{}::{variant}", upper_camel(&oneof.name));
    format!(
        "&mut self.{}, {path}, |body| match body {{ {path}(member) => Some(member), _ => None }}",
        ident(&oneof.name)
    )
}

fn checks(message: &Message) -> String {
    let view = message.view.replace("'a", "'_");
    let fields: String = message
        .plain()
        .map(|field| {
            let ident = ident(&field.name);
            let call = match (field.text, field.is_map) {
                (true, true) => format!("check::texts(&self.{ident})"),
                (true, false) => format!("check::text(&self.{ident})"),
                (false, _) => format!("self.{ident}.check()"),
            };
            format!("check::field({:?}, {call})?;\n", field.name)
        })
        .collect();
    let oneof = message.oneof.as_ref().map_or("", |oneof| &oneof.name);
    let body = message.match_oneof(|field, variant| {
        let (name, path) = (&field.name, upper_camel(oneof));
        format!("Some({path}::{variant}(body)) => check::field({name:?}, body.check())?,\n")
    });
    let rule = match message.ruled {
        true => format!("rules::{}(self)", snake(&message.name)),
        false => "Ok(())".to_owned(),
    };
    format!(
        "
impl Check for {view} {{
    fn check(&self) -> Result<(), Fault> {{
        {fields} {body} {rule}
    }}
}}
"
    )
}

fn writer(message: &Message) -> String {
    let name = &message.name;
    let members: String = message
        .plain()
        .map(|field| {
            let (name, ident) = (&field.name, ident(&field.name));
            match field.is_enum {
                true => format!(
                    "object.enumeration({name:?}, self.{ident}, self.{ident}().as_str_name());\n"
                ),
                false => format!("object.member({name:?}, &self.{ident});\n"),
            }
        })
        .collect();
    let oneof = message.oneof.as_ref().map_or("", |oneof| &oneof.name);
    let body = message.match_oneof(|field, variant| {
        let path = format!("pb::{}::{}::{variant}", snake(name), upper_camel(oneof));
        format!(
            "Some({path}(body)) => object.required({:?}, body),\n",
            field.name
        )
    });
    format!(
        "
impl Members for pb::{name} {{
    fn members(&self, object: &mut Object<'_>) {{
        {members} {body}
    }}
}}
"
    )
}

/// A field's name in Rust.
pub fn ident(name: &str) -> String {
    match name {
        "type" | "in" | "as" | "use" | "move" | "ref" | "match" | "where" => format!("r#{name}"),
        _ => name.to_owned(),
    }
}

/// `order_line` as `OrderLine`.
pub fn upper_camel(name: &str) -> String {
    let mut out = String::new();
    for part in name.split('_') {
        let mut letters = part.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// `OrderLine` as `order_line`.
pub fn snake(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
