//! One reading of a file, from where it was left to where it ends now.
//!
//! Owns the way of each row (known, new, late, refused) and what is written of the file's progress.
//! It must never take a step that a crash could split: what a batch says is dealt with lies before
//! the place that the same batch remembers.

use std::sync::Arc;

use csv::ByteRecord;

use super::kept::{CHUNK_ROWS, Key, rows_bytes};
use super::known::{Id, IdMap};
use super::open::told;
use super::records::{Mark, RawRow, Records, fields, is_barren, trimmed};
use super::run::{Run, event, refusal_id, row_id};
use super::{Batch, Stat, Watcher};
use crate::rows::{Row, RowReader, broken};
use crate::{Encoding, Kind, Mapping, Origin, Rejected};

/// What one batch holds at most, give or take an order.
const BATCH_ITEMS_MAX: usize = 10_000;
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rows that one look passes over at most.
const LOOK_ROWS_MAX: usize = 100_000;
/// Bytes of a file that one look reads, give or take a row: other files have their turn then.
pub(super) const LOOK_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Rows refused between rows of one order, after which it is sent without waiting further.
const REFUSED_MAX: usize = 1_000;

/// How a stretch of reading ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The batch is full.
    More,
    /// There is nothing more to take now.
    Done,
    /// The file cannot be read further.
    Fault(String),
    /// Nor will it be, until it changes.
    Barren(String),
    /// No more rows can be remembered.
    Full,
}

/// A file being read.
pub(super) struct Pass {
    pub(super) name: Arc<str>,
    pub(super) number: u32,
    pub(super) stat: Stat,
    /// Whether the file has rested, so that all of it is taken.
    pub(super) is_final: bool,
    pub(super) mapping: Arc<Mapping>,
    pub(super) rows: RowReader,
    pub(super) records: Records,
    /// The encoding, if its bytes told it.
    pub(super) decided: Option<Encoding>,
    /// How many equal rows came so far, where the file is read anew.
    pub(super) seen: Option<IdMap<u32>>,
    /// Rows that belong together and have no end yet.
    pub(super) run: Option<Run>,
    /// Everything before it is dealt with.
    pub(super) safe: Mark,
    /// A row that was read already, and the place before it.
    pub(super) pending: Option<(Mark, RawRow)>,
    /// Offset and line of a last row that was taken without its end.
    pub(super) partial: Option<(u64, u64)>,
    record: ByteRecord,
    is_tail_new: bool,
}

impl Pass {
    pub(super) fn new(
        name: &str,
        number: u32,
        stat: Stat,
        is_final: bool,
        mapping: Arc<Mapping>,
        rows: RowReader,
        records: Records,
    ) -> Self {
        Self {
            name: Arc::from(name),
            number,
            stat,
            is_final,
            mapping,
            rows,
            safe: records.at().clone(),
            records,
            decided: None,
            seen: None,
            run: None,
            pending: None,
            partial: None,
            record: ByteRecord::new(),
            is_tail_new: false,
        }
    }
}

/// There is no room for another row.
pub(super) struct Full;

impl Watcher {
    /// Reads on until the batch is full or the file has nothing more.
    pub(super) fn advance(&mut self, pass: &mut Pass, batch: &mut Batch) -> End {
        let kept_max = BATCH_ITEMS_MAX / CHUNK_ROWS;
        let begun = pass.records.read_bytes();
        for _ in 0..LOOK_ROWS_MAX {
            let items = batch.messages.len() + batch.rejected.len();
            let is_full = items >= BATCH_ITEMS_MAX || batch.kept.len() > kept_max;
            let is_turn_over = pass.records.read_bytes() - begun >= LOOK_BYTES_MAX;
            if is_full || is_turn_over || batch.bytes >= BATCH_BYTES_MAX {
                return End::More;
            }
            let next = match pass.pending.take() {
                Some(next) => Ok(Some(next)),
                None => {
                    let before = pass.records.at().clone();
                    let row = pass.records.next(pass.is_final);
                    row.map(|row| row.map(|row| (before, row)))
                }
            };
            let (before, row) = match next {
                Ok(Some(next)) => next,
                Ok(None) => return self.end(pass, batch),
                Err(error) if is_barren(&error) => {
                    return End::Barren(format!("is left: {error}"));
                }
                Err(error) => return End::Fault(told(&error)),
            };
            if !row.is_ended {
                pass.partial = Some((before.offset, before.line));
            }
            if self.take(pass, &before, row, batch).is_err() {
                return End::Full;
            }
            if pass.run.is_none() {
                pass.safe = pass.records.at().clone();
            }
        }
        End::More
    }

    /// There is nothing more to read. What has no end yet is taken if the file has rested, else it
    /// is read again next time.
    fn end(&mut self, pass: &mut Pass, batch: &mut Batch) -> End {
        if !pass.is_final {
            return End::Done;
        }
        if self.close(pass, batch).is_err() {
            return End::Full;
        }
        pass.safe = pass.records.at().clone();
        End::Done
    }

