//! The `fenghuo` binary.
fn main() {}
