//! The door: how many connections there are, what each is doing, and who has to go when there is
//! no room for another.
//!
//! A connection that asks nothing holds no seat; a request takes one of its class once its path and
//! its token are known. Where room is short, whoever keeps us waiting the longest goes, never
//! whoever just came. It must never know what is asked, nor wait.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::bounds::Bounds;

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// No request is under way: its head is awaited.
    Waiting,
    /// Asks for health: answered at once, and takes no seat.
    Health,
    /// Asks for metrics.
    Scrape,
    /// Is about to hand events in: its body is awaited, and takes no seat until it is there.
    Receiving,
    /// Handed events in, which are being taken.
    Intake,
    /// Asks something with the token.
    Operator,
    /// Asks something without one.
    Anonymous,
    /// Listens to snapshots.
    Live,
}

/// What has to happen before a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// We have to do something.
    Ours,
    /// The other end has to: to read what is written, or to send its body.
    Theirs,
}

#[derive(Debug)]
struct State {
    class: Class,
    turn: Turn,
    /// When the class began.
    since: Instant,
    /// Whether a byte of a body has come.
    has_come: bool,
    /// When the other end last did enough of what is awaited.
    progressed: Instant,
}

/// A connection, as the door knows it.
#[derive(Debug)]
pub(super) struct Slot {
    id: u64,
    peer: IpAddr,
    state: Mutex<State>,
    evicted: Notify,
}

/// All connections.
pub(super) struct Door {
    bounds: Bounds,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    slots: BTreeMap<u64, Arc<Slot>>,
}

/// A connection's place; it leaves when it is dropped.
pub(super) struct Ticket {
    door: Arc<Door>,
    pub(super) slot: Arc<Slot>,
}

/// A request's seat; the connection waits again once it is dropped.
pub(super) struct Seat {
    slot: Arc<Slot>,
    /// Of a request without a connection of its own.
    _ticket: Option<Ticket>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, class: Class) {
        let now = Instant::now();
        let mut state = self.lock();
        (state.class, state.since, state.progressed) = (class, now, now);
        state.has_come = false;
    }

    /// The other end has to do something from now on.
    pub(super) fn awaits(&self) {
        let mut state = self.lock();
        if state.turn == Turn::Ours {
            (state.turn, state.progressed) = (Turn::Theirs, Instant::now());
        }
    }

    /// The first byte of a body is there.
    pub(super) fn begins(&self) {
        self.lock().has_come = true;
    }

    /// Where it connects from.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The other end did enough to be waited for anew.
    pub(super) fn progressed(&self) {
        self.lock().progressed = Instant::now();
    }

    /// The other end did all that was awaited.
    pub(super) fn goes_on(&self) {
        self.lock().turn = Turn::Ours;
    }

    /// Waits until the connection has to go.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn class(&self) -> Class {
        self.lock().class
    }

    /// For how long the other end has kept us waiting within a request.
    fn stalled(&self, now: Instant) -> Option<Duration> {
        let state = self.lock();
        (state.turn == Turn::Theirs).then(|| now.saturating_duration_since(state.progressed))
    }

    /// For how long nothing was asked, or nothing came of a body that was promised.
    fn idle(&self, now: Instant) -> Option<Duration> {
        let state = self.lock();
        let is_silent = state.class == Class::Receiving && !state.has_come;
        (is_silent || matches!(state.class, Class::Waiting | Class::Health))
            .then(|| now.saturating_duration_since(state.since))
    }
}

