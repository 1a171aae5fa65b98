//! Compiles `proto/fenghuo/v1/events.proto` into Rust: owned messages with prost, and borrowed
//! views with the generator in `build/`. protox stands in for protoc, so that nothing has
//! to be installed. It must read nothing but the .proto and write nothing outside `OUT_DIR`.

use std::error::Error;
use std::path::PathBuf;

#[path = "build/emit.rs"]
mod emit;
#[path = "build/schema.rs"]
mod schema;
#[path = "build/views.rs"]
mod views;

/// Strings that may be long and hold line breaks; every other string is an id.
const TEXT_FIELDS: &[&str] = &["text", "texts", "raw_text", "reason_text", "title", "name"];

/// Fields that are ids although others of their name are free text.
const ID_FIELDS: &[&str] = &["Custom.name"];

/// Strings that each name one life, so that a shop has no end of them.
const LIFE_FIELDS: &[&str] = &[
    "event_id",
    "order_id",
    "order_ids",
    "parcel_id",
    "feedback_id",
    "thread_id",
    "po_id",
    "group_id",
];

/// Messages with a rule of their own in `src/rules.rs`, under their name in snake_case.
const RULED_MESSAGES: &[&str] = &[
    "Meta",
    "Money",
    "OrderLine",
    "Order",
    "Inventory",
    "Courier",
    "Feedback",
    "Visit",
    "Catalog",
    "PlanPoint",
    "SkuPlan",
    "CourierPlan",
    "StaffPlan",
    "Plan",
    "Supplier",
    "Ops",
    "Custom",
];

fn main() -> Result<(), Box<dyn Error>> {
    let protos = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto"));
    let events = protos.join("fenghuo/v1/events.proto");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed={}", events.display());

    #[allow(clippy::disallowed_methods, reason = "cargo names the directory so")]
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let descriptors = protox::compile([&events], [&protos])?;
    let marks = views::Marks {
        text_fields: TEXT_FIELDS,
        id_fields: ID_FIELDS,
        life_fields: LIFE_FIELDS,
        ruled_messages: RULED_MESSAGES,
    };
    let code = views::generate(&descriptors, "fenghuo.v1", &marks)?;
    std::fs::write(out.join("views.rs"), code)?;
    let code = schema::generate(&descriptors, "fenghuo.v1", &marks)?;
    std::fs::write(out.join("schema.rs"), code)?;
    // Maps in key order, so that the same event is the same bytes.
    prost_build::Config::new()
        .btree_map(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
