//! The parcel as a tracked life.

use fenghuo_signal::Parcel;

use super::life::{Life, Reader, Writer};

const SCANNED: u64 = 1;
const FROM_THE_START: u64 = 2;
const LABELLED: u64 = 4;
const PROMISED: u64 = 8;

impl Life for Parcel {
    const KIND: u32 = 1;

    fn closed_ms(&self) -> Option<i64> {
        (self.closed_ms != 0).then_some(self.closed_ms)
    }

    fn write(&self, to: &mut Writer<'_>) {
        // A closed parcel stays closed, whatever it was.
        if self.closed_ms != 0 {
            return;
        }
        for word in [&self.courier, &self.warehouse, &self.lane, &self.campaign] {
            to.word(word);
        }
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        to.number(
            flag(self.scanned, SCANNED)
                | flag(self.from_the_start, FROM_THE_START)
                | flag(self.labelled_ms != 0, LABELLED)
                | flag(self.promised_ms != 0, PROMISED),
        );
        if self.labelled_ms != 0 {
            to.time(self.labelled_ms);
        }
        if self.promised_ms != 0 {
            to.time(self.promised_ms);
        }
    }

    fn read(&mut self, closed_ms: Option<i64>, from: &mut Reader<'_>) -> Option<()> {
        self.closed_ms = closed_ms.unwrap_or(0);
        self.labelled_ms = 0;
        self.promised_ms = 0;
        self.scanned = false;
        self.from_the_start = false;
        for into in words(self) {
            into.clear();
        }
        if closed_ms.is_some() {
            return Some(());
        }
        for into in words(self) {
            into.push_str(from.word()?);
        }
        let flags = from.number()?;
        self.scanned = flags & SCANNED != 0;
        self.from_the_start = flags & FROM_THE_START != 0;
        if flags & LABELLED != 0 {
            self.labelled_ms = from.time()?;
        }
        if flags & PROMISED != 0 {
            self.promised_ms = from.time()?;
        }
        Some(())
    }
}

fn words(parcel: &mut Parcel) -> [&mut String; 4] {
    [
        &mut parcel.courier,
        &mut parcel.warehouse,
        &mut parcel.lane,
        &mut parcel.campaign,
    ]
}
