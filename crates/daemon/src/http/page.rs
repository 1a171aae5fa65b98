//! Answers with rows: a page of them, bounded by count and by bytes, and the way to the next one.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use serde_json::Value;

use super::door::Seat;

/// Bytes of an answer's rows; what would go beyond is on the next page.
pub(super) const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that are handed over to a connection at a time: what is not read stays ours to count.
const PIECE_BYTES: usize = 64 * 1024;

/// A growing answer.
pub(super) struct Page {
    text: Vec<u8>,
    rows: usize,
}

impl Page {
    /// An object whose first field is a list.
    pub(super) fn of(rows: &str) -> Self {
        Self {
            text: format!("{{{}:[", Value::from(rows)).into_bytes(),
            rows: 0,
        }
    }

    /// Adds a row; false where it has no room, and then it is not there. The first one always has.
    pub(super) fn push(&mut self, row: &impl Serialize) -> bool {
        let before = self.text.len();
        if self.rows > 0 {
            self.text.push(b',');
        }
        // Rows are made of texts and numbers: they always have a JSON form.
        let is_written = serde_json::to_writer(&mut self.text, row).is_ok();
        if !is_written || (self.rows > 0 && self.text.len() > PAGE_BYTES_MAX) {
            self.text.truncate(before);
            return false;
        }
        self.rows += 1;
        true
    }

    /// Adds rows while there is room: up to `limit`, and says where the last one stands if more are
    /// left. What is given is one row more than the limit, where there is one.
    pub(super) fn fill<T, R: Serialize>(
        &mut self,
        limit: usize,
        from: Vec<T>,
        place: impl Fn(&T) -> String,
        row: impl Fn(T) -> R,
    ) -> Option<String> {
        let mut last = None;
        for (at, one) in from.into_iter().enumerate() {
            let here = place(&one);
            if at == limit || !self.push(&row(one)) {
                return last;
            }
            last = Some(here);
        }
        None
    }

    /// The whole answer, with its other fields.
    pub(super) fn finish(self, fields: &[(&str, Value)]) -> Vec<u8> {
        let mut text = self.text;
        text.push(b']');
        for (name, value) in fields {
            text.extend_from_slice(format!(",{}:{value}", Value::from(*name)).as_bytes());
        }
        text.push(b'}');
        text
    }
}

/// A body that is handed over piece by piece.
pub(super) struct Pieces(pub(super) Bytes);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = self.0.len().min(PIECE_BYTES);
        let piece = self.0.split_to(bytes);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// A body that holds its request's seat until it is handed over.
pub(super) struct Seated {
    pub(super) body: Body,
    pub(super) _seat: Seat,
}

impl HttpBody for Seated {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: Page, next: Option<String>) -> String {
        String::from_utf8(page.finish(&[("next", next.into()), ("count", 7.into())])).unwrap()
    }

    #[test]
    fn a_page_ends_at_its_limit_and_says_where_it_goes_on() {
        let mut page = Page::of("rows");
        let next = page.fill(2, vec![1, 2, 3], |row| format!("after {row}"), |row| row);
        assert_eq!(
            text(page, next),
            r#"{"rows":[1,2],"next":"after 2","count":7}"#
        );
        let mut page = Page::of("rows");
        let next = page.fill(2, vec![1, 2], |row| row.to_string(), |row| row);
        assert_eq!(text(page, next), r#"{"rows":[1,2],"next":null,"count":7}"#);
        let mut page = Page::of("rows");
        let next = page.fill(2, Vec::<u8>::new(), |row| row.to_string(), |row| row);
        assert_eq!(text(page, next), r#"{"rows":[],"next":null,"count":7}"#);
    }

    #[test]
    fn a_page_of_large_rows_ends_at_its_bytes() {
        let large = "x".repeat(PAGE_BYTES_MAX / 3);
        let mut page = Page::of("rows");
        let rows = vec![1, 2, 3, 4, 5];
        let next = page.fill(100, rows, |row| row.to_string(), |_| large.clone());
        assert_eq!(next.as_deref(), Some("2"));
        assert!(text(page, next).len() < PAGE_BYTES_MAX + 100);
        // One that is larger than a page is a page.
        let huge = "x".repeat(PAGE_BYTES_MAX + 1);
        assert!(Page::of("rows").push(&huge));
    }
}
