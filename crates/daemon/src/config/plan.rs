//! Campaign plans and skus from TOML, as the plan and catalog events that they become.
//!
//! Owns the form of a plan file and its checks. It must never let an event out that the border
//! would reject: each is decoded once before it is taken.

use std::time::Duration;

use fenghuo_event::bounds::{
    COUNT_MAX, CURVE_POINTS_MAX, DURATION_MS_MAX, FLOAT_MAX, ID_BYTES_MAX, OFFSET_S_MAX,
    QUANTITY_MAX, TEXT_BYTES_MAX,
};
use fenghuo_event::pb;
use fenghuo_intake::money::{currency_exponent, minor_units};
use prost_types::Timestamp;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::ConfigError;
use super::document::Document;

/// `meta.source` of events made from plan files.
const SOURCE: &str = "fenghuo/plan";

/// What `[plans]` names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plans {
    /// Campaigns, in the order of the files.
    pub campaigns: Vec<pb::Plan>,
    /// Skus, in the order of the files.
    pub skus: Vec<pb::Catalog>,
}

/// A plan file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    campaign: Vec<Campaign>,
    sku: Vec<Sku>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Campaign {
    id: String,
    #[serde(default)]
    name: String,
    start: toml::Value,
    end: toml::Value,
    #[serde(default)]
    flashes: Vec<toml::Value>,
    #[serde(default)]
    curve: Vec<CurvePoint>,
    forecast_cv: Option<f64>,
    ship_within: Option<String>,
    first_scan_within: Option<String>,
    deliver_within: Option<String>,
    #[serde(default)]
    pages_ready: Vec<String>,
    #[serde(default)]
    playbooks: Vec<String>,
    #[serde(default)]
    sku: Vec<CampaignSku>,
    #[serde(default)]
    courier: Vec<CampaignCourier>,
    #[serde(default)]
    staff: Vec<CampaignStaff>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CurvePoint {
    at: String,
    #[serde(default)]
    orders: f64,
    #[serde(default)]
    units: f64,
    #[serde(default)]
    visits: f64,
    revenue: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CampaignSku {
    id: String,
    planned_units: i64,
    sales_cap: Option<i64>,
    safety_stock: Option<i64>,
    lead: Option<String>,
    conversion: Option<f64>,
    #[serde(default)]
    hero: bool,
    #[serde(default)]
    curve: Vec<CurvePoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CampaignCourier {
    id: String,
    #[serde(default)]
    warehouse: String,
    parcels_per_day: i64,
    priority: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CampaignStaff {
    role: String,
    at: String,
    headcount: i64,
    tasks_per_hour: Option<f64>,
    trained: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sku {
    id: String,
    #[serde(default)]
    product: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    category: String,
    #[serde(default)]
    gtin: String,
    pack_units: Option<i64>,
    list_price: Option<String>,
    sale_price: Option<String>,
    unit_cost: Option<String>,
    price_floor: Option<String>,
    price_ceiling: Option<String>,
    max_discount: Option<f64>,
    limit_per_buyer: Option<i64>,
    #[serde(default)]
    gifts: Vec<String>,
    #[serde(default)]
    supplier: String,
    #[serde(default)]
    backup_suppliers: Vec<String>,
    #[serde(default)]
    substitutes: Vec<String>,
}

/// One file being read, with the currency of its prices.
struct Reader<'a, 't> {
    at: &'a Document<'t>,
    /// Without it no price is checked.
    currency: Option<&'a str>,
}

impl Plans {
    /// Adds what a file says, all of it or, where there are mistakes in it, nothing that counts.
    pub fn add(
        &mut self,
        document: &Document<'_>,
        currency: Option<&str>,
    ) -> Result<(), ConfigError> {
        let raw: Raw = document.read();
        let reader = Reader {
            at: document,
            currency,
        };
        for (index, campaign) in raw.campaign.iter().enumerate() {
            let path = format!("campaign[{index}]");
            let plan = reader.campaign(&path, campaign);
            let mut others = self.campaigns.iter();
            if others.any(|other| other.campaign_id == plan.campaign_id) {
                reader.twice(&path, &campaign.id);
            }
            reader.check(&path, pb::event::Body::Plan(plan.clone()));
            self.campaigns.push(plan);
        }
        let known = self.skus.iter().map(|sku| sku.sku_id.clone());
        let mut known: std::collections::HashSet<String> = known.collect();
        for (index, sku) in raw.sku.iter().enumerate() {
            if document.is_full() {
                break;
            }
            let path = format!("sku[{index}]");
            let catalog = reader.sku(&path, sku);
            if !known.insert(catalog.sku_id.clone()) {
                reader.twice(&path, &sku.id);
            }
            reader.check(&path, pb::event::Body::Catalog(catalog.clone()));
            self.skus.push(catalog);
        }
        document.finish(())
    }

    /// The events that tell all this, as of `at_ms`: skus first, so that a plan finds them known.
    /// An event's id is made of what it says and of nothing else: what has not changed since the
    /// last start is a duplicate, and past the duplicates' horizon says again what is known.
    pub fn events(&self, at_ms: i64, shop: Option<&str>) -> Vec<pb::Event> {
        let skus = self.skus.iter().cloned().map(pb::event::Body::Catalog);
        let campaigns = self.campaigns.iter().cloned().map(pb::event::Body::Plan);
        skus.chain(campaigns)
            .map(|body| event(body, at_ms, shop.unwrap_or_default()))
            .collect()
    }
}

fn event(body: pb::event::Body, at_ms: i64, shop: &str) -> pb::Event {
    let mut event = pb::Event {
        meta: None,
        body: Some(body),
    };
    let content = xxh3_64(&fenghuo_event::to_protobuf(&event));
    event.meta = Some(pb::Meta {
        event_id: format!("{content:016x}"),
        source: SOURCE.to_owned(),
        occurred_at: Some(timestamp(at_ms)),
        shop_id: shop.to_owned(),
        ..pb::Meta::default()
    });
    event
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos: i32::try_from(ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0),
    }
}

impl Reader<'_, '_> {
    fn twice(&self, path: &str, id: &str) {
        let problem = format!("{id:?} is already planned; expected an id of its own");
        self.at.mistake(&format!("{path}.id"), problem);
    }

    /// Whether the border takes it: the last word on what an event may be.
    fn check(&self, path: &str, body: pb::event::Body) {
        // What is known to be wrong there is told already.
        if self.at.is_told(path) {
            return;
        }
        // Any instant that an event may have.
        let at_ms = fenghuo_event::bounds::TIME_MS_MIN;
        let bytes = fenghuo_event::to_protobuf(&event(body, at_ms, ""));
        if let Err(rejected) = fenghuo_event::decode(&bytes, Some(b"application/protobuf")) {
            self.at.mistake(path, rejected.detail);
        }
    }

    fn campaign(&self, path: &str, raw: &Campaign) -> pb::Plan {
        let key = |name: &str| format!("{path}.{name}");
        let start_ms = self.instant_ms(&key("start"), &raw.start);
        let end_ms = self.instant_ms(&key("end"), &raw.end);
        let span_ms = start_ms.zip(end_ms);
        if span_ms.is_some_and(|(start_ms, end_ms)| end_ms <= start_ms) {
            let problem = "is not after start; expected a later time";
            self.at.mistake(&key("end"), problem);
        }
        let mut flash_offsets_s = Vec::with_capacity(raw.flashes.len());
        for (index, flash) in raw.flashes.iter().enumerate() {
            let flash_key = format!("{path}.flashes[{index}]");
            let ms = self.instant_ms(&flash_key, flash);
            let (Some(ms), Some((start_ms, end_ms))) = (ms, span_ms) else {
                continue;
            };
            let offset_s = i32::try_from((ms - start_ms) / 1_000).ok();
            match offset_s.filter(|offset| *offset <= OFFSET_S_MAX) {
                // Where they are in the wrong order, nothing lies between.
                _ if self.at.is_told(&key("end")) => {}
                _ if !(start_ms..end_ms).contains(&ms) => {
                    self.at.mistake(&flash_key, "lies outside the campaign");
                }
                Some(offset_s) => flash_offsets_s.push(offset_s),
                None => self
                    .at
                    .mistake(&flash_key, "is more than 400 days after start"),
            }
        }
        let skus = raw.sku.iter().enumerate();
        let couriers = raw.courier.iter().enumerate();
        let staff = raw.staff.iter().enumerate();
        pb::Plan {
            r#type: pb::plan::Type::Upsert.into(),
            campaign_id: self.at.id(&key("id"), &raw.id, ID_BYTES_MAX),
            name: self.text(&key("name"), &raw.name),
            start: start_ms.map(timestamp),
            end: end_ms.map(timestamp),
            flash_offsets_s,
            curve: self.curve(&key("curve"), &raw.curve),
            forecast_cv: match raw.forecast_cv {
                None => 0.0,
                Some(cv) => self.at.float(&key("forecast_cv"), cv, 0.0..=100.0),
            },
            skus: skus
                .map(|(index, sku)| self.campaign_sku(&format!("{path}.sku[{index}]"), sku))
                .collect(),
            couriers: couriers
                .map(|(index, courier)| self.courier(&format!("{path}.courier[{index}]"), courier))
                .collect(),
            staff: staff
                .map(|(index, staff)| self.staff(&format!("{path}.staff[{index}]"), staff))
                .collect(),
            ship_sla: self.span(&key("ship_within"), raw.ship_within.as_deref()),
            first_scan_sla: self.span(&key("first_scan_within"), raw.first_scan_within.as_deref()),
            deliver_sla: self.span(&key("deliver_within"), raw.deliver_within.as_deref()),
            page_variants_ready: raw.pages_ready.clone(),
            playbook_ids: raw.playbooks.clone(),
            currency_code: self.currency.unwrap_or_default().to_owned(),
        }
    }

    fn campaign_sku(&self, path: &str, raw: &CampaignSku) -> pb::SkuPlan {
        let key = |name: &str| format!("{path}.{name}");
        let units = |name: &str, units: i64| self.at.number(&key(name), units, 0..=COUNT_MAX);
        pb::SkuPlan {
            sku_id: self.at.id(&key("id"), &raw.id, ID_BYTES_MAX),
            planned_units: units("planned_units", raw.planned_units),
            sales_cap: units("sales_cap", raw.sales_cap.unwrap_or(0)),
            safety_stock: units("safety_stock", raw.safety_stock.unwrap_or(0)),
            curve: self.curve(&key("curve"), &raw.curve),
            baseline_cvr: match raw.conversion {
                None => 0.0,
                Some(share) => self.at.float(&key("conversion"), share, 0.0..=1.0),
            },
            replenish_lead: self.span(&key("lead"), raw.lead.as_deref()),
            hero: raw.hero,
        }
    }

    fn courier(&self, path: &str, raw: &CampaignCourier) -> pb::CourierPlan {
        let key = |name: &str| format!("{path}.{name}");
        pb::CourierPlan {
            courier_id: self.at.id(&key("id"), &raw.id, ID_BYTES_MAX),
            warehouse_id: self.text(&key("warehouse"), &raw.warehouse),
            parcels_per_day: self.at.number(
                &key("parcels_per_day"),
                raw.parcels_per_day,
                0..=COUNT_MAX,
            ),
            priority: self
                .at
                .number(&key("priority"), raw.priority.unwrap_or(1), 1..=100),
        }
    }

    fn staff(&self, path: &str, raw: &CampaignStaff) -> pb::StaffPlan {
        let key = |name: &str| format!("{path}.{name}");
        let people = |name: &str, given: i64| self.at.number(&key(name), given, 0..=1_000_000);
        let tasks = raw.tasks_per_hour.unwrap_or(0.0);
        pb::StaffPlan {
            role: self.at.id(&key("role"), &raw.role, ID_BYTES_MAX),
            offset_s: self.offset_s(&key("at"), &raw.at).unwrap_or_default(),
            headcount: people("headcount", raw.headcount),
            tasks_per_hour: self
                .at
                .float(&key("tasks_per_hour"), tasks, 0.0..=FLOAT_MAX),
            trained: people("trained", raw.trained.unwrap_or(0)),
        }
    }

    fn sku(&self, path: &str, raw: &Sku) -> pb::Catalog {
        let key = |name: &str| format!("{path}.{name}");
        let money = |name: &str, text: &Option<String>| self.money(&key(name), text.as_deref());
        let count = |name: &str, given: Option<i64>| {
            self.at
                .number(&key(name), given.unwrap_or(0), 0..=QUANTITY_MAX)
        };
        let discount = raw.max_discount.unwrap_or(0.0);
        let floor = money("price_floor", &raw.price_floor);
        let ceiling = money("price_ceiling", &raw.price_ceiling);
        if let (Some(floor), Some(ceiling)) = (&floor, &ceiling)
            && ceiling.minor_units < floor.minor_units
        {
            let problem = "is below price_floor";
            self.at.mistake(&key("price_ceiling"), problem);
        }
        pb::Catalog {
            r#type: pb::catalog::Type::Upsert.into(),
            sku_id: self.at.id(&key("id"), &raw.id, ID_BYTES_MAX),
            product_id: raw.product.clone(),
            title: self.text(&key("title"), &raw.title),
            category: raw.category.clone(),
            gtin: raw.gtin.clone(),
            pack_units: count("pack_units", raw.pack_units),
            list_price: money("list_price", &raw.list_price),
            sale_price: money("sale_price", &raw.sale_price),
            unit_cost: money("unit_cost", &raw.unit_cost),
            price_floor: floor,
            price_ceiling: ceiling,
            max_discount_ratio: self.at.float(&key("max_discount"), discount, 0.0..=1.0) as f32,
            limit_per_buyer: count("limit_per_buyer", raw.limit_per_buyer),
            gift_sku_ids: raw.gifts.clone(),
            primary_supplier_id: raw.supplier.clone(),
            backup_supplier_ids: raw.backup_suppliers.clone(),
            substitute_sku_ids: raw.substitutes.clone(),
            ..pb::Catalog::default()
        }
    }

    fn curve(&self, path: &str, raw: &[CurvePoint]) -> Vec<pb::PlanPoint> {
        if raw.len() > CURVE_POINTS_MAX {
            let problem = format!(
                "has {} points; expected at most {CURVE_POINTS_MAX}",
                raw.len()
            );
            self.at.mistake(path, problem);
        }
        let mut points: Vec<pb::PlanPoint> = Vec::with_capacity(raw.len());
        let mut before_s = None;
        for (index, point) in raw.iter().take(CURVE_POINTS_MAX).enumerate() {
            let key = |name: &str| format!("{path}[{index}].{name}");
            let expected =
                |name: &str, value: f64| self.at.float(&key(name), value, 0.0..=FLOAT_MAX);
            let offset_s = self.offset_s(&key("at"), &point.at);
            if let Some((before_s, offset_s)) = before_s.zip(offset_s)
                && before_s >= offset_s
            {
                let problem = format!(
                    "is {:?}; expected a time after that of the point before",
                    point.at
                );
                self.at.mistake(&key("at"), problem);
            }
            before_s = offset_s;
            let revenue = self.money(&key("revenue"), point.revenue.as_deref());
            points.push(pb::PlanPoint {
                offset_s: offset_s.unwrap_or_default(),
                orders: expected("orders", point.orders),
                units: expected("units", point.units),
                visits: expected("visits", point.visits),
                gmv_minor: revenue.map_or(0, |revenue| revenue.minor_units),
            });
        }
        points
    }

    /// `"26h30m"` after the start, or `"-2h"` before it, in whole seconds.
    fn offset_s(&self, key: &str, text: &str) -> Option<i32> {
        let (sign, after) = match text.strip_prefix('-') {
            Some(before) => (-1, before),
            None => (1, text),
        };
        let farthest = Duration::from_secs(u64::try_from(OFFSET_S_MAX).unwrap_or(0));
        let ms = self.at.duration_ms(key, after, Duration::ZERO..=farthest)?;
        if ms % 1_000 != 0 {
            let problem = format!("is {text:?}; expected whole seconds");
            self.at.mistake(key, problem);
            return None;
        }
        i32::try_from(sign * ms / 1_000).ok()
    }

    fn span(&self, key: &str, text: Option<&str>) -> Option<prost_types::Duration> {
        let longest = Duration::from_millis(u64::try_from(DURATION_MS_MAX).unwrap_or(0));
        let range = Duration::from_secs(1)..=longest;
        let ms = self.at.duration_ms(key, text?, range)?;
        Some(prost_types::Duration {
            seconds: ms / 1_000,
            nanos: i32::try_from(ms % 1_000 * 1_000_000).unwrap_or(0),
        })
    }

    fn money(&self, key: &str, text: Option<&str>) -> Option<pb::Money> {
        let (text, currency) = text.zip(self.currency)?;
        let minor_units = minor_units(text.as_bytes(), currency_exponent(currency))
            .filter(|minor| (0..=COUNT_MAX).contains(minor));
        if minor_units.is_none() {
            let problem = format!(
                "is {text:?}; expected an amount of {currency} such as \"18\" or, where it has \
                 decimals, \"18.50\""
            );
            self.at.mistake(key, problem);
        }
        Some(pb::Money {
            currency_code: currency.to_owned(),
            minor_units: minor_units?,
        })
    }

    fn text(&self, key: &str, text: &str) -> String {
        if text.len() > TEXT_BYTES_MAX {
            let problem = format!(
                "is {} bytes long; expected at most {TEXT_BYTES_MAX}",
                text.len()
            );
            self.at.mistake(key, problem);
        }
        text.to_owned()
    }

    /// An instant with its offset, as TOML has it or as text.
    fn instant_ms(&self, key: &str, value: &toml::Value) -> Option<i64> {
        let text = match value {
            toml::Value::Datetime(instant) => instant.to_string(),
            toml::Value::String(text) => text.clone(),
            other => other.type_str().to_owned(),
        };
        let instant = text.parse::<jiff::Timestamp>();
        if instant.is_err() {
            let problem = format!(
                "is {text:?}; expected an instant with its offset, such as 2026-11-11T20:00:00+08:00"
            );
            self.at.mistake(key, problem);
        }
        Some(instant.ok()?.as_millisecond())
    }
}
