//! The JSON encoding, proto3's mapping: reading in place and writing. It must never build a value
//! tree: members go straight into their fields.

pub(crate) mod read;
pub(crate) mod write;
