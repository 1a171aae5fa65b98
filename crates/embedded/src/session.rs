//! One member of a group: reads its partitions, and commits in transactions of the store.

use std::sync::Arc;
use std::time::Duration;

use fenghuo_log::groups::Place as Member;
use fenghuo_log::{Assigned, Commit, Error, Polled, Record, Session, Start, TopicPartition};

use crate::batch::Batch;
use crate::state::State;
use crate::store::Ends;
use crate::{Shared, Syncing};

/// Bytes handed over by one poll, at least where there are as many; a batch is handed over whole.
const POLL_BYTES_MAX: usize = 1024 * 1024;

pub struct EmbeddedSession {
    shared: Arc<Shared>,
    member: Member,
    epoch: u64,
    positions: Vec<Option<(TopicPartition, u64)>>,
    /// Which partition is polled first, so that none starves.
    next: usize,
    /// The commit that has to be durable before anything leaves the process that rests on it, or on
    /// what was read here.
    awaited: u64,
    /// A commit went wrong: nothing more is to be had from it.
    is_broken: bool,
}

/// What there is for a poll.
enum Found {
    Told(Polled),
    /// Batches in memory.
    Batches(Vec<(usize, u64, Batch)>),
    /// The records of a partition that are on the disk alone.
    OnDisk(usize, TopicPartition, u64),
    Nothing,
}

impl EmbeddedSession {
    pub fn new(shared: Arc<Shared>, member: Member, epoch: u64) -> Self {
        Self {
            shared,
            member,
            epoch,
            positions: Vec::new(),
            next: 0,
            awaited: 0,
            is_broken: false,
        }
    }

    fn usable(&self, state: &State) -> Result<(), Error> {
        state.check(self.epoch)?;
        state.groups.check(&self.member)?;
        if self.is_broken {
            return Err(Error::Retriable {
                doing: "using a session whose commit failed".to_owned(),
                source: "it has to be opened anew".into(),
            });
        }
        Ok(())
    }

    /// What its group has to say to it before it reads on.
    fn told(&self, state: &mut State) -> Result<Option<Polled>, Error> {
        let held = self.positions.iter().flatten();
        let turn = state.groups.turn(&self.member);
        turn.polled(held.map(|(partition, _)| partition), |partition| {
            let Ends { low, high, .. } = state.ends(&partition)?;
            let topic = state.topic(&partition.topic);
            Ok(Assigned {
                partitions: topic.map_or(0, |topic| topic.ends.len() as u32),
                committed: state.groups.offset(&self.member.group, &partition),
                low,
                high,
                partition,
            })
        })
    }

    /// Looks for something to hand over.
    fn find(&mut self, state: &mut State) -> Result<Found, Error> {
        self.usable(state)?;
        if let Some(told) = self.told(state)? {
            return Ok(Found::Told(told));
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        let count = self.positions.len();
        for turn in 0..count {
            let index = (self.next + turn) % count;
            let Some((partition, position)) = &mut self.positions[index] else {
                continue;
            };
            let Ends { low, high, .. } = state.ends(partition)?;
            if *position < low {
                return Err(Error::OutOfRange {
                    partition: partition.clone(),
                    offset: *position,
                    low,
                    high,
                });
            }
            if *position >= high || bytes >= POLL_BYTES_MAX {
                continue;
            }
            let before = found.len();
            for batch in state.tail(partition, *position) {
                bytes += batch.bytes();
                found.push((index, *position, batch.clone()));
                *position = batch.end();
                if bytes >= POLL_BYTES_MAX {
                    break;
                }
            }
            // What is on the disk alone is handed over by itself, when it is the first to be found.
            self.awaited = state.committed;
            if found.is_empty() {
                // The others come first the next time.
                self.next = index + 1;
                return Ok(Found::OnDisk(index, partition.clone(), *position));
            }
            if found.len() == before {
                self.next = index;
                return Ok(Found::Batches(found));
            }
        }
        self.next = self.next.wrapping_add(1);
        Ok(if found.is_empty() {
            Found::Nothing
        } else {
            Found::Batches(found)
        })
    }

    /// Waits for something to hand over.
    fn wait(&mut self, wait: Duration) -> Result<Found, Error> {
        let shared = Arc::clone(&self.shared);
        let mut found = self.find(&mut shared.lock());
        if !wait.is_zero() && matches!(found, Ok(Found::Nothing)) {
            let is_nothing = |state: &mut State| {
                found = self.find(state);
                matches!(found, Ok(Found::Nothing))
            };
            // What it found counts, whether in time or not.
            let _ = shared
                .changed
                .wait_timeout_while(shared.lock(), wait, is_nothing);
        }
        found
    }
}

impl Session for EmbeddedSession {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(usize, Record<'_>),
    ) -> Result<Polled, Error> {
        let mut records = 0;
        match self.wait(wait)? {
            Found::Nothing => {}
            Found::Told(told) => return Ok(told),
            Found::Batches(batches) => {
                for (index, from, batch) in batches {
                    batch.each(from, |record| {
                        each(index, record);
                        records += 1;
                        true
                    });
                }
            }
            Found::OnDisk(index, partition, from) => {
                let (store, place, high, is_compacted) = {
                    let state = self.shared.lock();
                    let (place, Ends { high, .. }) = state.place(&partition)?;
                    let is_compacted = state.is_compacted(&partition)?;
                    (state.store()?, place, high, is_compacted)
                };
                let mut position = from;
                let mut bytes = 0;
                let read = if is_compacted {
                    store.latest(place, from, high, |batch| {
                        batch.each(from, |record| {
                            each(index, record);
                            records += 1;
                            true
                        });
                        true
                    })
                } else {
                    store.batches(place, from, |batch| {
                        batch.each(from, |record| {
                            let is_seen = record.offset < high;
                            if is_seen {
                                position = record.offset + 1;
                                each(index, record);
                                records += 1;
                            }
                            is_seen
                        });
                        bytes += batch.bytes();
                        bytes < POLL_BYTES_MAX && position < high
                    })
                };
                let doing = format!("reading {partition}");
                self.shared.survived(self.epoch, &doing, read)?;
                // Of a compacted partition nothing is left behind what was read.
                let to = if is_compacted || records == 0 {
                    high
                } else {
                    position
                };
                if let Some(Some((_, position))) = self.positions.get_mut(index) {
                    *position = to;
                }
            }
        }
        Ok(Polled::Records(records))
    }

