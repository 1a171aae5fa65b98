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

impl From<Placed> for Landed {
    fn from(placed: Placed) -> Self {
        // What was delivered has a place, and no place is negative.
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let partition = u32::try_from(placed.partition).unwrap_or(0);
        Self {
            partition: TopicPartition::new(placed.topic, partition),
            first: number(placed.first),
            records: number(placed.records),
        }
    }
}

/// One that brings records. A second one under the same name fences the first, and what that one
/// left open is taken back.
pub struct Import {
    config: Arc<KafkaConfig>,
    transactions: Transactions,
}

impl Import {
    pub(crate) fn open(config: &Arc<KafkaConfig>, name: &str) -> Result<Self, Error> {
        Ok(Self {
            config: Arc::clone(config),
            transactions: Transactions::with_context(config, name, name, Context::placing())?,
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
            let landed = transactions.take_placed();
            let note = note(landed.into_iter().map(Landed::from).collect())?;
            transactions.append(&note)?;
            transactions.drain()
        })
    }

    /// Appends a note and lets groups without members stand at these offsets, in one transaction.
    ///
    /// # Errors
    /// When the brokers refuse, among other things since a group has members.
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
