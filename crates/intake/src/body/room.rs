//! Where the memory for a body is asked for, before it is used.
//!
//! Many bodies are unpacked and read at a time, and each may grow from a few bytes to the limits.
//! The limits bound one of them; a room that they share bounds all.

use super::Error;

/// What one event of a body costs beyond its bytes: its message or its rejection, the record that
/// is made of it with its headers, and the small allocations of both. A line of two bytes that is
/// rejected was measured at 830 bytes.
pub(super) const EVENT_BYTES: usize = 1024;

/// Copies of an event's bytes that exist at a time: its own, and the log's while it packs them.
pub(super) const EVENT_COPIES: usize = 2;

/// The memory that a body may use, in bytes.
pub trait Room {
    /// Sets bytes aside before they are used. False where there are not so many left; then none
    /// are set aside.
    fn take(&mut self, bytes: usize) -> bool;

    /// Gives back bytes that were taken.
    fn give(&mut self, bytes: usize);
}

/// A room without an end, for who reads one body at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boundless;

impl Room for Boundless {
    fn take(&mut self, _: usize) -> bool {
        true
    }

    fn give(&mut self, _: usize) {}
}

/// Takes room for an event, whatever becomes of it.
pub(super) fn for_event(room: &mut dyn Room, bytes: usize) -> Result<(), Error> {
    match room.take(EVENT_BYTES + EVENT_COPIES * bytes) {
        true => Ok(()),
        false => Err(Error::NoRoom),
    }
}
