//! Random events and random well-typed expressions, grown from a seed: proptest picks and prints it.

use fenghuo_event::Stream;
use serde_json::{Map, Value as Json, json};

use super::META;

/// SplitMix64: good enough to vary tests, and the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// The types that expressions are grown of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Time,
    Duration,
    Money,
    Float,
    /// A Float that is kept in 64 bits; of fields alone.
    Double,
    Text,
    Enum,
    Texts,
    List,
}

impl Kind {
    /// The type of such a field's value.
    fn grown(self) -> Kind {
        match self {
            Kind::Double => Kind::Float,
            other => other,
        }
    }
}

/// The types that a whole expression over `stream` may have: feedback knows no money.
pub(super) fn grown(stream: Stream) -> &'static [Kind] {
    use Kind::{Bool, Duration, Float, Int, Money, Text, Time};
    match stream {
        Stream::Orders => &[Bool, Int, Time, Duration, Float, Text, Money],
        _ => &[Bool, Int, Time, Duration, Float, Text],
    }
}

/// An expression as a person would think of it; it knows nothing of how it is compiled.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'static str),
    /// Seconds.
    Span(i64),
    Field(Kind, &'static str),
    Unary(&'static str, Box<Tree>),
    Binary(&'static str, Box<[Tree; 2]>),
    In(Box<Tree>, Vec<Tree>),
    If(Box<[Tree; 3]>),
    Call(&'static str, Vec<Tree>),
    Method(Box<Tree>, &'static str, Vec<Tree>),
}

const TEXTS: [&str; 7] = [
    "",
    "app",
    "APP",
    "Coupon",
    "PAID",
    "烽火 é",
    "it's \"so\"\\\n",
];
const ORDER_TYPES: [&str; 4] = ["PLACED", "PAID", "PAYMENT_FAILED", "HELD"];
const KINDS: [&str; 3] = ["REVIEW", "CHAT", "COMPLAINT"];
const PHASES: [&str; 3] = ["OPENED", "ANSWERED", "PHASE_UNSPECIFIED"];

/// The fields that are read of a stream.
fn fields(stream: Stream) -> &'static [(Kind, &'static str)] {
    match stream {
        Stream::Orders => &[
            (Kind::Bool, "line.is_gift"),
            (Kind::Bool, "meta.synthetic"),
            (Kind::Int, "line.quantity"),
            (Kind::Int, "line.pack_units"),
            (Kind::Int, "group_size_needed"),
            (Kind::Int, "total.minor_units"),
            (Kind::Money, "line.unit_price"),
            (Kind::Money, "total"),
            (Kind::Time, "placed_at"),
            (Kind::Time, "paid_at"),
            (Kind::Time, "occurred_at"),
            (Kind::Text, "channel"),
            (Kind::Text, "error_code"),
            (Kind::Text, "line.sku_id"),
            (Kind::Enum, "type"),
            (Kind::Texts, "promotion_ids"),
            (Kind::List, "lines"),
        ],
        Stream::Custom => &[
            (Kind::Bool, "meta.synthetic"),
            (Kind::Int, "meta.source_seq"),
            (Kind::Time, "occurred_at"),
            (Kind::Time, "recorded_at"),
            (Kind::Text, "name"),
            (Kind::Text, "entity.machine"),
            (Kind::Text, "entity.hall"),
            (Kind::Text, "texts.state"),
            (Kind::Double, "numbers.celsius"),
            (Kind::Double, "numbers.ms"),
            (Kind::List, "entity"),
            (Kind::List, "numbers"),
            (Kind::List, "texts"),
        ],
        _ => &[
            (Kind::Bool, "verified_purchase"),
            (Kind::Int, "rating"),
            (Kind::Int, "urgency"),
            (Kind::Float, "dsr_service"),
            (Kind::Float, "sentiment"),
            (Kind::Time, "customer_since"),
            (Kind::Time, "recorded_at"),
            (Kind::Text, "queue"),
            (Kind::Text, "text"),
            (Kind::Enum, "kind"),
            (Kind::Enum, "phase"),
        ],
    }
}

/// The names that the enum at `path` takes in random events.
pub(super) fn names(path: &str) -> &'static [&'static str] {
    match path {
        "type" => &ORDER_TYPES,
        "kind" => &KINDS,
        _ => &PHASES,
    }
}

/// An event of `stream`, with about half of its fields given.
pub(super) fn event(stream: Stream, random: &mut Random) -> Json {
    if stream == Stream::Custom {
        return custom(random);
    }
    let mut body = Map::new();
    let name = match stream {
        Stream::Orders => {
            body.insert("order_id".into(), json!("o1"));
            let lines: Vec<Json> = (0..random.below(3)).map(|_| line(random)).collect();
            if !lines.is_empty() {
                body.insert("lines".into(), lines.into());
            }
            "order"
        }
        _ => {
            body.insert("feedback_id".into(), json!("f1"));
            "feedback"
        }
    };
    let mut meta: Json = serde_json::from_str(&format!("{{{META}}}")).unwrap();
    for (kind, path) in fields(stream) {
        let required = ["type", "kind"].contains(path);
        if path.contains('.') || path.ends_with("_at") && stream != Stream::Orders {
            continue;
        }
        if *path == "occurred_at" || *kind == Kind::List || !required && random.below(2) == 0 {
            continue;
        }
        let value = field(*kind, path, random);
        body.insert((*path).into(), value);
    }
    meta["meta"]["synthetic"] = json!(random.below(2) == 0);
    meta[name] = Json::Object(body);
    meta
}

/// A custom event, with about half of the entries that are read, and now and then another.
fn custom(random: &mut Random) -> Json {
    let mut body = Map::new();
    body.insert("name".into(), json!(random.pick(&["app", "coupon"])));
    for (kind, path) in fields(Stream::Custom) {
        let Some((map, key)) = path.split_once('.').filter(|(map, _)| *map != "meta") else {
            continue;
        };
        let key = if random.below(6) == 0 { "other" } else { key };
        if random.below(2) == 0 {
            continue;
        }
        let value = match kind {
            Kind::Double => json!(random.pick(&[0.0, 0.1, 0.7, -2.5, 3.0, 1e12])),
            _ if map == "texts" => json!(random.pick(&TEXTS)),
            _ => json!(random.pick(&TEXTS[..5])),
        };
        let map = body.entry(map).or_insert_with(|| json!({}));
        map[key] = value;
    }
    let mut event: Json = serde_json::from_str(&format!("{{{META}}}")).unwrap();
    event["meta"]["synthetic"] = json!(random.below(2) == 0);
    event["meta"]["source_seq"] = json!(random.below(4));
    event["custom"] = Json::Object(body);
    event
}

fn line(random: &mut Random) -> Json {
    let mut line = json!({"sku_id": random.pick(&["s1", "PAID"]), "quantity": 1 + random.below(9)});
    if random.below(2) == 0 {
        line["unit_price"] = json!({"currency_code": "CNY", "minor_units": random.below(99_999)});
        line["is_gift"] = json!(true);
    }
    if random.below(2) == 0 {
        line["pack_units"] = json!(random.below(7));
    }
    line
}

fn field(kind: Kind, path: &str, random: &mut Random) -> Json {
    match kind {
        Kind::Bool => json!(random.below(2) == 0),
        Kind::Int => json!(random.below(4)),
        Kind::Float => json!(random.pick(&[0.1, 0.5, 0.7, 1.0])),
        Kind::Money => {
            json!({"currency_code": "CNY", "minor_units": random.pick(&[0, 3, 100, 999_999])})
        }
        Kind::Time => json!(format!(
            "2026-11-{:02}T0{}:00:00Z",
            1 + random.below(30),
            random.below(9)
        )),
        Kind::Text if path == "text" => json!(random.pick(&TEXTS)),
        Kind::Text => json!(random.pick(&TEXTS[..5])),
        Kind::Enum => json!(random.pick(names(path))),
        _ => json!(["app", "PAID"]),
    }
}

/// Grows expressions over one stream.
pub(super) struct Grower<'r> {
    pub(super) stream: Stream,
    pub(super) random: &'r mut Random,
}

