//! What the tests share, and those that look at the crate as a whole.

mod alertmanager;
mod config;
mod delivering;
pub(crate) mod fixture;
mod over_http;