    fn take(
        &mut self,
        pass: &mut Pass,
        before: &Mark,
        raw: RawRow,
        batch: &mut Batch,
    ) -> Result<(), Full> {
        let origin = Origin {
            file: Arc::clone(&pass.name),
            line: raw.line,
        };
        if let Some(fault) = raw.fault {
            fields(&raw.bytes, &mut pass.record);
            let rejected = broken(origin, fault, &pass.record, raw.bytes.len());
            return self.refuse(pass, rejected, &raw.bytes, batch);
        }
        fields(&raw.bytes, &mut pass.record);
        let bytes = trimmed(&raw.bytes);
        let row = match pass.rows.read(&pass.record) {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(()),
            Err(reason) => return self.refuse_row(pass, origin, reason, bytes, batch),
        };
        let id = match pass.rows.id(&pass.record) {
            Ok(columns) => row_id(&pass.mapping, row.event_type, &columns),
            Err(reason) => return self.refuse_row(pass, origin, reason, bytes, batch),
        };
        match pass.mapping.kind {
            Kind::Orders => self.line(pass, before, (id, row), origin, bytes, batch),
            Kind::Inventory | Kind::Couriers => self.single(pass, (id, row), origin, batch),
        }
    }

    /// A row that is an event by itself.
    fn single(
        &mut self,
        pass: &mut Pass,
        (id, row): (Id, Row),
        origin: Origin,
        batch: &mut Batch,
    ) -> Result<(), Full> {
        let number = self.dealt(pass, &id) + 1;
        let is_new = number > self.known.count(&id);
        self.deal(pass, id, number, batch)?;
        if is_new {
            batch.push(event(
                &pass.mapping,
                &id,
                number,
                row.at_ms,
                row.body,
                origin,
            ));
        }
        Ok(())
    }

    /// A line of an order.
    fn line(
        &mut self,
        pass: &mut Pass,
        before: &Mark,
        (id, row): (Id, Row),
        origin: Origin,
        bytes: &[u8],
        batch: &mut Batch,
    ) -> Result<(), Full> {
        if pass.run.as_ref().is_none_or(|run| run.id != id) {
            self.close(pass, batch)?;
            pass.safe = before.clone();
            let dealt = self.dealt(pass, &id);
            pass.run = Some(Run::new(id, dealt, self.known.count(&id)));
        }
        let is_late = match &mut pass.run {
            Some(run) => run.add(row, &origin),
            None => None,
        };
        match is_late {
            None => Ok(()),
            // It is counted as a row of its order, which is what it is known by.
            Some(reason) => {
                let row = &pass.record;
                let rejected = pass.rows.refused(origin, reason, row, bytes.len());
                self.keep_refused(pass, None, rejected, batch)
            }
        }
    }

    /// Rejects the row that was read last.
    fn refuse_row(
        &mut self,
        pass: &mut Pass,
        origin: Origin,
        reason: String,
        bytes: &[u8],
        batch: &mut Batch,
    ) -> Result<(), Full> {
        let row = &pass.record;
        let rejected = pass.rows.refused(origin, reason, row, bytes.len());
        self.refuse(pass, rejected, bytes, batch)
    }

    /// Rejects a row of these bytes, unless the same row was rejected before.
    fn refuse(
        &mut self,
        pass: &mut Pass,
        rejected: Rejected,
        bytes: &[u8],
        batch: &mut Batch,
    ) -> Result<(), Full> {
        let id = refusal_id(&pass.mapping, bytes);
        self.keep_refused(pass, Some(id), rejected, batch)
    }

    /// A refused row stands behind the rows of an order that has no end yet, and is told with it.
    fn keep_refused(
        &mut self,
        pass: &mut Pass,
        id: Option<Id>,
        rejected: Rejected,
        batch: &mut Batch,
    ) -> Result<(), Full> {
        match &mut pass.run {
            Some(run) => {
                run.refused.push((id, rejected));
                match run.refused.len() >= REFUSED_MAX {
                    true => self.close(pass, batch),
                    false => Ok(()),
                }
            }
            None => self.tell_refused(pass, id, rejected, batch),
        }
    }

    fn tell_refused(
        &mut self,
        pass: &mut Pass,
        id: Option<Id>,
        rejected: Rejected,
        batch: &mut Batch,
    ) -> Result<(), Full> {
        if let Some(id) = id {
            let number = self.dealt(pass, &id) + 1;
            let is_new = number > self.known.count(&id);
            self.deal(pass, id, number, batch)?;
            if !is_new {
                return Ok(());
            }
        }
        batch.push(Err(rejected));
        Ok(())
    }

