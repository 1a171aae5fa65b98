//! A folder in memory, a log in memory, and what comes of looking at the one with the other.

mod exactly_once;
mod files;
mod kept;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

use fenghuo_event::{Body, decode};

use super::*;

const HEADER: &str = "订单,货号,数量,单价,时间,状态\n";

const MAPPING: &str = r#"
source = "shop"
currency = "CNY"
time = { format = "%Y-%m-%d %H:%M", zone = "+08:00" }
[columns]
order_id = "订单"
sku = "货号"
quantity = "数量"
unit_price = "单价"
time = "时间"
status = "状态"
[status]
"已付款" = "PAID"
"已取消" = "CANCELLED"
"#;

fn mapping(text: &str) -> Arc<Mapping> {
    Arc::new(Mapping::parse(text, "map.toml").unwrap())
}

fn row(order: &str, sku: &str, quantity: &str) -> String {
    format!("{order},{sku},{quantity},1.50,2026-11-11 10:00,已付款\n")
}

#[derive(Default)]
struct Files(RefCell<BTreeMap<String, (Vec<u8>, i64)>>);

impl Folder for Files {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let files = self.0.borrow();
        let (bytes, _) = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

/// A folder, its watcher, and a log that keeps what was committed.
struct Desk {
    files: Files,
    settings: Settings,
    watcher: Watcher,
    now_ms: i64,
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
    messages: Vec<Message>,
    rejected: Vec<Rejected>,
    notices: Vec<Notice>,
    /// Whether each commit is followed by a crash, and preceded by one that loses the batch.
    crashes: bool,
    was_lost: bool,
}

impl Desk {
    fn new(mappings: &[&str]) -> Self {
        let mappings = mappings.iter().map(|text| mapping(text)).collect();
        Self::with(Settings::new(mappings))
    }

    fn with(settings: Settings) -> Self {
        Self {
            files: Files::default(),
            watcher: Watcher::new(settings.clone()),
            settings,
            now_ms: 1_000_000,
            kept: BTreeMap::new(),
            messages: Vec::new(),
            rejected: Vec::new(),
            notices: Vec::new(),
            crashes: false,
            was_lost: false,
        }
    }

    fn put(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.now_ms += 1;
        let file = (bytes.into(), self.now_ms);
        self.files.0.borrow_mut().insert(name.to_owned(), file);
    }

    fn remove(&mut self, name: &str) {
        self.files.0.borrow_mut().remove(name);
    }

    fn listing(&self) -> Vec<Seen> {
        let files = self.files.0.borrow();
        let seen = files.iter().map(|(name, (bytes, modified_ms))| Seen {
            name: name.clone(),
            size_bytes: bytes.len() as u64,
            modified_ms: *modified_ms,
        });
        seen.collect()
    }

    fn restart(&mut self) {
        self.watcher = Watcher::new(self.settings.clone());
        for (key, value) in &self.kept {
            self.watcher.restore(key, Some(value)).unwrap();
        }
        self.watcher.restored().unwrap();
    }

    /// Looks until there is nothing more; what comes is committed.
    fn look(&mut self) {
        for _ in 0..10_000 {
            let listing = self.listing();
            let mut batch = self.watcher.look(self.now_ms, &listing, &self.files);
            if self.crashes && !batch.is_empty() && !self.was_lost {
                // The process ends before the commit.
                self.was_lost = true;
                self.restart();
                continue;
            }
            let is_empty = batch.is_empty();
            self.was_lost &= is_empty;
            self.messages.append(&mut batch.messages);
            self.rejected.append(&mut batch.rejected);
            self.notices.append(&mut batch.notices);
            for Kept { key, value } in batch.kept {
                match value {
                    Some(value) => self.kept.insert(key, value),
                    None => self.kept.remove(&key),
                };
            }
            if self.crashes && !is_empty {
                self.restart();
                continue;
            }
            if !batch.more {
                return;
            }
        }
        panic!("there is no end to it");
    }

    /// A second passes at a time, for longer than a file has to rest.
    fn rest(&mut self) {
        // A process that begins anew does not know how long a file has rested.
        let times = if self.crashes { 30 } else { 2 };
        let end_ms = self.now_ms + times * self.settings.settle_ms + 1_000;
        while self.now_ms < end_ms {
            self.now_ms += 10_000;
            self.look();
        }
    }

    /// Each order event as `order type sku*quantity …`, in the order of their ids.
    fn orders(&self) -> Vec<String> {
        let mut orders: Vec<String> = self.messages.iter().map(order).collect();
        orders.sort();
        orders
    }

    fn reasons(&self) -> Vec<String> {
        let reasons = self.rejected.iter();
        reasons
            .map(|one| format!("{} {}", one.origin, one.reason))
            .collect()
    }

    fn problems(&self) -> Vec<String> {
        let problems = self.notices.iter();
        problems
            .map(|one| format!("{} {}", one.file, one.problem))
            .collect()
    }
}

fn order(message: &Message) -> String {
    let event = decode(&message.value, Some(message.content_type.as_bytes())).unwrap();
    let Body::Order(order) = event.body else {
        panic!("no order: {event:?}");
    };
    let lines = order.lines.iter();
    let mut lines: Vec<String> = lines
        .map(|line| format!("{}*{}", line.sku_id, line.quantity))
        .collect();
    lines.sort();
    format!(
        "{} {} {}",
        order.order_id,
        order.r#type.as_str_name(),
        lines.join(" ")
    )
}