    fn start(&mut self, partitions: &[(usize, TopicPartition, u64)]) -> Result<(), Error> {
        for (index, partition, offset) in partitions {
            if self.positions.len() <= *index {
                self.positions.resize(*index + 1, None);
            }
            self.positions[*index] = Some((partition.clone(), *offset));
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for position in &mut self.positions {
            let is_given_back = position
                .as_ref()
                .is_some_and(|(of, _)| partitions.contains(of));
            if is_given_back {
                *position = None;
            }
        }
        let mut state = self.shared.lock();
        self.usable(&state)?;
        state.groups.release(&self.member, partitions);
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn resolve(&mut self, partition: &TopicPartition, start: Start) -> Result<u64, Error> {
        let (store, place, Ends { low, high, .. }) = {
            let state = self.shared.lock();
            let (place, ends) = state.place(partition)?;
            (state.store()?, place, ends)
        };
        Ok(match start {
            Start::Earliest => low,
            Start::Latest => high,
            Start::At(at_ms) => {
                let found = store.offset_at(place, at_ms);
                let found = self.shared.survived(
                    self.epoch,
                    &format!("finding a start in {partition}"),
                    found,
                )?;
                found.unwrap_or(high)
            }
        })
    }

    fn at_end(&mut self, index: usize) -> bool {
        self.lag(index) == 0
    }

    fn lag(&mut self, index: usize) -> u64 {
        let Some(Some((partition, position))) = self.positions.get(index) else {
            return 0;
        };
        let state = self.shared.lock();
        let high = state.ends(partition).map_or(0, |ends| ends.high);
        high.saturating_sub(*position)
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Error> {
        self.usable(&self.shared.lock())?;
        match self.shared.write(Some((&self.member, self.epoch)), commit) {
            Ok((_, number)) => {
                self.awaited = number;
                Ok(())
            }
            Err(error) => {
                self.is_broken = true;
                Err(error)
            }
        }
    }

    fn durable(&mut self, _wait: Duration) -> Result<bool, Error> {
        let durable = {
            let state = self.shared.lock();
            self.usable(&state)?;
            state.durable
        };
        if durable < self.awaited && self.shared.syncing == Syncing::Awaited {
            self.shared.sync(self.epoch, self.awaited)?;
            return Ok(true);
        }
        Ok(durable >= self.awaited)
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        let (store, place, to, is_compacted) = {
            let state = self.shared.lock();
            self.usable(&state)?;
            // What is restored may rest on an earlier life's commit that is not durable yet.
            self.awaited = state.committed;
            let (place, Ends { high, .. }) = state.place(partition)?;
            let is_compacted = state.is_compacted(partition)?;
            (state.store()?, place, to.min(high), is_compacted)
        };
        let read = if is_compacted {
            store.latest(place, from, to, |batch| {
                batch.each(from, |record| {
                    each(record);
                    true
                });
                true
            })
        } else {
            store.batches(place, from, |batch| {
                batch.each(from, |record| {
                    let is_wanted = record.offset < to;
                    if is_wanted {
                        each(record);
                    }
                    is_wanted
                });
                batch.end() < to
            })
        };
        self.shared
            .survived(self.epoch, &format!("reading {partition}"), read)
    }
}

impl Drop for EmbeddedSession {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.epoch == self.epoch {
            state.groups.close(&self.member);
            drop(state);
            self.shared.changed.notify_all();
        }
    }
}
