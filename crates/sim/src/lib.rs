//! The seeded shop: a simulated sale with troubles in it.