impl Door {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, in the place of another where all are taken. `None` where nobody can
    /// be sent away.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Ticket> {
        let now = Instant::now();
        let mut inner = self.lock();
        if inner.slots.len() >= self.bounds.connections_max {
            let id = self.least_missed(&inner, now)?;
            evict(&mut inner, id, "connections");
        }
        inner.next += 1;
        let slot = Arc::new(Slot {
            id: inner.next,
            peer,
            state: Mutex::new(State {
                class: Class::Waiting,
                turn: Turn::Ours,
                since: now,
                progressed: now,
                has_come: false,
            }),
            evicted: Notify::new(),
        });
        inner.slots.insert(slot.id, Arc::clone(&slot));
        drop(inner);
        let door = Arc::clone(self);
        Some(Ticket { door, slot })
    }

    /// Whoever is missed least: an idle connection of the address that has the most of them, else
    /// one that keeps us waiting, else one that only just came.
    fn least_missed(&self, inner: &Inner, now: Instant) -> Option<u64> {
        let patience = self.bounds.patience;
        let mut of_peer: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for slot in inner.slots.values() {
            *of_peer.entry(slot.peer).or_default() += 1;
        }
        let share = self.bounds.connections_max / 4;
        // Behind a proxy, and on this machine, all have one address.
        let crowd = |slot: &Slot| match of_peer.get(&slot.peer) {
            Some(count) if *count > share && !slot.peer.is_loopback() => *count,
            _ => 0,
        };
        let slots = || inner.slots.values();
        let idle = slots()
            .filter_map(|slot| Some((crowd(slot), slot.idle(now)?, slot.id)))
            .max();
        let stalled = slots()
            .filter_map(|slot| Some((slot.stalled(now)?, slot.id)))
            .max();
        match (idle, stalled) {
            (Some((_, idle, id)), _) if idle >= patience => Some(id),
            (_, Some((stalled, id))) if stalled >= patience => Some(id),
            (Some((_, _, id)), _) => Some(id),
            (None, _) => None,
        }
    }

    /// Gives a connection's request a seat of its class. `None` where all are taken by requests that
    /// are being worked on.
    pub(super) fn seat(self: &Arc<Self>, slot: Option<Arc<Slot>>, class: Class) -> Option<Seat> {
        let (slot, ticket) = match slot {
            Some(slot) => (slot, None),
            None => {
                let ticket = self.enter(IpAddr::from([127, 0, 0, 1]))?;
                (Arc::clone(&ticket.slot), Some(ticket))
            }
        };
        let mut inner = self.lock();
        if !self.has_seat(&mut inner, &slot, class) {
            return None;
        }
        slot.set(class);
        drop(inner);
        Some(Seat {
            slot,
            _ticket: ticket,
        })
    }

    /// Gives a request that has a seat one of another class instead. False where all of those are
    /// taken by requests that are being worked on; then it keeps the one that it has.
    pub(super) fn moves(&self, slot: &Slot, class: Class) -> bool {
        let mut inner = self.lock();
        let has_seat = self.has_seat(&mut inner, slot, class);
        if has_seat {
            slot.set(class);
        }
        has_seat
    }

    /// Whether there is a seat of a class, where need be in the place of one that keeps us waiting.
    fn has_seat(&self, inner: &mut Inner, slot: &Slot, class: Class) -> bool {
        let now = Instant::now();
        let seats_max = self.bounds.seats(class);
        let is_peer = |other: &Slot| other.peer == slot.peer;
        let of_class = |inner: &Inner, only_peer: bool| {
            let others = inner.slots.values();
            let others = others.filter(|other| other.class() == class && other.id != slot.id);
            let others = others.filter(|other| !only_peer || is_peer(other));
            let stalled = |other: &Arc<Slot>| Some((other.stalled(now)?, other.id));
            let others: Vec<&Arc<Slot>> = others.collect();
            (
                others.len(),
                others.iter().filter_map(|other| stalled(other)).max(),
            )
        };
        // One address has a share of the seats: a part of those for who shows no token, half of
        // those for senders. On this machine all have one address.
        let share = match class {
            _ if slot.peer.is_loopback() => None,
            Class::Anonymous => Some(seats_max / 4),
            Class::Intake => Some(seats_max.div_ceil(2)),
            _ => None,
        };
        for (only_peer, most) in [(true, share), (false, Some(seats_max))] {
            let Some(most) = most else { continue };
            let (taken, stalled) = of_class(inner, only_peer);
            if taken < most {
                continue;
            }
            match stalled {
                Some((stalled, id)) if stalled >= self.bounds.patience => {
                    evict(inner, id, "seats");
                }
                _ => {
                    count("refused", "seats");
                    return false;
                }
            }
        }
        true
    }

    /// Sends away the connection that keeps us waiting the longest, where one does for a while.
    pub(super) fn make_room(&self) {
        let now = Instant::now();
        let mut inner = self.lock();
        let slots = inner.slots.values();
        let stalled = slots.filter_map(|slot| Some((slot.stalled(now)?, slot.id)));
        if let Some((stalled, id)) = stalled.max()
            && stalled >= self.bounds.patience
        {
            evict(&mut inner, id, "answers");
        }
    }
}

fn evict(inner: &mut Inner, id: u64, reason: &'static str) {
    if let Some(slot) = inner.slots.remove(&id) {
        slot.evicted.notify_one();
        count("closed", reason);
    }
}

