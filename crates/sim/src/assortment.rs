//! What the shop sells, from where, and who delivers it.
//!
//! Owns the fixed facts of the simulated shop. It must never change while the shop runs.

use crate::ShopConfig;
use crate::random::{Random, mix};

/// A place that ships, with its region (ISO 3166-2).
pub(crate) const WAREHOUSES: [(&str, &str); 2] = [("WH-BJ", "CN-BJ"), ("WH-GZ", "CN-GD")];

/// The couriers and their shares of the parcels, summed up.
pub(crate) const COURIERS: [&str; 3] = ["SF", "ZTO", "YTO"];
pub(crate) const COURIER_SHARES: [f64; 3] = [0.45, 0.75, 1.0];

/// Where parcels go (ISO 3166-2), the shares summed up, and which warehouse serves it.
pub(crate) const REGIONS: [(&str, usize); 8] = [
    ("CN-BJ", 0),
    ("CN-SD", 0),
    ("CN-JS", 0),
    ("CN-SN", 0),
    ("CN-GD", 1),
    ("CN-SH", 1),
    ("CN-ZJ", 1),
    ("CN-SC", 1),
];
pub(crate) const REGION_SHARES: [f64; 8] = [0.14, 0.25, 0.37, 0.43, 0.63, 0.78, 0.91, 1.0];

/// Share of a warehouse's regions in all orders.
pub(crate) const WAREHOUSE_SHARES: [f64; 2] = [0.43, 0.57];

/// Number of lines of an order, summed up from one line on, and of packs on a line.
pub(crate) const LINE_SHARES: [f64; 3] = [0.75, 0.93, 1.0];
pub(crate) const PACK_SHARES: [f64; 3] = [0.80, 0.94, 1.0];

/// Packs of an order on the mean, from the two tables above.
pub(crate) const PACKS_PER_ORDER: f64 =
    (0.75 + 2.0 * 0.18 + 3.0 * 0.07) * (0.80 + 2.0 * 0.14 + 3.0 * 0.06);

const QUALITIES: [&str; 10] = [
    "手工",
    "有机",
    "原味",
    "经典",
    "轻奢",
    "加厚",
    "无糖",
    "便携",
    "家庭装",
    "限定",
];
const GOODS: [(&str, &str); 20] = [
    ("红茶", "食品"),
    ("蜂蜜", "食品"),
    ("坚果礼盒", "食品"),
    ("挂耳咖啡", "食品"),
    ("牛肉干", "食品"),
    ("葡萄酒", "酒水"),
    ("精酿啤酒", "酒水"),
    ("气泡水", "酒水"),
    ("洗发水", "个护"),
    ("护手霜", "个护"),
    ("面膜", "个护"),
    ("牙膏", "个护"),
    ("保温杯", "家居"),
    ("四件套", "家居"),
    ("香薰蜡烛", "家居"),
    ("收纳箱", "家居"),
    ("数据线", "数码"),
    ("充电宝", "数码"),
    ("蓝牙耳机", "数码"),
    ("台灯", "数码"),
];

/// One thing that is sold.
#[derive(Clone, Debug)]
pub(crate) struct Sku {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) category: &'static str,
    pub(crate) supplier_id: String,
    pub(crate) pack_units: i32,
    pub(crate) list_minor: i64,
    pub(crate) sale_minor: i64,
    pub(crate) floor_minor: i64,
    pub(crate) cost_minor: i64,
    /// Base units of it in an order, on the mean over all orders.
    pub(crate) units_per_order: f64,
}

/// Everything that is sold, the best seller first.
#[derive(Clone, Debug)]
pub(crate) struct Assortment {
    pub(crate) skus: Vec<Sku>,
    /// Popularity, summed up.
    pub(crate) shares: Vec<f64>,
}

impl Assortment {
    pub(crate) fn new(config: &ShopConfig) -> Self {
        let mut random = Random::new(mix(config.seed ^ 0x5141));
        // A shop of nothing would still be asked for what its orders contain.
        let count = config.skus.max(1);
        let mut shares = Vec::with_capacity(count);
        let mut total = 0.0;
        for rank in 1..=count {
            // Zipf with exponent 1 1/8: roots are exact everywhere, powers are not.
            let rank = rank as f64;
            total += 1.0 / (rank * rank.sqrt().sqrt().sqrt());
            shares.push(total);
        }
        let skus = (0..count)
            .map(|index| {
                let share =
                    (shares[index] - index.checked_sub(1).map_or(0.0, |i| shares[i])) / total;
                sku(index, share, &mut random)
            })
            .collect();
        Self { skus, shares }
    }

    /// Revenue of an order on the mean, in minor units.
    pub(crate) fn revenue_per_order(&self) -> f64 {
        self.skus
            .iter()
            .map(|sku| sku.units_per_order / f64::from(sku.pack_units) * sku.sale_minor as f64)
            .sum()
    }
}

fn sku(index: usize, share: f64, random: &mut Random) -> Sku {
    let pack_units = [1, 1, 1, 2, 6][random.between(0, 5) as usize];
    let list_minor = random.between(20, 300) * 100 - 10;
    let (name, category) = GOODS[index % GOODS.len()];
    let quality = QUALITIES[(index / GOODS.len() + index) % QUALITIES.len()];
    let size = if pack_units > 1 {
        format!(" {pack_units}件装")
    } else {
        String::new()
    };
    Sku {
        id: sku_id(index),
        title: format!("{quality}{name}{size}"),
        category,
        supplier_id: format!("sup{}", index % 12 + 1),
        pack_units,
        list_minor,
        sale_minor: list_minor * 7 / 10,
        floor_minor: list_minor * 11 / 20,
        cost_minor: list_minor * 9 / 20,
        units_per_order: share * PACKS_PER_ORDER * f64::from(pack_units),
    }
}

/// The id of the sku of a rank.
pub(crate) fn sku_id(index: usize) -> String {
    format!("sku{:04}", index + 1)
}
