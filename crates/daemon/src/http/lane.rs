//! Lanes: so many bodies are unpacked and read at a time, and whoever waits gets a turn by what its
//! address has cost so far.
//!
//! Small bodies and large ones have a lane each, so that none of the small ones waits behind a large
//! one. Within a lane the address goes next that has cost least (start-time fair queueing, Goyal
//! and others, 1996); of one address the oldest. It must never hold more than the bound of those
//! who wait: whoever comes then is sent away at once.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Addresses that are remembered beyond those that hold a place or wait for one.
const PEERS_MAX: usize = 1024;

/// Places, and who waits for one.
pub(super) struct Lane {
    waiting_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    free: usize,
    waiting: usize,
    /// What the address that went last had cost before: who comes anew begins there, and has no
    /// advantage of having been away.
    floor: u64,
    peers: BTreeMap<IpAddr, Peer>,
}

/// An address that holds a place or waits for one.
#[derive(Default)]
struct Peer {
    spent: u64,
    holding: usize,
    waiting: VecDeque<(u64, oneshot::Sender<Place>)>,
}

/// A place in a lane; it is free again once this is dropped.
pub(super) struct Place {
    lane: Arc<Lane>,
    peer: IpAddr,
}

/// More wait already than may.
#[derive(Debug)]
pub(super) struct FullError;

