//! Groups and their members within one process, for logs that no broker keeps.
//!
//! Owns who holds which partition, where each group stands, and which life of a member is the
//! last one. It keeps no record, and nothing on disk: where a group stands is told to it again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{Assigned, Error, Polled, SessionSpec, TopicPartition};

/// Who a session is: one life of a member of a group.
#[derive(Clone, Debug)]
pub struct Place {
    /// The group.
    pub group: String,
    /// The member's name.
    pub member: String,
    topics: BTreeSet<String>,
    life: u64,
}

/// What a member has to do before it reads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Nothing,
    /// The group had given it up, and it has joined anew: what it read is void.
    Rejoined,
    /// It has to give these back.
    Revoked(Vec<TopicPartition>),
    /// These are its own from now on.
    Given(Vec<TopicPartition>),
}

impl Turn {
    /// The same as a poll tells it, to a member that reads the partitions `held`.
    pub fn polled<'a>(
        self,
        held: impl Iterator<Item = &'a TopicPartition>,
        assigned: impl FnMut(TopicPartition) -> Result<Assigned, Error>,
    ) -> Result<Option<Polled>, Error> {
        Ok(match self {
            Turn::Nothing => None,
            Turn::Revoked(revoked) => Some(Polled::Revoked(revoked)),
            Turn::Rejoined => {
                let lost: Vec<_> = held.cloned().collect();
                (!lost.is_empty()).then_some(Polled::Lost(lost))
            }
            Turn::Given(given) => {
                let assigned: Result<_, Error> = given.into_iter().map(assigned).collect();
                Some(Polled::Assigned(assigned?))
            }
        })
    }
}

#[derive(Default)]
struct Member {
    topics: BTreeSet<String>,
    owned: BTreeSet<TopicPartition>,
    target: BTreeSet<TopicPartition>,
    /// It owns what it is to own, so until the group shares anew it has nothing to do.
    is_settled: bool,
}

#[derive(Default)]
struct Group {
    offsets: BTreeMap<TopicPartition, u64>,
    members: BTreeMap<String, Member>,
}

impl Group {
    /// Shares the partitions of each topic among the members that read it, in turn.
    fn share(&mut self, topics: &BTreeMap<String, u32>) {
        for member in self.members.values_mut() {
            member.target.clear();
            member.is_settled = false;
        }
        for (topic, partitions) in topics {
            let readers = self.members.values_mut();
            let mut readers: Vec<&mut Member> =
                readers.filter(|m| m.topics.contains(topic)).collect();
            let count = readers.len();
            for partition in 0..*partitions {
                if let Some(reader) = readers.get_mut(partition as usize % count.max(1)) {
                    let partition = TopicPartition::new(topic.as_str(), partition);
                    reader.target.insert(partition);
                }
            }
        }
    }
}

/// The groups of a log.
#[derive(Default)]
pub struct Groups {
    topics: BTreeMap<String, u32>,
    groups: BTreeMap<String, Group>,
    /// The life of each member: a session of an earlier life is fenced.
    lives: HashMap<String, u64>,
}

impl Groups {
    /// A topic is there from now on.
    pub fn add_topic(&mut self, name: &str, partitions: u32) {
        self.topics.insert(name.to_owned(), partitions);
        for group in self.groups.values_mut() {
            group.share(&self.topics);
        }
    }

    /// A new life of a member, which fences the one before.
    pub fn open(&mut self, spec: &SessionSpec) -> Result<Place, Error> {
        if let Some(missing) = spec.topics.iter().find(|t| !self.topics.contains_key(*t)) {
            return Err(Error::Fatal(format!("there is no topic {missing}")));
        }
        let life = self.lives.entry(spec.member.clone()).or_default();
        *life += 1;
        let place = Place {
            group: spec.group.clone(),
            member: spec.member.clone(),
            topics: spec.topics.iter().cloned().collect(),
            life: *life,
        };
        self.join(&place);
        Ok(place)
    }

    fn join(&mut self, place: &Place) {
        let group = self.groups.entry(place.group.clone()).or_default();
        let member = Member {
            topics: place.topics.clone(),
            ..Member::default()
        };
        group.members.insert(place.member.clone(), member);
        group.share(&self.topics);
    }

    /// A session ends.
    pub fn close(&mut self, place: &Place) {
        if self.check(place).is_ok() {
            self.leave(&place.group, &place.member);
        }
    }

