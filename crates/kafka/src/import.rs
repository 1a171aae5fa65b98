//! Brings records of another log, and tells where they came to lie.
//!
//! What is brought and what is noted about it land in one transaction, so that whoever was cut off
//! knows how far it came. It must never send what it was not given, or in another order.

use std::sync::Arc;

use fenghuo_log::{Append, Error, TopicPartition, Whole};

use crate::config::{KafkaConfig, Pace};
use crate::context::{Context, Placed};
use crate::producer::Transactions;
use crate::session::connect;

/// Records that lie one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Their partition.
    pub partition: TopicPartition,
    /// Offset of the first one.
    pub first: u64,
    /// How many there are.
    pub records: u64,
}

impl TryFrom<Placed> for Landed {
    type Error = Error;

    fn try_from(placed: Placed) -> Result<Self, Error> {
        let Placed {
            topic,
            partition,
            first,
            records,
        } = placed;
        // A batch that was sent twice is there, and the brokers do not say where.
        let untold = || Error::Retriable {
            doing: format!("bringing records to {topic}/{partition}"),
            source: "nobody told where they are".into(),
        };
        let first = u64::try_from(first).map_err(|_| untold())?;
        let records = u64::try_from(records).map_err(|_| untold())?;
        let number = u32::try_from(partition).map_err(|_| untold())?;
        Ok(Self {
            partition: TopicPartition::new(topic, number),
            first,
            records,
        })
    }
}

/// One that brings records. A second one under the same name fences the first, and what that one
/// left open is taken back.
pub struct Import {
    config: Arc<KafkaConfig>,
    transactions: Transactions,
}

impl Import {
    pub(crate) fn open(
        config: &Arc<KafkaConfig>,
        group: &str,
        member: &str,
    ) -> Result<Self, Error> {
        Ok(Self {
            config: Arc::clone(config),
            transactions: Transactions::with_context(config, group, member, Context::placing())?,
        })
    }

    /// Appends records and a note about where they came to lie, in one transaction.
    ///
    /// # Errors
    /// When the brokers refuse, or `note` does: then nothing landed, or, where the brokers were
    /// lost while they committed, all of it. The next one that opens under this name finds out.
    pub fn commit(
        &self,
        records: &[(TopicPartition, Whole)],
        note: impl FnOnce(Vec<Landed>) -> Result<Append, Error>,
    ) -> Result<(), Error> {
        let transactions = &self.transactions;
        transactions.take_placed();
        transactions.transact(|| {
            for (to, record) in records {
                transactions.send(to, record)?;
            }
            transactions.drain()?;
            let landed = transactions.take_placed().into_iter();
            let note = note(landed.map(Landed::try_from).collect::<Result<_, _>>()?)?;
            transactions.append(&note)?;
            transactions.drain()
        })
    }

    /// Appends a note and lets groups stand at these offsets, in one transaction. They must have no
    /// members: the brokers do not look.
    ///
    /// # Errors
    /// When the brokers refuse.
    pub fn finish(
        &self,
        note: &Append,
        groups: &[(String, Vec<(TopicPartition, u64)>)],
    ) -> Result<(), Error> {
        let transactions = &self.transactions;
        transactions.transact(|| {
            for (group, offsets) in groups {
                let consumer = connect(&self.config, group, Pace::Restore)?;
                transactions.send_offsets(offsets, &consumer)?;
            }
            transactions.append(note)?;
            transactions.drain()
        })
    }
}