impl Grower<'_> {
    /// An expression of type `kind`, at most `depth` operators deep.
    pub(super) fn grow(&mut self, kind: Kind, depth: usize) -> Tree {
        if depth == 0 || self.random.below(6) == 0 {
            return self.leaf(kind);
        }
        let below = depth - 1;
        if self.random.below(6) == 0 {
            let parts = [
                self.grow(Kind::Bool, below),
                self.grow(kind, below),
                self.grow(kind, below),
            ];
            return Tree::If(Box::new(parts));
        }
        match kind {
            Kind::Bool => self.condition(below),
            Kind::Text => Tree::Method(Box::new(self.text(below)), "lower", vec![]),
            Kind::Time => {
                let sign = self.random.pick(&["+", "-"]);
                self.binary(sign, Kind::Time, Kind::Duration, below)
            }
            _ => self.number(kind, below),
        }
    }

    fn binary(&mut self, sign: &'static str, left: Kind, right: Kind, depth: usize) -> Tree {
        let sides = [self.grow(left, depth), self.grow(right, depth)];
        Tree::Binary(sign, Box::new(sides))
    }

    /// A text or an enum, which is one wherever it is not compared.
    fn text(&mut self, depth: usize) -> Tree {
        match self.random.below(3) {
            0 if self.stream != Stream::Custom => self.field(Kind::Enum),
            _ => self.grow(Kind::Text, depth),
        }
    }

    fn leaf(&mut self, kind: Kind) -> Tree {
        let mut fields = fields(self.stream).iter();
        if self.random.below(3) > 0 && fields.any(|(of, _)| of.grown() == kind) {
            return self.field(kind);
        }
        match kind {
            Kind::Bool => Tree::Bool(self.random.below(2) == 0),
            Kind::Int => Tree::Int(
                self.random
                    .pick(&[0, 1, 2, 3, -1, 60_000, i64::MAX, i64::MIN]),
            ),
            Kind::Float => Tree::Float(self.random.pick(&[0.0, 0.1, 0.7, -2.5, 3.0, 1e300])),
            Kind::Text => Tree::Text(self.random.pick(&TEXTS)),
            Kind::Duration => Tree::Span(self.random.pick(&[0, 1, 90, 3_600, 86_400])),
            // There are no literals of these.
            Kind::Money | Kind::Time => self.field(kind),
            _ => unreachable!("{kind:?} is not grown"),
        }
    }

    fn field(&mut self, kind: Kind) -> Tree {
        let of_kind = |(of, _): &&(Kind, &str)| of.grown() == kind;
        let all: Vec<_> = fields(self.stream).iter().filter(of_kind).collect();
        let (kind, path) = self.random.pick(&all);
        Tree::Field(*kind, path)
    }

    fn condition(&mut self, depth: usize) -> Tree {
        match self.random.below(10) {
            0 | 1 => {
                let sign = self.random.pick(&["&&", "||", "==", "!="]);
                self.binary(sign, Kind::Bool, Kind::Bool, depth)
            }
            2 => Tree::Unary("!", Box::new(self.grow(Kind::Bool, depth))),
            3 | 4 => {
                let sign = self.random.pick(&["==", "!=", "<", "<=", ">", ">="]);
                let kind = self.random.pick(&grown(self.stream)[1..]);
                let other = match kind {
                    Kind::Int => self.random.pick(&[Kind::Int, Kind::Float]),
                    _ => kind,
                };
                self.binary(sign, kind, other, depth)
            }
            5 | 6 if self.stream != Stream::Custom => self.of_enum(),
            7 => {
                let name = self.random.pick(&["startsWith", "endsWith", "contains"]);
                let part = match name {
                    "contains" => Tree::Text(self.random.pick(&TEXTS)),
                    _ => self.text(depth),
                };
                Tree::Method(Box::new(self.text(depth)), name, vec![part])
            }
            5 | 8 => self.has(),
            _ => self.membership(depth),
        }
    }

    fn of_enum(&mut self) -> Tree {
        let field = self.field(Kind::Enum);
        let Tree::Field(_, path) = &field else {
            unreachable!("a field")
        };
        let names = names(path);
        let first = Tree::Text(self.random.pick(names));
        let second = Tree::Text(self.random.pick(names));
        match self.random.below(4) {
            0 => Tree::Binary("==", Box::new([field, first])),
            1 => Tree::Binary("!=", Box::new([first, field])),
            _ => Tree::In(Box::new(field), vec![first, second]),
        }
    }

    fn has(&mut self) -> Tree {
        let (kind, path) = self.random.pick(fields(self.stream));
        Tree::Call("has", vec![Tree::Field(kind, path)])
    }

    fn membership(&mut self, depth: usize) -> Tree {
        match self.random.below(4) {
            0 if self.stream == Stream::Orders => {
                let sides = [self.text(depth), self.field(Kind::Texts)];
                Tree::Binary("in", Box::new(sides))
            }
            0 | 1 => Tree::In(
                Box::new(self.grow(Kind::Text, depth)),
                vec![Tree::Text("app"), Tree::Text("PAID")],
            ),
            2 => Tree::In(
                Box::new(self.grow(Kind::Int, depth)),
                vec![Tree::Int(0), Tree::Int(-1), Tree::Int(3)],
            ),
            _ => Tree::In(
                Box::new(self.grow(Kind::Float, depth)),
                vec![Tree::Float(0.7), Tree::Int(1)],
            ),
        }
    }

    /// An Int, a Float, a Duration or a Money.
    fn number(&mut self, kind: Kind, depth: usize) -> Tree {
        match self.random.below(6) {
            0 => Tree::Unary("-", Box::new(self.grow(kind, depth))),
            1 => Tree::Call("abs", vec![self.grow(kind, depth)]),
            2 => {
                let name = self.random.pick(&["min", "max"]);
                Tree::Call(name, vec![self.grow(kind, depth), self.grow(kind, depth)])
            }
            3 => {
                let sign = self.random.pick(&["+", "-", "%"]);
                self.binary(sign, kind, kind, depth)
            }
            4 => match kind {
                Kind::Int | Kind::Float => {
                    let sign = self.random.pick(&["*", "/"]);
                    self.binary(sign, kind, kind, depth)
                }
                _ => {
                    let sign = self.random.pick(&["*", "/"]);
                    self.binary(sign, kind, Kind::Int, depth)
                }
            },
            _ => self.converted(kind, depth),
        }
    }

    /// A number made from another type.
    fn converted(&mut self, kind: Kind, depth: usize) -> Tree {
        let from = self.random.pick(&grown(self.stream)[..5]);
        match kind {
            Kind::Duration => self.binary("-", Kind::Time, Kind::Time, depth),
            Kind::Float => match self.random.below(3) {
                0 => self.binary("/", Kind::Duration, Kind::Duration, depth),
                1 => self.binary("*", Kind::Int, Kind::Float, depth),
                _ => Tree::Call("float", vec![self.grow(from, depth)]),
            },
            Kind::Int => match self.random.below(3) {
                0 => Tree::Method(Box::new(self.text(depth)), "size", vec![]),
                1 if self.stream == Stream::Orders => {
                    let list = self.random.pick(&[Kind::Texts, Kind::List]);
                    Tree::Method(Box::new(self.field(list)), "size", vec![])
                }
                1 if self.stream == Stream::Custom => {
                    Tree::Method(Box::new(self.field(Kind::List)), "size", vec![])
                }
                _ => Tree::Call("int", vec![self.grow(from, depth)]),
            },
            _ => self.leaf(kind),
        }
    }
}
