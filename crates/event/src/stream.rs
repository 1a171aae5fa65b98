//! The ten streams: what their topics are called and by what their records are keyed. Which
//! topics an installation really has is in its config.

use std::borrow::Cow;
use std::fmt;

use crate::views::Body;
use crate::{Event, pb};

/// One kind of event, with a topic of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Orders, keyed by order_id.
    Orders,
    /// Stock, keyed by sku_id.
    Inventory,
    /// Parcels, keyed by parcel_id.
    Couriers,
    /// Reviews and conversations, keyed by thread_id, else feedback_id.
    Feedback,
    /// Traffic, keyed by campaign_id.
    Visits,
    /// Skus and prices, keyed by sku_id; compacted.
    Catalog,
    /// Campaign plans, keyed by campaign_id; compacted.
    Plans,
    /// Purchase orders and assessments, keyed by supplier_id.
    Suppliers,
    /// The shop's machinery, keyed by component.
    Ops,
    /// What the others do not carry, keyed by its name and what it is about.
    Custom,
}

impl Stream {
    /// All of them, in order.
    pub const ALL: [Stream; 10] = [
        Stream::Orders,
        Stream::Inventory,
        Stream::Couriers,
        Stream::Feedback,
        Stream::Visits,
        Stream::Catalog,
        Stream::Plans,
        Stream::Suppliers,
        Stream::Ops,
        Stream::Custom,
    ];

    /// The topic's name after the installation's prefix, and the stream's name in metrics.
    pub const fn topic(self) -> &'static str {
        match self {
            Stream::Orders => "orders",
            Stream::Inventory => "inventory",
            Stream::Couriers => "couriers",
            Stream::Feedback => "feedback",
            Stream::Visits => "visits",
            Stream::Catalog => "catalog",
            Stream::Plans => "plans",
            Stream::Suppliers => "suppliers",
            Stream::Ops => "ops",
            Stream::Custom => "custom",
        }
    }

    /// The stream whose [`topic`](Self::topic) is `name`.
    pub fn from_topic(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.topic() == name)
    }

    /// Whether its topic keeps the last record of each key for ever.
    pub const fn is_compacted(self) -> bool {
        matches!(self, Stream::Catalog | Stream::Plans)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.topic())
    }
}

impl Body<'_> {
    /// The stream that such a body belongs to.
    pub const fn stream(&self) -> Stream {
        match self {
            Body::Order(_) => Stream::Orders,
            Body::Inventory(_) => Stream::Inventory,
            Body::Courier(_) => Stream::Couriers,
            Body::Feedback(_) => Stream::Feedback,
            Body::Visit(_) => Stream::Visits,
            Body::Catalog(_) => Stream::Catalog,
            Body::Plan(_) => Stream::Plans,
            Body::Supplier(_) => Stream::Suppliers,
            Body::Ops(_) => Stream::Ops,
            Body::Custom(_) => Stream::Custom,
        }
    }

    /// What the record is keyed by, so that all of one life meets in one partition. It is borrowed but
    /// for a custom event, whose key is put together.
    pub fn key(&self) -> Cow<'_, str> {
        let key: &str = match self {
            Body::Order(order) => &order.order_id,
            Body::Inventory(inventory) => &inventory.sku_id,
            Body::Courier(courier) => &courier.parcel_id,
            Body::Feedback(feedback) => thread(&feedback.thread_id, &feedback.feedback_id),
            Body::Visit(visit) => &visit.campaign_id,
            Body::Catalog(catalog) => &catalog.sku_id,
            Body::Plan(plan) => &plan.campaign_id,
            Body::Supplier(supplier) => &supplier.supplier_id,
            Body::Ops(ops) => &ops.component,
            Body::Custom(custom) => {
                let entity = custom.entity.iter();
                let entity = entity.map(|(key, value)| (&**key, &**value));
                return joined(&custom.name, entity.collect());
            }
        };
        Cow::Borrowed(key)
    }
}

/// The key of a custom event: its name and what it is about, by the order of the keys, so that the
/// same machine's events meet whatever order they are written in.
fn joined<'k>(name: &'k str, mut entity: Vec<(&str, &str)>) -> Cow<'k, str> {
    entity.retain(|(_, value)| !value.is_empty());
    entity.sort_unstable();
    let mut key = Cow::Borrowed(name);
    for (_, value) in entity {
        let key = key.to_mut();
        key.push(',');
        key.push_str(value);
    }
    key
}

fn thread<'t>(thread_id: &'t str, feedback_id: &'t str) -> &'t str {
    match thread_id.is_empty() {
        true => feedback_id,
        false => thread_id,
    }
}

impl Event<'_> {
    /// The currencies of what it sells: amounts of one alone can be added up.
    pub fn currencies(&self) -> impl Iterator<Item = &str> {
        let order = match &self.body {
            Body::Order(order) => Some(order),
            _ => None,
        };
        let lines = order.into_iter().flat_map(|order| &order.lines);
        let prices = lines.filter_map(|line| line.unit_price.as_ref());
        prices.map(|price| &*price.currency_code)
    }

    /// The stream that the event belongs to.
    pub const fn stream(&self) -> Stream {
        self.body.stream()
    }

    /// What its record is keyed by.
    pub fn key(&self) -> Cow<'_, str> {
        self.body.key()
    }
}

impl pb::event::Body {
    /// The stream that such a body belongs to.
    pub const fn stream(&self) -> Stream {
        match self {
            Self::Order(_) => Stream::Orders,
            Self::Inventory(_) => Stream::Inventory,
            Self::Courier(_) => Stream::Couriers,
            Self::Feedback(_) => Stream::Feedback,
            Self::Visit(_) => Stream::Visits,
            Self::Catalog(_) => Stream::Catalog,
            Self::Plan(_) => Stream::Plans,
            Self::Supplier(_) => Stream::Suppliers,
            Self::Ops(_) => Stream::Ops,
            Self::Custom(_) => Stream::Custom,
        }
    }

    /// What its record is keyed by.
    pub fn key(&self) -> Cow<'_, str> {
        let key: &str = match self {
            Self::Order(order) => &order.order_id,
            Self::Inventory(inventory) => &inventory.sku_id,
            Self::Courier(courier) => &courier.parcel_id,
            Self::Feedback(feedback) => thread(&feedback.thread_id, &feedback.feedback_id),
            Self::Visit(visit) => &visit.campaign_id,
            Self::Catalog(catalog) => &catalog.sku_id,
            Self::Plan(plan) => &plan.campaign_id,
            Self::Supplier(supplier) => &supplier.supplier_id,
            Self::Ops(ops) => &ops.component,
            Self::Custom(custom) => {
                let entity = custom.entity.iter();
                let entity = entity.map(|(key, value)| (&**key, &**value));
                return joined(&custom.name, entity.collect());
            }
        };
        Cow::Borrowed(key)
    }
}
