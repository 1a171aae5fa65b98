//! A body that is coming in: how much of it is held, and how long it is waited for.

use std::error::Error as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use fenghuo_intake::body::Room as _;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::bounds::Bounds;
use super::super::budget::{Budget, Reserved};
use super::super::door::Slot;
use super::super::server::Context;
use super::super::shape::failure;
use super::{LIMITS, last, no_room, too_large, too_slow};

/// Whoever sends fewer bytes than this within the time has not gone on.
const STEP_BYTES: usize = 1024;

/// A body that is coming in.
pub(super) struct Incoming {
    pub(super) room: Reserved,
    pub(super) bytes: Vec<u8>,
    /// The length that was told of it.
    told: Option<usize>,
    small_bytes_max: usize,
    /// Where room for a large one is taken, until it is one.
    large: Option<Budget>,
}

impl Incoming {
    /// A body of which nothing came yet, and the length that was told of it.
    pub(super) fn new(context: &Context, told: Option<usize>) -> Self {
        Self {
            room: context.small_bodies.empty(),
            bytes: Vec::new(),
            told,
            small_bytes_max: context.bounds.small_bytes_max,
            large: Some(context.bodies.clone()),
        }
    }

    /// Whether it is one of the small ones, as far as it came.
    pub(super) fn is_small(&self) -> bool {
        self.large.is_some()
    }

    /// Makes it one of the large ones. False where there is no room among them.
    pub(super) fn becomes_large(&mut self) -> bool {
        let Some(large) = &self.large else {
            return true;
        };
        let mut room = large.empty();
        let has_room = room.take(self.bytes.capacity());
        if has_room {
            (self.room, self.large) = (room, None);
        }
        has_room
    }

    /// Reads a body to its end. Room is taken as bytes come, never for what is only told.
    pub(super) async fn receive(
        &mut self,
        body: Body,
        bounds: &Bounds,
        slot: Option<&Slot>,
    ) -> Result<(), Box<Response>> {
        if self.told.is_some_and(|told| told > LIMITS.body_bytes_max) {
            return Err(too_large());
        }
        if let Some(slot) = slot {
            slot.awaits();
        }
        let received = timeout(bounds.body, self.read(body, bounds.body_stall, slot)).await;
        if let Some(slot) = slot {
            slot.goes_on();
        }
        received.unwrap_or_else(|_| Err(too_slow(bounds.body)))
    }

    async fn read(
        &mut self,
        body: Body,
        stall: Duration,
        slot: Option<&Slot>,
    ) -> Result<(), Box<Response>> {
        let mut parts = body.into_data_stream();
        let (mut deadline, mut step_bytes) = (Instant::now() + stall, 0);
        loop {
            let Ok(part) = timeout_at(deadline, parts.next()).await else {
                return Err(too_slow(stall));
            };
            let part = match part {
                None => return Ok(()),
                Some(Ok(part)) => part,
                Some(Err(error)) => return Err(no_body(&error)),
            };
            if self.bytes.is_empty()
                && let Some(slot) = slot
            {
                slot.begins();
            }
            self.add(&part)?;
            step_bytes += part.len();
            if step_bytes >= STEP_BYTES {
                (deadline, step_bytes) = (Instant::now() + stall, 0);
                if let Some(slot) = slot {
                    slot.progressed();
                }
            }
        }
    }

    fn add(&mut self, part: &[u8]) -> Result<(), Box<Response>> {
        let length = self.bytes.len() + part.len();
        if length > LIMITS.body_bytes_max {
            return Err(too_large());
        }
        if length > self.small_bytes_max && !self.becomes_large() {
            return Err(no_room());
        }
        let held = self.bytes.capacity();
        if length > held {
            let most = self.told.unwrap_or(LIMITS.body_bytes_max);
            let wanted = (2 * held).min(most).max(length);
            // While it is copied there are two of it. Where many small ones come at once, one may be
            // held among the large ones.
            let is_there = self.room.take(wanted)
                || self.is_small() && self.becomes_large() && self.room.take(wanted);
            if !is_there {
                return Err(no_room());
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
            self.room.give(held + wanted - self.bytes.capacity());
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }
}

/// The body broke off, or is not cut as HTTP wants it.
fn no_body(error: &axum::Error) -> Box<Response> {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        why = error.to_string();
        source = error.source();
    }
    let text = format!("the body broke off, or its chunks are malformed: {why}");
    last(failure(StatusCode::BAD_REQUEST, &text))
}
