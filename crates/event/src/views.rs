//! The borrowed views, generated from `proto/fenghuo/v1/events.proto`: what an event says, in the
//! sender's bytes. Nothing here is written by hand; what a field does is in [`crate::field`].

use std::borrow::Cow;

use serde::de::{Deserializer, MapAccess};

use crate::check::{self, Check};
use crate::field::{Field, Message, Scalar, enumeration, message};
use crate::json::read::{self as json, Trail};
use crate::json::write::{Members, Object};
use crate::pb;
use crate::rejected::Fault;
use crate::rules;
use crate::time::{DurationMs, Timestamp};
use crate::wire::{self, Reader, Wire};

include!(concat!(env!("OUT_DIR"), "/views.rs"));