    fn leave(&mut self, group: &str, member: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            group.members.remove(member);
            group.share(&self.topics);
        }
    }

    /// The groups have waited long enough for a member that says nothing: its partitions go to
    /// others. If it lives, it learns of it at its next [turn](Self::turn), and joins anew.
    pub fn expel(&mut self, member: &str) {
        for group in self.groups.values_mut() {
            if group.members.remove(member).is_some() {
                group.share(&self.topics);
            }
        }
    }

    /// The sessions of a member can do nothing more; its groups keep its place.
    pub fn fence(&mut self, member: &str) {
        if let Some(life) = self.lives.get_mut(member) {
            *life += 1;
        }
    }

    /// Every session ends.
    pub fn end_all(&mut self) {
        for life in self.lives.values_mut() {
            *life += 1;
        }
        for group in self.groups.values_mut() {
            group.members.clear();
        }
    }

    /// Fails where a later life has taken over the name.
    pub fn check(&self, place: &Place) -> Result<(), Error> {
        if self.lives.get(&place.member) == Some(&place.life) {
            Ok(())
        } else {
            Err(Error::Fenced {
                member: place.member.clone(),
            })
        }
    }

    /// What a member has to do now. A partition is given only once nobody else holds it.
    pub fn turn(&mut self, place: &Place) -> Turn {
        let group = self.groups.get_mut(&place.group);
        let Some(group) = group.filter(|group| group.members.contains_key(&place.member)) else {
            self.join(place);
            return Turn::Rejoined;
        };
        let member = &group.members[&place.member];
        if member.is_settled {
            return Turn::Nothing;
        }
        let revoked: Vec<_> = member.owned.difference(&member.target).cloned().collect();
        if !revoked.is_empty() {
            return Turn::Revoked(revoked);
        }
        let members = group.members.values();
        let taken: BTreeSet<_> = members.flat_map(|other| &other.owned).collect();
        let free = member.target.iter().filter(|one| !taken.contains(one));
        let free: Vec<_> = free.cloned().collect();
        if let Some(member) = group.members.get_mut(&place.member) {
            member.owned.extend(free.iter().cloned());
            member.is_settled = member.owned == member.target;
        }
        if free.is_empty() {
            return Turn::Nothing;
        }
        Turn::Given(free)
    }

    /// A member gives partitions back.
    pub fn release(&mut self, place: &Place, partitions: &[TopicPartition]) {
        let group = self.groups.get_mut(&place.group);
        if let Some(member) = group.and_then(|group| group.members.get_mut(&place.member)) {
            member.owned.retain(|owned| !partitions.contains(owned));
            member.is_settled = false;
        }
    }

    /// Fails where a session may not commit these offsets: it is fenced, or a partition is not
    /// its own.
    pub fn may_commit(
        &self,
        place: &Place,
        offsets: &[(TopicPartition, u64)],
    ) -> Result<(), Error> {
        self.check(place)?;
        let group = self.groups.get(&place.group);
        let member = group.and_then(|group| group.members.get(&place.member));
        let owns = |partition: &TopicPartition| member.is_some_and(|m| m.owned.contains(partition));
        match offsets.iter().find(|(partition, _)| !owns(partition)) {
            None => Ok(()),
            Some((partition, _)) => Err(Error::Retriable {
                doing: format!("committing an offset of {partition}"),
                source: "the partition belongs to another member".into(),
            }),
        }
    }

    /// Where a group stands in a partition, if it ever committed.
    pub fn offset(&self, group: &str, of: &TopicPartition) -> Option<u64> {
        let group = self.groups.get(group)?;
        group.offsets.get(of).copied()
    }

    /// Where a group stands.
    pub fn offsets(&self, group: &str) -> BTreeMap<TopicPartition, u64> {
        let group = self.groups.get(group);
        group.map(|group| group.offsets.clone()).unwrap_or_default()
    }

    /// The groups that stand somewhere.
    pub fn names(&self) -> Vec<String> {
        let groups = self.groups.iter();
        let stand = groups.filter(|(_, group)| !group.offsets.is_empty());
        stand.map(|(name, _)| name.clone()).collect()
    }

    /// A group stands here from now on; `None` = it never committed.
    pub fn set_offset(&mut self, group: &str, of: TopicPartition, offset: Option<u64>) {
        let group = match self.groups.get_mut(group) {
            Some(group) => group,
            None => self.groups.entry(group.to_owned()).or_default(),
        };
        match (offset, group.offsets.get_mut(&of)) {
            (Some(offset), Some(kept)) => *kept = offset,
            (Some(offset), None) => drop(group.offsets.insert(of, offset)),
            (None, _) => drop(group.offsets.remove(&of)),
        }
    }

    /// The offset before which every group that reads a partition has committed all; `None` where
    /// no group reads it.
    pub fn committed_by_all(&self, of: &TopicPartition) -> Option<u64> {
        let reads = |group: &&Group| {
            let mut members = group.members.values();
            group.offsets.contains_key(of) || members.any(|m| m.topics.contains(&*of.topic))
        };
        let groups = self.groups.values().filter(reads);
        groups
            .map(|group| group.offsets.get(of).copied().unwrap_or(0))
            .min()
    }
}
