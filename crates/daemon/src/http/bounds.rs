//! What the listener holds at most, and for how long: the numbers, in one place.

use std::time::Duration;

use super::door::Class;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time. A newcomer beyond it takes the place of the one that is missed least.
    pub connections_max: usize,
    /// A request's head must be in by then; an idle connection ends by then too.
    pub head: Duration,
    /// An answer of which nothing is read for so long is broken off.
    pub write_stall: Duration,
    /// A body of which nothing comes for so long is broken off.
    pub body_stall: Duration,
    /// A body must be in by then, however it comes.
    pub body: Duration,
    /// Who keeps us waiting for so long has to go where there is no room for another.
    pub patience: Duration,
    /// A body of up to so many bytes, as it came and unpacked alike, is a small one.
    pub small_bytes_max: usize,
    /// Bytes of small bodies as they came, unpacked, and as events, over all requests.
    pub small_bodies_bytes_max: usize,
    /// The same of larger bodies.
    pub bodies_bytes_max: usize,
    /// Small bodies that are unpacked and read at a time; others wait for them.
    pub small_parsing_max: usize,
    /// Small bodies that are taken at a time: each holds a thread until the log has them, and a
    /// thread keeps memory of its own. A sync covers all of them.
    pub small_taking_max: usize,
    /// Larger bodies that are unpacked, read and taken at a time.
    pub parsing_max: usize,
    /// Larger bodies that may wait for that.
    pub parsing_waiting_max: usize,
    /// Bytes of answers that are made or are being read, over all requests.
    pub answers_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: 512,
            head: Duration::from_secs(10),
            write_stall: Duration::from_secs(10),
            body_stall: Duration::from_secs(5),
            body: Duration::from_secs(30),
            patience: Duration::from_secs(1),
            small_bytes_max: 64 * 1024,
            small_bodies_bytes_max: 32 * 1024 * 1024,
            bodies_bytes_max: 80 * 1024 * 1024,
            small_parsing_max: 4,
            small_taking_max: 16,
            parsing_max: 3,
            parsing_waiting_max: 32,
            answers_bytes_max: 32 * 1024 * 1024,
        }
    }
}

impl Bounds {
    /// Requests of a class at a time. Together they are less than the connections, so that there is
    /// always one that can go.
    pub(super) fn seats(&self, class: Class) -> usize {
        let eighths = |count: usize| (self.connections_max * count / 8).max(1);
        match class {
            Class::Waiting | Class::Health | Class::Receiving => usize::MAX,
            Class::Scrape => (self.connections_max / 64).max(1),
            Class::Intake => eighths(2),
            Class::Operator | Class::Anonymous | Class::Live => eighths(1),
        }
    }
}