    /// Ends the rows that belong together: what is new is sent, and all are dealt with.
    fn close(&mut self, pass: &mut Pass, batch: &mut Batch) -> Result<(), Full> {
        let Some(run) = pass.run.take() else {
            return Ok(());
        };
        // Nothing of it may be told if not all of it can be remembered.
        if self.room() < 1 + run.refused.len() {
            pass.run = Some(run);
            return Err(Full);
        }
        // Another file may have had the same order in its own turns meanwhile.
        let sent = self.known.count(&run.id);
        let is_overtaken = run.is_overtaken(sent);
        self.deal(pass, run.id, run.dealt, batch)?;
        if let Some(open) = run.open {
            if is_overtaken {
                if run.dealt > sent {
                    let rejected = open.overtaken(sent);
                    self.tell_refused(pass, None, rejected, batch)?;
                }
                return self.tell_all(pass, run.refused, batch);
            }
            let body = fenghuo_event::pb::event::Body::Order(open.order);
            let item = event(&pass.mapping, &run.id, 1, open.at_ms, body, open.origin);
            batch.push(item);
        }
        self.tell_all(pass, run.refused, batch)
    }

    fn tell_all(
        &mut self,
        pass: &mut Pass,
        refused: Vec<(Option<Id>, Rejected)>,
        batch: &mut Batch,
    ) -> Result<(), Full> {
        for (id, rejected) in refused {
            self.tell_refused(pass, id, rejected, batch)?;
        }
        Ok(())
    }

    /// How many equal rows of this file were dealt with.
    fn dealt(&self, pass: &Pass, id: &Id) -> u32 {
        match &pass.seen {
            Some(seen) => seen.get(id).copied().unwrap_or(0),
            None => self.known.of(id, pass.number),
        }
    }

    fn room(&self) -> usize {
        self.settings.rows_max.saturating_sub(self.known.entries())
    }

    /// Notes that so many equal rows of a file were dealt with.
    fn deal(&mut self, pass: &mut Pass, id: Id, count: u32, batch: &mut Batch) -> Result<(), Full> {
        let before = self.known.of(&id, pass.number);
        if before == 0 && self.room() == 0 {
            return Err(Full);
        }
        if let Some(seen) = &mut pass.seen {
            seen.insert(id, count);
        }
        let Some(file) = self.files.get_mut(&pass.number) else {
            return Ok(());
        };
        if count > before {
            self.known.set(id, pass.number, count);
            file.tail.push((id, count));
            pass.is_tail_new = true;
        }
        if file.tail.len() == CHUNK_ROWS {
            let key = Key::Rows(pass.number, file.head.chunks);
            batch.kept.push(key.with(Some(rows_bytes(&file.tail))));
            file.head.chunks += 1;
            file.tail.clear();
            pass.is_tail_new = false;
        }
        Ok(())
    }

    /// Writes how far a file was read, and its last rows.
    pub(super) fn write(&mut self, pass: &mut Pass, batch: &mut Batch, is_whole: bool) {
        if is_whole && pass.seen.is_some() {
            self.renew(pass, batch);
        }
        let Some(file) = self.files.get_mut(&pass.number) else {
            return;
        };
        if pass.is_tail_new {
            let key = Key::Rows(pass.number, file.head.chunks);
            batch.kept.push(key.with(Some(rows_bytes(&file.tail))));
            pass.is_tail_new = false;
        }
        let mut head = file.head.clone();
        head.mapping = pass.mapping.digest;
        head.encoding = pass.decided;
        let safe = &pass.safe;
        (head.resume, head.line) = match (&pass.seen, pass.partial) {
            // A file that is read anew is read from its beginning until it was read whole.
            (Some(_), _) => (0, 0),
            (None, Some((offset, line))) if offset < safe.offset => (offset, line),
            (None, _) => (safe.offset, safe.line),
        };
        head.covered = safe.offset.max(head.resume);
        head.fingerprint = safe.fingerprint();
        if pass.seen.is_some() {
            head.covered = 0;
            head.fingerprint = [0; 16];
        }
        // A chunk that was filled has changed the head already.
        if head != file.head || !batch.kept.is_empty() {
            batch
                .kept
                .push(Key::Head(pass.number).with(Some(head.bytes())));
            file.head = head;
        }
    }

    /// A file was read anew and to its end: it has the rows that were seen, and no others.
    fn renew(&mut self, pass: &mut Pass, batch: &mut Batch) {
        let Some(seen) = pass.seen.take() else {
            return;
        };
        for id in self.known.ids_of(pass.number) {
            if !seen.contains_key(&id) {
                self.known.set(id, pass.number, 0);
            }
        }
        let mut rows: Vec<(Id, u32)> = seen.into_iter().collect();
        rows.sort_unstable();
        for (id, count) in &rows {
            self.known.set(*id, pass.number, *count);
        }
        let Some(file) = self.files.get_mut(&pass.number) else {
            return;
        };
        let before = file.head.chunks + u32::from(!file.tail.is_empty());
        let (full, tail) = rows.as_chunks::<CHUNK_ROWS>();
        file.head.chunks = full.len() as u32;
        file.tail = tail.to_vec();
        pass.is_tail_new = !tail.is_empty();
        for (chunk, rows) in (0..).zip(full) {
            let key = Key::Rows(pass.number, chunk);
            batch.kept.push(key.with(Some(rows_bytes(rows))));
        }
        let after = file.head.chunks + u32::from(pass.is_tail_new);
        for chunk in after..before {
            batch.kept.push(Key::Rows(pass.number, chunk).with(None));
        }
    }
}