/// Counts what became of a connection for want of room.
pub(super) fn count(what: &'static str, reason: &'static str) {
    metrics::counter!("fenghuo_http_crowded_total", "what" => what, "reason" => reason)
        .increment(1);
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.door.lock().slots.remove(&self.slot.id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.slot.set(Class::Waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(connections_max: usize) -> Arc<Door> {
        Door::new(Bounds {
            connections_max,
            ..Bounds::default()
        })
    }

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_evicted(ticket: &Ticket) -> bool {
        !ticket.door.lock().slots.contains_key(&ticket.slot.id)
    }

    #[tokio::test(start_paused = true)]
    async fn the_newcomer_stays_and_the_longest_idle_goes() {
        let door = door(3);
        let mut tickets = Vec::new();
        for number in 0..3 {
            tickets.push(door.enter(peer(number)).unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // The oldest one asks something, and is worked for.
        let seat = door.seat(Some(Arc::clone(&tickets[0].slot)), Class::Operator);
        let newcomer = door.enter(peer(9)).unwrap();
        assert_eq!(
            tickets.iter().map(is_evicted).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert!(!is_evicted(&newcomer));
        tickets[1].slot.evicted().await;
        drop(seat);
        drop(tickets);
        assert_eq!(door.lock().slots.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_with_very_many_loses_its_own() {
        let door = door(8);
        let honest: Vec<_> = (0..2).map(|n| door.enter(peer(n)).unwrap()).collect();
        tokio::time::advance(Duration::from_secs(5)).await;
        let crowd: Vec<_> = (0..30).map(|_| door.enter(peer(7)).unwrap()).collect();
        assert!(!honest.iter().any(is_evicted));
        assert_eq!(crowd.iter().filter(|one| !is_evicted(one)).count(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_keeps_us_waiting_makes_room_and_who_is_worked_for_does_not() {
        let door = door(512);
        let most = Bounds::default().seats(Class::Live);
        let tickets: Vec<_> = (0..most + 2)
            .map(|_| door.enter(peer(1)).unwrap())
            .collect();
        let take = |at: usize| door.seat(Some(Arc::clone(&tickets[at].slot)), Class::Live);
        let _seats: Vec<_> = (0..most).map(|at| take(at).unwrap()).collect();
        assert!(take(most).is_none());
        tickets[5].slot.awaits();
        assert!(take(most).is_none(), "it may still read");
        tokio::time::advance(Bounds::default().patience).await;
        let _seat = take(most).unwrap();
        assert!(is_evicted(&tickets[5]));
        // Health takes no seat, and is never refused.
        let health = (0..1000).map(|_| door.seat(None, Class::Health).is_some());
        assert!(health.into_iter().all(|given| given));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_awaited_takes_no_seat_and_one_of_which_nothing_came_goes_first() {
        let door = door(16);
        let local = IpAddr::from([127, 0, 0, 1]);
        let open = || {
            let ticket = door.enter(local).unwrap();
            let seat = door.seat(Some(Arc::clone(&ticket.slot)), Class::Receiving);
            ticket.slot.awaits();
            (ticket, seat.expect("it takes no seat"))
        };
        let honest = open();
        honest.0.slot.begins();
        // All connections are taken by bodies of which nothing comes; none is older than patience.
        let silent: Vec<_> = (0..200).map(|_| open()).collect();
        assert!(!is_evicted(&honest.0));
        honest.0.slot.goes_on();
        assert!(door.moves(&honest.0.slot, Class::Intake));
        assert_eq!(
            silent.iter().filter(|(one, _)| !is_evicted(one)).count(),
            15
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_takes_no_more_than_half_of_the_seats_of_senders() {
        let door = door(512);
        let most = Bounds::default().seats(Class::Intake);
        let mut taken = Vec::new();
        let mut moves = |of| {
            let ticket = door.enter(of).unwrap();
            let seat = door.seat(Some(Arc::clone(&ticket.slot)), Class::Receiving);
            let moves = door.moves(&ticket.slot, Class::Intake);
            taken.push((ticket, seat));
            moves
        };
        assert_eq!((0..most).filter(|_| moves(peer(1))).count(), most / 2);
        assert!(moves(peer(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_shows_no_token_has_a_share() {
        let door = door(512);
        let most = Bounds::default().seats(Class::Anonymous);
        let mut seats = Vec::new();
        let mut ask = |of| {
            let ticket = door.enter(of).unwrap();
            let seat = door.seat(Some(Arc::clone(&ticket.slot)), Class::Anonymous);
            let is_given = seat.is_some();
            seats.push((ticket, seat));
            is_given
        };
        let given = (0..most).filter(|_| ask(peer(1))).count();
        assert_eq!(given, most / 4);
        assert!(ask(peer(2)));
        // On this machine all have one address.
        let given = (0..most)
            .filter(|_| ask(IpAddr::from([127, 0, 0, 1])))
            .count();
        assert_eq!(given, most - most / 4 - 1);
    }
}