impl Lane {
    /// So many places, for which so many may wait.
    pub(super) fn new(places: usize, waiting_max: usize) -> Arc<Self> {
        let inner = Inner {
            free: places,
            ..Inner::default()
        };
        Arc::new(Self {
            waiting_max,
            inner: Mutex::new(inner),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. `cost` is in any unit, the same for all of a lane.
    ///
    /// # Errors
    /// When as many wait as may, or half as many of one address beyond this machine: on this machine
    /// all have one.
    pub(super) async fn enter(
        self: &Arc<Self>,
        peer: IpAddr,
        cost: u64,
    ) -> Result<Place, FullError> {
        let given = {
            let mut inner = self.lock();
            if inner.free > 0 && inner.waiting == 0 {
                inner.free -= 1;
                inner.charge(peer, cost);
                return Ok(self.place(peer));
            }
            inner.queue(peer, cost, self.waiting_max)?
        };
        // An error would mean that the lane is gone, which this holds.
        given.await.map_err(|_| FullError)
    }

    fn place(self: &Arc<Self>, peer: IpAddr) -> Place {
        let lane = Arc::clone(self);
        Place { lane, peer }
    }

    /// Gives free places to whoever is next.
    fn give(self: &Arc<Self>) {
        loop {
            let next = {
                let mut inner = self.lock();
                match inner.free {
                    0 => None,
                    _ => inner.next(),
                }
            };
            let Some((peer, waiting)) = next else {
                return;
            };
            // Who no longer waits gives the place back at once: what was sent is dropped.
            drop(waiting.send(self.place(peer)));
        }
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.lock().waiting
    }
}

impl Inner {
    fn charge(&mut self, peer: IpAddr, cost: u64) {
        let floor = self.floor;
        let of = self.peers.entry(peer).or_default();
        of.spent = of.spent.max(floor).saturating_add(cost.max(1));
        of.holding += 1;
    }

    fn queue(
        &mut self,
        peer: IpAddr,
        cost: u64,
        most: usize,
    ) -> Result<oneshot::Receiver<Place>, FullError> {
        let share = match peer.is_loopback() {
            true => most,
            false => most.div_ceil(2),
        };
        let of_peer = |inner: &Self| inner.peers.get(&peer).map_or(0, |of| of.waiting.len());
        if self.waiting >= most || of_peer(self) >= share {
            self.forget_gone();
        }
        if self.waiting >= most || of_peer(self) >= share {
            return Err(FullError);
        }
        let (sender, receiver) = oneshot::channel();
        let waiting = &mut self.peers.entry(peer).or_default().waiting;
        waiting.push_back((cost, sender));
        self.waiting += 1;
        Ok(receiver)
    }

    /// Lets go of those who wait no longer.
    fn forget_gone(&mut self) {
        for of in self.peers.values_mut() {
            of.waiting.retain(|(_, waiting)| !waiting.is_closed());
        }
        self.waiting = self.peers.values().map(|of| of.waiting.len()).sum();
    }

    /// Who goes next; the place is taken for it.
    fn next(&mut self) -> Option<(IpAddr, oneshot::Sender<Place>)> {
        let floor = self.floor;
        let waiting = self.peers.iter().filter(|(_, of)| !of.waiting.is_empty());
        let next = waiting.min_by_key(|(_, of)| of.spent.max(floor));
        let (peer, spent) = next.map(|(peer, of)| (*peer, of.spent.max(floor)))?;
        let (cost, waiting) = self.peers.get_mut(&peer)?.waiting.pop_front()?;
        self.waiting -= 1;
        self.free -= 1;
        self.floor = spent;
        self.charge(peer, cost);
        Some((peer, waiting))
    }
}

impl Place {
    /// It cost more than was known when it was entered.
    pub(super) fn charge(&self, cost: u64) {
        if let Some(of) = self.lane.lock().peers.get_mut(&self.peer) {
            of.spent = of.spent.saturating_add(cost);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut inner = self.lane.lock();
            inner.free += 1;
            if let Some(of) = inner.peers.get_mut(&self.peer) {
                of.holding -= 1;
            }
            // Whoever has caught up with the others is as good as new.
            let floor = inner.floor;
            inner
                .peers
                .retain(|_, of| of.holding > 0 || !of.waiting.is_empty() || of.spent > floor);
            // Those whose debts are all that is known of them are bounded, too.
            while inner.peers.len() > PEERS_MAX {
                let idle = |of: &Peer| of.holding == 0 && of.waiting.is_empty();
                let idle = inner.peers.iter().filter(|(_, of)| idle(of));
                let Some(least) = idle.min_by_key(|(_, of)| of.spent).map(|(peer, _)| *peer) else {
                    break;
                };
                inner.peers.remove(&least);
            }
        }
        self.lane.give();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => Some(ready),
            Poll::Pending => None,
        }
    }

    #[test]
    fn an_address_that_cost_much_lets_others_go_first() {
        let lane = Lane::new(1, 8);
        let held = poll(pin!(lane.enter(peer(1), 100))).unwrap().unwrap();
        let mut greedy = pin!(lane.enter(peer(1), 100));
        let mut modest = pin!(lane.enter(peer(2), 1));
        let mut again = pin!(lane.enter(peer(2), 1));
        assert!(poll(greedy.as_mut()).is_none());
        assert!(poll(modest.as_mut()).is_none());
        assert!(poll(again.as_mut()).is_none());
        drop(held);
        let place = poll(modest.as_mut()).expect("it cost less").unwrap();
        assert!(poll(greedy.as_mut()).is_none());
        drop(place);
        let place = poll(again.as_mut()).expect("it still cost less").unwrap();
        place.charge(1_000);
        drop(place);
        assert!(poll(greedy.as_mut()).is_some());
    }

    #[test]
    fn no_more_wait_than_may_and_who_has_gone_is_passed_over() {
        let lane = Lane::new(1, 4);
        let held = poll(pin!(lane.enter(peer(1), 1))).unwrap().unwrap();
        let mut gone = Box::pin(lane.enter(peer(1), 1));
        assert!(poll(gone.as_mut()).is_none());
        let mut stays = Box::pin(lane.enter(peer(1), 1));
        assert!(poll(stays.as_mut()).is_none());
        // Half of those who wait may be of one address.
        assert!(poll(pin!(lane.enter(peer(1), 1))).unwrap().is_err());
        drop(gone);
        let mut third = Box::pin(lane.enter(peer(1), 1));
        assert!(poll(third.as_mut()).is_none(), "who has gone leaves room");
        let mut others: Vec<_> = (2..4).map(|n| Box::pin(lane.enter(peer(n), 1))).collect();
        for other in &mut others {
            assert!(poll(other.as_mut()).is_none());
        }
        assert!(poll(pin!(lane.enter(peer(9), 1))).unwrap().is_err());
        drop((held, others));
        drop(poll(stays.as_mut()).expect("a place is free").unwrap());
        drop(poll(third.as_mut()).expect("a place is free").unwrap());
        assert_eq!((lane.waiting(), lane.lock().free), (0, 1));
    }
}
